/**
 * Who called or handed off to whom: the graph of a trace's agents and its
 * layout in layers. Pure functions.
 * @import {Node, Tree} from "./tree.js"
 * @import {Status} from "./types.js"
 */
import { agentOf } from "./tree.js";

/**
 * @typedef {object} AgentNode
 * @property {string} name
 * @property {Status} status The worst of its runs.
 * @property {number} runs
 * @property {number} models
 * @property {number} tools
 * @property {number} errors
 * @property {number} cost
 * @property {number} unpriced
 * @property {string} span Id of its first run.
 * @property {Map<string, number>} toolNames
 *
 * @typedef {object} AgentEdge
 * @property {string} from
 * @property {string} to
 * @property {"call"|"handoff"} kind
 * @property {number} count
 * @property {string} span Id of the first span that stands for it.
 *
 * @typedef {object} AgentGraph
 * @property {Map<string, AgentNode>} nodes
 * @property {AgentEdge[]} edges
 */

const rank = { ok: 0, running: 1, cancelled: 2, denied: 3, error: 4 };

/**
 * @param {Tree} tree
 * @returns {AgentGraph}
 */
export function agentGraph(tree) {
  /** @type {AgentGraph} */
  const g = { nodes: new Map(), edges: [] };
  const edges = new Map();
  const edge = (/** @type {string} */ from, /** @type {string} */ to, /** @type {"call"|"handoff"} */ kind, /** @type {string} */ span) => {
    if (!from || !to || from === to) return;
    const key = `${kind}\n${from}\n${to}`;
    const e = edges.get(key);
    if (e) e.count++;
    else edges.set(key, { from, to, kind, count: 1, span });
  };
  const handed = handoffs(tree);
  for (const n of tree.nodes) {
    const s = n.span, name = agentOf(n);
    if (s.kind === "run") {
      const a = node(g, name || s.name, s.span_id);
      a.runs++;
      if (rank[s.status] > rank[a.status]) a.status = s.status;
      if (n.parent && !handed.targets.has(n)) edge(agentOf(n.parent), a.name, "call", s.span_id);
      continue;
    }
    if (!name) continue;
    const a = node(g, name, s.span_id);
    if (s.status === "error" || s.status === "denied") a.errors++;
    if (s.kind === "tool") {
      a.tools++;
      const tool = s.tool_name || s.name;
      a.toolNames.set(tool, (a.toolNames.get(tool) ?? 0) + 1);
    }
    // A wrapper's span above the library's own one is the same call: the leaf counts.
    if ((s.kind === "model" || s.kind === "embedding") && n.sum.models === 1 && n.children.every((c) => c.sum.models === 0)) {
      a.models++;
      a.cost += n.span.cost_usd ?? 0;
      if (typeof n.span.cost_usd !== "number") a.unpriced++;
    }
  }
  for (const { from, to, span } of handed.list) {
    node(g, from, span);
    node(g, to, span);
    edge(from, to, "handoff", span);
  }
  g.edges = [...edges.values()];
  return g;
}

/**
 * @param {AgentGraph} g
 * @param {string} name
 * @param {string} span
 */
function node(g, name, span) {
  let a = g.nodes.get(name);
  if (!a) {
    a = { name, status: "ok", runs: 0, models: 0, tools: 0, errors: 0, cost: 0, unpriced: 0, span, toolNames: new Map() };
    g.nodes.set(name, a);
  }
  return a;
}

/**
 * Handoffs and the runs that they started: a run below the handoff's span, or
 * one that links to it, or one of the agent that its attributes name.
 * @param {Tree} tree
 */
