import assert from "node:assert/strict";
import { test } from "node:test";
import { agentOf, buildTree, costliest, isErrorSource, ticks, visibleRows } from "../js/tree.js";
import { span } from "./spans.js";

const names = (nodes) => nodes.map((n) => n.span.name);

test("parents before children, children by start", () => {
  const t = buildTree([span("c", "a", 30, 5), span("a", "", 0, 100), span("b", "a", 10, 50), span("d", "b", 20, 5)]);
  assert.deepEqual(names(t.nodes), ["a", "b", "d", "c"]);
  assert.deepEqual(t.nodes.map((n) => n.depth), [0, 1, 2, 1]);
  assert.equal(t.end - t.start, 100);
  assert.equal(t.orphans, 0);
});

test("a span whose parent has not arrived is a root and says so", () => {
  const t = buildTree([span("a", "", 0, 10), span("x", "gone", 5, 2)]);
  assert.deepEqual(names(t.roots), ["a", "x"]);
  assert.equal(t.orphans, 1);
});

test("spans that name each other as parents are all shown once", () => {
  for (const list of [[span("a", "b", 0, 1), span("b", "a", 1, 1)], [span("a", "a", 0, 1)], [span("r", "", 0, 9), span("a", "c", 1, 1), span("b", "a", 2, 1), span("c", "b", 3, 1)]]) {
    const t = buildTree(list);
    assert.deepEqual(names(t.nodes).sort(), list.map((s) => s.name).sort());
    for (const n of t.nodes) assert.ok(n.depth < list.length);
  }
});

test("10,000 levels deep needs no recursion", () => {
  const list = Array.from({ length: 10000 }, (_, i) => span("s" + i, i ? "s" + (i - 1) : "", i, 1));
  const t = buildTree(list);
  assert.equal(t.nodes.length, 10000);
  assert.equal(t.nodes.at(-1).depth, 9999);
  assert.equal(t.roots[0].sum.spans, 10000);
});

test("sums: leaves only, a call seen twice counts once, unknown stays unknown", () => {
  const usage = { input: 10, cache_read: 0, cache_write: 0, output: 2, reasoning: 0 };
  const t = buildTree([
    span("run", "", 0, 100, { kind: "run", tokens: { ...usage, input: 999 } }),
    span("outer", "run", 1, 50, { kind: "model", tokens: usage, cost_usd: 1 }),
    span("inner", "outer", 2, 40, { kind: "model", tokens: usage, cost_usd: 1 }),
    span("free", "run", 60, 10, { kind: "model", tokens: usage }),
    span("tool", "run", 75, 5, { kind: "tool", status: "error" }),
  ]);
  const s = t.roots[0].sum;
  assert.deepEqual([s.models, s.tools, s.cost, s.unpriced, s.tokens.input, s.errors], [2, 1, 1, 1, 20, 1]);
  assert.equal(costliest(t).span.name, "outer");
});

test("a running span is drawn up to now", () => {
  const t = buildTree([span("run", "", 0, null, { kind: "run", status: "running" }), span("m", "run", 10, 20)], Date.parse("2026-01-01T00:00:05Z"));
  assert.equal(t.roots[0].end - t.start, 5000);
});

test("visible rows: folded, searched", () => {
  const t = buildTree([span("a", "", 0, 9), span("b", "a", 1, 3), span("c", "b", 2, 1), span("d", "a", 5, 1)]);
  assert.deepEqual(names(visibleRows(t, new Set(["b"]))), ["a", "b", "d"]);
  assert.deepEqual(names(visibleRows(t, new Set(["a"]))), ["a"]);
  assert.deepEqual(names(visibleRows(t, new Set(["a"]), (s) => s.name === "c")), ["a", "b", "c"]);
});

test("the error's source is the lowest failed span", () => {
  const t = buildTree([span("a", "", 0, 9, { status: "error" }), span("b", "a", 1, 3, { status: "error" })]);
  assert.deepEqual(t.nodes.map(isErrorSource), [false, true]);
});

test("agentOf climbs to the nearest name", () => {
  const t = buildTree([span("invoke lead", "", 0, 9, { kind: "run", agent_name: "lead" }), span("m", "invoke lead", 1, 2)]);
  assert.equal(agentOf(t.nodes[1]), "lead");
});

test("ticks are round and cover the span", () => {
  assert.deepEqual(ticks(1000, 5), [0, 200, 400, 600, 800, 1000]);
  assert.deepEqual(ticks(0, 5), [0]);
  assert.ok(ticks(123456, 6).length <= 8);
});
