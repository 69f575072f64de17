import assert from "node:assert/strict";
import { test } from "node:test";
import { transcript } from "../js/transcript.js";
import { buildTree } from "../js/tree.js";
import { span } from "./spans.js";

const say = (role, content) => ({ role, parts: [{ type: "text", content }] });
const lines = (t) => t.blocks.map((b) => `${"-".repeat(b.depth)}${b.type} ${b.type === "message" ? `${b.role}: ${b.parts.map((p) => p.content ?? p.name).join("|")}` : b.agent || b.span}`);

test("history that is sent again is shown once, per agent", () => {
  const q = say("user", "q"), a = say("assistant", "a");
  const t = transcript(buildTree([
    span("r", "", 0, 100, { kind: "run", agent_name: "lead" }),
    span("m1", "r", 1, 5, { kind: "model", input_messages: [q], output_messages: [a] }),
    span("w", "r", 10, 20, { kind: "run", agent_name: "worker" }),
    span("m2", "w", 11, 5, { kind: "model", input_messages: [q], output_messages: [say("assistant", "w")] }),
    span("m3", "r", 40, 5, { kind: "model", input_messages: [q, a, say("tool", "w")], output_messages: [say("assistant", "done")] }),
  ]));
  assert.deepEqual(lines(t), ["agent lead", "-message user: q", "-message assistant: a", "-agent worker", "--message user: q", "--message assistant: w", "-end worker", "-message tool: w", "-message assistant: done", "end lead"]);
  assert.equal(t.recorded, 3);
});

test("a tool's call is told by its span, with the arguments of the message", () => {
  const t = transcript(buildTree([
    span("r", "", 0, 100, { kind: "run", agent_name: "a" }),
    span("m", "r", 1, 5, { kind: "model", input_messages: [], output_messages: [{ role: "assistant", parts: [{ type: "tool_call", id: "c1", name: "grep", arguments: { q: 1 } }, { type: "tool_call", id: "c2", name: "lost" }] }] }),
    span("t", "r", 10, 5, { kind: "tool", attributes: { "gen_ai.tool.call.id": "c1" }, tool_result: "found" }),
  ]));
  assert.deepEqual(lines(t), ["agent a", "-message assistant: lost", "-tool a", "end a"]);
  assert.deepEqual(t.blocks[2].args, { q: 1 });
});

test("permissions are told when they were not simply given", () => {
  const ask = (id, from, decision, status = "ok") => span(id, "r", from, 1, { kind: "permission", status, attributes: { "kaizen.decision": decision } });
  const t = transcript(buildTree([span("r", "", 0, 9, { kind: "run", agent_name: "a" }), ask("p1", 1, "allow"), ask("p2", 2, "deny"), ask("p3", 3, "allow", "error")]));
  assert.deepEqual(t.blocks.map((b) => b.span), ["r", "p2", "p3", "r"]);
});

test("what was not recorded is said", () => {
  const t = transcript(buildTree([span("r", "", 0, 9, { kind: "run", agent_name: "a" }), span("m", "r", 1, 5, { kind: "model" }), span("n", "r", 7, null, { kind: "model", status: "running" })]));
  assert.deepEqual(lines(t), ["agent a", "-unrecorded a", "-step a", "end a"]);
  assert.deepEqual([t.recorded, t.unrecorded], [0, 1]);
});