function handoffs(tree) {
  const list = [], targets = new Set();
  /** @type {Map<string, Node>} */
  const linked = new Map();
  for (const n of tree.nodes) {
    if (n.span.kind !== "run") continue;
    for (const l of n.span.links ?? []) linked.set(l.span_id, n);
  }
  // Attributes may name an agent by its id; the graph shows names.
  const names = new Map();
  for (const { span: s } of tree.nodes) if (s.agent_id && s.agent_name) names.set(s.agent_id, s.agent_name);
  for (const n of tree.nodes) {
    if (n.span.kind !== "handoff") continue;
    const attributes = n.span.attributes ?? {};
    const told = attributes["kaizen.handoff.from"], target = handoffTarget(attributes);
    const from = (typeof told === "string" && (names.get(told) ?? told)) || agentOf(n.parent ?? n);
    const named = names.get(target) ?? target;
    const run = runBelow(n) ?? linked.get(n.span.span_id) ?? null;
    if (run) targets.add(run);
    const to = run ? agentOf(run) : named;
    if (!run && named) {
      // The next run of that agent beside the handoff is what it led to.
      const next = tree.nodes.find((m) => m.span.kind === "run" && agentOf(m) === named && m.start >= n.start && !targets.has(m) && (m.parent === n.parent || m.parent === n.parent?.parent));
      if (next) targets.add(next);
    }
    if (from && to) list.push({ from, to, span: n.span.span_id });
  }
  return { list, targets };
}

/**
 * @param {Record<string, unknown>} attributes
 * @returns {string}
 */
export function handoffTarget(attributes) {
  for (const key of ["kaizen.handoff.to", "kaizen.handoff.target", "gen_ai.handoff.to", "gen_ai.handoff.target", "gen_ai.agent.handoff.to"]) {
    const v = attributes[key];
    if (typeof v === "string" && v) return v;
  }
  return "";
}

/** @param {Node} n @returns {Node|null} */
function runBelow(n) {
  const stack = [...n.children];
  for (let m = stack.shift(); m; m = stack.shift()) {
    if (m.span.kind === "run") return m;
    stack.push(...m.children);
  }
  return null;
}

/**
 * @typedef {object} Placed
 * @property {AgentNode} node
 * @property {number} layer
 * @property {number} row Position in its layer, 0 first.
 */

/**
 * Layers by the longest way from a start, edges that close a circle ignored;
 * in a layer, nodes stand near the middle of those that lead to them.
 * @param {AgentGraph} g
 * @returns {Placed[][]} layers
 */
export function layers(g) {
  const names = [...g.nodes.keys()];
  /** @type {Map<string, string[]>} */
  const out = new Map(names.map((n) => [n, []]));
  for (const e of g.edges) out.get(e.from)?.push(e.to);
  const state = new Map(), layer = new Map(names.map((n) => [n, 0]));
  /** @type {string[]} */
  const order = [];
  const visit = (/** @type {string} */ n) => {
    state.set(n, 1);
    out.set(n, (out.get(n) ?? []).filter((m) => state.get(m) !== 1)); // an edge back: it closes a circle
    for (const m of out.get(n) ?? []) if (!state.has(m)) visit(m);
    state.set(n, 2);
    order.unshift(n);
  };
  for (const n of names) if (!state.has(n)) visit(n);
  for (const n of order) {
    for (const m of out.get(n) ?? []) layer.set(m, Math.max(layer.get(m) ?? 0, (layer.get(n) ?? 0) + 1));
  }
  /** @type {Placed[][]} */
  const result = [];
  for (const n of names) {
    const l = layer.get(n) ?? 0;
    while (result.length <= l) result.push([]);
    result[l]?.push({ node: /** @type {AgentNode} */ (g.nodes.get(n)), layer: l, row: result[l].length });
  }
  for (let l = 1; l < result.length; l++) {
    const above = new Map(result.slice(0, l).flat().map((p) => [p.node.name, p.row - ((result[p.layer]?.length ?? 1) - 1) / 2]));
    const weight = new Map();
    for (const p of result[l] ?? []) {
      const from = g.edges.filter((e) => e.to === p.node.name && above.has(e.from)).map((e) => above.get(e.from) ?? 0);
      weight.set(p, from.length ? from.reduce((a, b) => a + b, 0) / from.length : p.row);
    }
    result[l]?.sort((a, b) => weight.get(a) - weight.get(b) || a.row - b.row);
    result[l]?.forEach((p, i) => { p.row = i; });
  }
  return result;
}
