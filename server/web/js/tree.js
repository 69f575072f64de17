/**
 * The tree of a trace: built once per answer, walked by every view.
 * Pure functions over the API's spans.
 * @import {Span, Tokens} from "./types.js"
 */
import { timeParser, tokenSum } from "./format.js";

/**
 * @typedef {object} Node
 * @property {Span} span
 * @property {Node|null} parent
 * @property {Node[]} children In start order.
 * @property {number} depth
 * @property {number} start ms since the epoch
 * @property {number} end ms since the epoch; for a running span, the latest time seen in the trace
 * @property {boolean} orphan Its parent has not arrived.
 * @property {Sums} sum Over the node and everything below it.
 *
 * @typedef {object} Sums
 * @property {number} spans
 * @property {number} errors Spans that failed or were denied.
 * @property {number} models
 * @property {number} tools
 * @property {number} cost USD of the calls whose price is known.
 * @property {number} unpriced Ended model calls without a cost.
 * @property {Tokens} tokens
 *
 * @typedef {object} Tree
 * @property {Node[]} roots
 * @property {Node[]} nodes Depth first, parents before children.
 * @property {Map<string, Node>} byId
 * @property {number} start
 * @property {number} end
 * @property {number} orphans
 */

/** @param {Span} s */
export const isModel = (s) => s.kind === "model" || s.kind === "embedding";

/** Cancelled is an ending that somebody wanted; it is not counted as an error.
 * @param {Span} s */
export const isBad = (s) => s.status === "error" || s.status === "denied";

/**
 * @param {readonly Span[]} spans In any order; of two with one id the last wins.
 * @param {number} [now] What a running span is drawn up to, ms since the epoch.
 * @returns {Tree}
 */
export function buildTree(spans, now = NaN) {
  /** @type {Map<string, Node>} */
  const byId = new Map();
  let start = Infinity, end = -Infinity;
  const parse = timeParser();
  for (const span of spans) {
    const a = parse(span.start);
    // The duration keeps the nanoseconds that a float of milliseconds since 1970 loses.
    const b = span.end && typeof span.duration_ms === "number" ? a + span.duration_ms : parse(span.end);
    byId.set(span.span_id, { span, parent: null, children: [], depth: 0, start: a, end: b, orphan: false, sum: emptySums() });
    if (a < start) start = a;
    if (a > end) end = a;
    if (b > end) end = b;
  }
  if (now > end) end = now;
  /** @type {Node[]} */
  const roots = [];
  for (const n of byId.values()) {
    if (Number.isNaN(n.end)) n.end = Math.max(end, n.start);
    const pid = n.span.parent_span_id;
    const parent = pid ? byId.get(pid) : undefined;
    if (parent && parent !== n) {
      n.parent = parent;
      parent.children.push(n);
    } else {
      n.orphan = Boolean(pid) && parent !== n;
      roots.push(n);
    }
  }
  const order = (/** @type {Node} */ a, /** @type {Node} */ b) => a.start - b.start;
  for (const n of byId.values()) if (n.children.length > 1) n.children.sort(order);
  roots.sort(order);
  const nodes = walk(roots);
  if (nodes.length < byId.size) breakCycles(byId, roots, nodes);
  for (let i = nodes.length - 1; i >= 0; i--) sumUp(/** @type {Node} */ (nodes[i]));
  if (start === Infinity) start = end = 0;
  return { roots, nodes, byId, start, end, orphans: roots.filter((r) => r.orphan).length };
}

/**
 * Depth first without recursion: a hostile trace may be 10,000 levels deep.
 * @param {readonly Node[]} roots
 */
function walk(roots) {
  /** @type {Node[]} */
  const out = [];
  const stack = [...roots].reverse();
  for (let n = stack.pop(); n; n = stack.pop()) {
    n.depth = n.parent ? n.parent.depth + 1 : 0;
    out.push(n);
    for (let i = n.children.length - 1; i >= 0; i--) stack.push(/** @type {Node} */ (n.children[i]));
  }
  return out;
}

/**
 * Spans that name each other as parents hang below no root. The earliest of
 * them is made one, until all are reached.
 * @param {Map<string, Node>} byId
 * @param {Node[]} roots
 * @param {Node[]} nodes
 */
