import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { checkProof, hex, leafHash, parseNote, parseProof, parseVKey, rootFrom } from "../js/proof.js";

// A second, recursive implementation of RFC 6962, 2.1: the loop under test must agree with it.
const h = (...parts) => createHash("sha256").update(Buffer.concat(parts.map((p) => Buffer.from(p)))).digest();
const leaf = (d) => h([0], d);
const split = (n) => 2 ** Math.floor(Math.log2(n - 1));
const mth = (d) => (d.length === 1 ? leaf(d[0]) : h([1], mth(d.slice(0, split(d.length))), mth(d.slice(split(d.length)))));
const path = (m, d) => {
  if (d.length === 1) return [];
  const k = split(d.length);
  return m < k ? [...path(m, d.slice(0, k)), mth(d.slice(k))] : [...path(m - k, d.slice(k)), mth(d.slice(0, k))];
};

const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const raw = publicKey.export({ format: "der", type: "spki" }).subarray(-32);
const name = "log.example/a";
const keyHash = h(Buffer.from(name + "\n"), [1], raw).subarray(0, 4);
const vkey = `${name}+${hex(keyHash)}+${Buffer.concat([Buffer.from([1]), raw]).toString("base64")}`;

function proofText(d, m, edit = {}) {
  const body = `${name}\n${d.length}\n${(edit.root ?? mth(d)).toString("base64")}\n`;
  const sig = Buffer.concat([keyHash, sign(null, Buffer.from(edit.signed ?? body), privateKey)]).toString("base64");
  const hashes = (edit.hashes ?? path(m, d)).map((x) => x.toString("base64") + "\n").join("");
  return `c2sp.org/tlog-proof@v1\nextra ${Buffer.from(edit.line ?? d[m]).toString("base64")}\nindex ${edit.index ?? m}\n${hashes}\n${body}\n\u2014 ${name} ${sig}\n`;
}

const entries = (n) => Array.from({ length: n }, (_, i) => Buffer.from(JSON.stringify({ id: "e" + i })));

test("the vector that the ledger's own tests keep", async () => {
  const text = readFileSync(new URL("../../../audit/testdata/vector/proof-1.tlog-proof", import.meta.url), "utf8");
  const r = await checkProof(text, 1, "", (line) => (line.id === "01HZY3V9T5XKQ2M4N6P8R0S1T3" ? "" : "id"));
  assert.deepEqual(r.steps.map((s) => s.verdict), ["ok", "ok", "ok", "skipped"]);
});

test("every entry of every tree up to 70 entries", async () => {
  for (let n = 1; n <= 70; n++) {
    const d = entries(n), root = hex(mth(d));
    for (let m = 0; m < n; m++) assert.equal(hex(await rootFrom(await leafHash(d[m]), m, n, path(m, d))), root, `${m} of ${n}`);
  }
});

test("a path that is too long, too short or outside is refused", async () => {
  const d = entries(7), p = path(3, d), l = await leafHash(d[3]);
  await assert.rejects(rootFrom(l, 3, 7, [...p, p[0]]), /longer/);
  await assert.rejects(rootFrom(l, 3, 7, p.slice(1)), /shorter/);
  await assert.rejects(rootFrom(l, 7, 7, p), /outside/);
  await assert.rejects(rootFrom(l, -1, 7, p), /outside/);
});

test("a good proof is proven, step by step", async () => {
  const d = entries(11);
  const r = await checkProof(proofText(d, 4), 4, vkey, (line) => (line.id === "e4" ? "" : "id"));
  assert.deepEqual([r.ok, r.complete], [true, true]);
  assert.equal(r.steps.length, 4);
});

test("everything that is false is found", async () => {
  const d = entries(11), p = path(4, d), flipped = Buffer.from(p[1]);
  flipped[3] ^= 1;
  for (const [what, text, index] of [
    ["another line", proofText(d, 4, { line: '{"id":"x"}' }), 4],
    ["another entry", proofText(d, 5), 4],
    ["wrong place", proofText(d, 4, { index: 5 }), 5],
    ["a flipped hash", proofText(d, 4, { hashes: [p[0], flipped, ...p.slice(2)] }), 4],
    ["a root of another tree", proofText(d, 4, { root: mth(entries(10)) }), 4],
    ["a signature over something else", proofText(d, 4, { signed: "else" }), 4],
    ["no proof", "hello", 4],
    ["an empty file", "", 4],
  ]) assert.equal((await checkProof(text, index, vkey)).ok, false, what);
  assert.equal((await checkProof(proofText(d, 4), 4, vkey, () => "action differs")).ok, false);
  const stranger = generateKeyPairSync("ed25519").publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  const strangerHash = h(Buffer.from(name + "\n"), [1], stranger).subarray(0, 4);
  const strangerKey = Buffer.concat([Buffer.from([1]), stranger]).toString("base64");
  for (const [what, other] of [
    ["another key", `${name}+${hex(strangerHash)}+${strangerKey}`], ["another key under this one's hash", `${name}+${hex(keyHash)}+${strangerKey}`],
    ["a wrong hash", vkey.replace(hex(keyHash), "00000000")],
  ]) assert.equal((await checkProof(proofText(d, 4), 4, other)).ok, false, what);
});

test("what could not be checked is not called proven", async () => {
  const d = entries(3);
  const r = await checkProof(proofText(d, 1), 1, "");
  assert.deepEqual([r.ok, r.complete], [true, false]);
  const bare = await checkProof(proofText(d, 1).replace(/extra .*\n/, ""), 1, vkey);
  assert.equal(bare.complete, false);
});

test("parsers refuse what is not theirs", () => {
  const good = proofText(entries(3), 1);
  assert.equal(parseProof(good).index, 1);
  for (const bad of [good.replace("index 1", "index 01"), good.replace("index 1", "index -1"), good.replace("index 1", "index 99999999999999999999"), good.replace("@v1", "@v2")]) assert.throws(() => parseProof(bad));
  for (const bad of ["", "a\n1\nAAAA\n", "a\nx\nAAAA\n\n\u2014 a AAAAAAAA\n"]) assert.throws(() => parseNote(bad));
  for (const bad of ["", "a+b+c", `${name}+00000000+${Buffer.alloc(33).toString("base64")}`]) assert.throws(() => parseVKey(bad));
});
