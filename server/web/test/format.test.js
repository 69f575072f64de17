import assert from "node:assert/strict";
import { test } from "node:test";
import { clock, compact, costOf, duration, int, oneLine, parseTime, plural, pretty, shortName, timeParser, tokenSum, tokenTitle, usd, usdExact } from "../js/format.js";

test("duration", () => {
  for (const [ms, want] of [
    [null, "–"], [undefined, "–"], [NaN, "–"], [0, "0 ms"], [0.00005, "50 ns"], [0.05, "50 µs"], [0.42, "0.42 ms"], [12.34, "12.3 ms"], [99.96, "100 ms"], [999.4, "999 ms"], [999.9, "1.00 s"],
    [9994, "9.99 s"], [9996, "10.0 s"], [18420, "18.4 s"], [59996, "1 m 00 s"], [184000, "3 m 04 s"], [3599600, "1 h 00 m"], [7500000, "2 h 05 m"], [86400000 * 3.5, "3 d 12 h"], [-5, "-5 ms"],
  ]) assert.equal(duration(ms), want, String(ms));
});

test("usd", () => {
  for (const [n, want] of [[null, "–"], [0, "$0"], [12.5, "$12.50"], [1234.567, "$1,234.57"], [0.5, "$0.5000"], [0.014091, "$0.01409"], [0.0001025, "$0.0001025"], [1e-9, "$0.000000001"], [-0.5, "-$0.5000"]]) assert.equal(usd(n), want);
  assert.equal(usdExact(0.1 + 0.2), "$0.3");
});

test("cost: missing is not zero", () => {
  assert.deepEqual(costOf(0, 0, 0), { text: "–", why: "no model calls", known: false });
  assert.equal(costOf(null, 0, 2).text, "unknown");
  assert.equal(costOf(0, 2, 2).text, "unknown");
  assert.equal(costOf(0.5, 1, 3).text, "≥ $0.5000");
  assert.equal(costOf(0, 0, 3).text, "$0"); // priced, and free
});

test("counts", () => {
  for (const [n, want] of [[null, "–"], [0, "0"], [950, "950"], [9999, "9,999"], [12400, "12.4k"], [614000, "614k"], [999960, "1M"], [3100000, "3.1M"], [2.5e9, "2.5B"]]) assert.equal(compact(n), want, String(n));
  assert.equal(int(1234567), "1,234,567");
  assert.equal(plural(1, "call"), "1 call");
  assert.equal(plural(2, "entry", "entries"), "2 entries");
  const t = { input: 1, cache_read: 2, cache_write: 0, output: 3, reasoning: 4 };
  assert.equal(tokenSum(t), 10);
  assert.equal(tokenTitle(t), "input 1, cache read 2, output 3, reasoning 4");
});

test("parseTime keeps what Date drops", () => {
  assert.equal(parseTime("2026-11-22T10:00:00Z"), Date.UTC(2026, 10, 22, 10));
  assert.ok(Math.abs(parseTime("2026-11-22T10:00:00.123456789Z") - (Date.UTC(2026, 10, 22, 10) + 123.456789)) < 0.001);
  assert.ok(Number.isNaN(parseTime("")) && Number.isNaN(parseTime(null)) && Number.isNaN(parseTime("soon")));
});

test("timeParser agrees with parseTime", () => {
  const parse = timeParser();
  for (const t of ["2026-11-22T10:00:00Z", "2026-11-22T10:00:59.5Z", "2026-11-22T10:01:01.123456789Z", "2026-11-22T10:00:02.25Z", "2024-02-29T23:59:59.999Z", "2026-11-22T10:00:00+02:00", "", null, "soon", "not a time at all, Z"]) {
    const [got, want] = [parse(t), parseTime(t)];
    assert.ok(Number.isNaN(want) ? Number.isNaN(got) : Math.abs(got - want) < 0.001, `${t}: ${got}, want ${want}`);
  }
});

test("clock", () => {
  const now = new Date(2026, 10, 22, 12);
  assert.equal(clock(new Date(2026, 10, 22, 9, 5, 3, 7).toISOString(), { now, ms: true }), "09:05:03.007");
  assert.equal(clock(new Date(2026, 0, 2, 9, 5, 3).toISOString(), { now }), "01-02 09:05:03");
  assert.equal(clock(new Date(2025, 0, 2, 9, 5, 3).toISOString(), { now }), "2025-01-02 09:05:03");
  assert.equal(clock(null), "–");
});

test("values as text", () => {
  assert.equal(pretty('{"a":1}'), '{\n  "a": 1\n}');
  assert.equal(pretty("{no json}"), "{no json}");
  assert.equal(pretty(undefined), "–");
  assert.equal(oneLine(" a\n  b "), "a b");
  assert.equal(oneLine("x".repeat(9), 4), "xxxx…");
  assert.equal(shortName("execute_tool search", "tool"), "search");
  assert.equal(shortName("chat ", "model"), "chat ");
  assert.equal(shortName("execute_tool search", "model"), "execute_tool search");
});