function breakCycles(byId, roots, nodes) {
  const reached = new Set(nodes);
  const lost = [...byId.values()].filter((n) => !reached.has(n)).sort((a, b) => a.start - b.start);
  for (const n of lost) {
    if (reached.has(n)) continue;
    if (n.parent) n.parent.children = n.parent.children.filter((c) => c !== n);
    n.parent = null;
    n.orphan = true;
    roots.push(n);
    for (const m of walk([n])) {
      reached.add(m);
      nodes.push(m);
    }
  }
}

/** @returns {Sums} */
function emptySums() {
  return { spans: 0, errors: 0, models: 0, tools: 0, cost: 0, unpriced: 0, tokens: { input: 0, cache_read: 0, cache_write: 0, output: 0, reasoning: 0 } };
}

/**
 * Adds a node's own figures to those of its children, which are done already.
 * A model call above another one of the same model is the same call seen twice
 * (a library's span inside a wrapper's): the inner one counts.
 * @param {Node} n
 */
function sumUp(n) {
  const s = n.sum, span = n.span;
  for (const c of n.children) {
    s.spans += c.sum.spans;
    s.errors += c.sum.errors;
    s.models += c.sum.models;
    s.tools += c.sum.tools;
    s.cost += c.sum.cost;
    s.unpriced += c.sum.unpriced;
    addTokens(s.tokens, c.sum.tokens);
  }
  s.spans++;
  if (isBad(span)) s.errors++;
  if (span.kind === "tool") s.tools++;
  if (!isModel(span) || s.models > 0) return;
  if (span.status === "running") return;
  s.models++;
  if (typeof span.cost_usd === "number") s.cost += span.cost_usd;
  else s.unpriced++;
  if (span.tokens) addTokens(s.tokens, span.tokens);
}

/** @param {Tokens} to @param {Tokens} from */
function addTokens(to, from) {
  to.input += from.input;
  to.cache_read += from.cache_read;
  to.cache_write += from.cache_write;
  to.output += from.output;
  to.reasoning += from.reasoning;
}

/**
 * The rows that show: nodes below a collapsed one are left out. With a match,
 * only matching nodes and their ancestors, whatever is collapsed.
 * @param {Tree} tree
 * @param {ReadonlySet<string>} collapsed
 * @param {((s: Span) => boolean)|null} [match]
 * @returns {Node[]}
 */
export function visibleRows(tree, collapsed, match = null) {
  if (match) {
    const keep = new Set();
    for (const n of tree.nodes) {
      if (!match(n.span)) continue;
      for (let m = /** @type {Node|null} */ (n); m && !keep.has(m); m = m.parent) keep.add(m);
    }
    return tree.nodes.filter((n) => keep.has(n));
  }
  if (collapsed.size === 0) return tree.nodes;
  const out = [];
  let hiddenBelow = Infinity;
  for (const n of tree.nodes) {
    if (n.depth > hiddenBelow) continue;
    hiddenBelow = collapsed.has(n.span.span_id) && n.children.length > 0 ? n.depth : Infinity;
    out.push(n);
  }
  return out;
}

/**
 * The span that an error comes from: failed, with no failed span below it.
 * @param {Node} n
 */
export const isErrorSource = (n) => isBad(n.span) && n.sum.errors === 1;

/**
 * The model call that cost most, or, without prices, used most tokens.
 * @param {Tree} tree
 * @returns {Node|null}
 */
export function costliest(tree) {
  let best = null, cost = -1, tokens = -1;
  for (const n of tree.nodes) {
    if (!isModel(n.span)) continue;
    const c = n.span.cost_usd ?? 0, t = tokenSum(n.span.tokens);
    if (c > cost || (c === cost && t > tokens)) [best, cost, tokens] = [n, c, t];
  }
  return best;
}

/**
 * Whose work a span is: the name of its agent, or of the nearest run above.
 * @param {Node} n
 */
export function agentOf(n) {
  for (let m = /** @type {Node|null} */ (n); m; m = m.parent) {
    const name = m.span.agent_name || m.span.agent_id;
    if (name) return name;
    if (m.span.kind === "run") return m.span.name;
  }
  return "";
}

/**
 * Round steps for a time axis.
 * @param {number} span ms shown
 * @param {number} count About how many ticks.
 * @returns {number[]} offsets in ms, from 0
 */
export function ticks(span, count) {
  if (!(span > 0) || count < 1) return [0];
  const raw = span / count, mag = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((m) => m * mag >= raw) ?? 10) * mag;
  const out = [];
  for (let i = 0; i * step <= span * 1.000001 && i < 100; i++) out.push(i * step);
  return out;
}
