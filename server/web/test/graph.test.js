import assert from "node:assert/strict";
import { test } from "node:test";
import { agentGraph, layers } from "../js/graph.js";
import { buildTree } from "../js/tree.js";
import { span } from "./spans.js";

const run = (id, parent, from, agent, more = {}) => span(id, parent, from, 50, { kind: "run", agent_name: agent, ...more });
const edges = (g) => g.edges.map((e) => `${e.from} ${e.kind} ${e.to} ${e.count}`);

test("a supervisor calls its workers, repeats collapse", () => {
  const g = agentGraph(buildTree([run("r", "", 0, "lead"), run("a", "r", 1, "a"), run("b", "r", 2, "b"), run("a2", "r", 60, "a", { status: "error" }), span("t", "a", 3, 1, { kind: "tool", tool_name: "grep" })]));
  assert.deepEqual(edges(g), ["lead call a 2", "lead call b 1"]);
  assert.equal(g.nodes.get("a").status, "error");
  assert.equal(g.nodes.get("a").toolNames.get("grep"), 1);
  assert.deepEqual(layers(g).map((l) => l.map((p) => p.node.name)), [["lead"], ["a", "b"]]);
});

test("handoffs: run below, run beside, and no run at all", () => {
  const hand = (id, parent, from, to) => span(id, parent, from, 1, { kind: "handoff", attributes: { "kaizen.handoff.to": to } });
  assert.deepEqual(edges(agentGraph(buildTree([run("x", "", 0, "x"), hand("h", "x", 5, "y"), run("y", "h", 6, "y")]))), ["x handoff y 1"]);
  assert.deepEqual(edges(agentGraph(buildTree([run("p", "", 0, "p"), run("x", "p", 1, "x"), hand("h", "x", 5, "y"), run("y", "p", 6, "y")]))), ["p call x 1", "x handoff y 1"]);
  const beside = (id, from, to) => span(id, "p", from, 1, { kind: "handoff", attributes: { "kaizen.handoff.from": to[0], "kaizen.handoff.to": to[1] } });
  assert.deepEqual(edges(agentGraph(buildTree([run("p", "", 0, "p"), run("x", "p", 1, "x"), beside("h", 52, "xy"), run("y", "p", 53, "y"), beside("i", 104, "yz"), run("z", "p", 105, "z")]))), ["p call x 1", "x handoff y 1", "y handoff z 1"]);
  assert.deepEqual(edges(agentGraph(buildTree([run("x", "", 0, "x"), hand("h", "x", 5, "y")]))), ["x handoff y 1"]);
});

test("attributes may name agents by id", () => {
  const g = agentGraph(buildTree([run("x", "", 0, "x", { agent_id: "x-1" }), span("h", "x", 1, 9, { kind: "handoff", attributes: { "kaizen.handoff.from": "x-1", "kaizen.handoff.to": "y-1" } }), run("y", "h", 2, "y", { agent_id: "y-1" })]));
  assert.deepEqual([...g.nodes.keys()], ["x", "y"]);
});

test("a circle still gets layers", () => {
  const g = agentGraph(buildTree([run("a", "", 0, "a"), run("b", "a", 1, "b"), run("a2", "b", 2, "a")]));
  assert.deepEqual(edges(g), ["a call b 1", "b call a 1"]);
  assert.deepEqual(layers(g).map((l) => l.map((p) => p.node.name)), [["a"], ["b"]]);
});
