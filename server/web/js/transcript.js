/**
 * A trace as a conversation: blocks in the order in which things happened,
 * across agents. Pure; transcript_view.js draws the blocks.
 * @import {Node, Tree} from "./tree.js"
 * @import {Message, Part} from "./types.js"
 */
import { agentOf, isBad, isModel } from "./tree.js";

/**
 * @typedef {object} Block
 * @property {"agent"|"message"|"tool"|"step"|"end"|"unrecorded"} type
 * @property {number} depth How many agents deep.
 * @property {string} agent
 * @property {string} span Id of the span that it belongs to.
 * @property {Node} node
 * @property {string} [role]
 * @property {Part[]} [parts]
 * @property {string} [caller] On "agent": who started it.
 * @property {string} [finish]
 * @property {unknown} [args]
 * @property {unknown} [result]
 */

/** Kinds of span that the transcript mentions in a line of their own. */
const steps = new Set(["plan", "permission", "interrupt", "handoff", "specialist", "checkpoint", "memory", "retrieval", "other"]);

/**
 * @param {Tree} tree
 * @returns {{blocks: Block[], recorded: number, unrecorded: number}} recorded and unrecorded count model calls with and without content
 */
export function transcript(tree) {
  /** @type {Block[]} */
  const blocks = [];
  let recorded = 0, unrecorded = 0;
  /** Per run: messages shown already, since each call sends the whole history again. @type {Map<Node|null, Set<string>>} */
  const shown = new Map();
  /** @type {{node: Node, depth: number, agent: string}[]} */
  const open = [];
  const closeUpTo = (/** @type {Node} */ n) => {
    for (let top = open.at(-1); top && !below(n, top.node); top = open.at(-1)) {
      open.pop();
      blocks.push({ type: "end", depth: top.depth, agent: top.agent, span: top.node.span.span_id, node: top.node });
    }
  };
  const calls = toolSpans(tree);
  for (const n of tree.nodes) {
    closeUpTo(n);
    const s = n.span, run = open.at(-1), depth = run ? run.depth + 1 : 0, agent = agentOf(n);
    const base = { depth, agent, span: s.span_id, node: n };
    if (s.kind === "run") {
      const at = run ? run.depth + 1 : 0;
      blocks.push({ ...base, type: "agent", depth: at, caller: n.parent ? agentOf(n.parent) : "" });
      open.push({ node: n, depth: at, agent });
    } else if (isModel(s)) {
      if (s.kind === "embedding" || n.children.some((c) => c.sum.models > 0)) continue; // the inner span of the same call tells it
      const key = run?.node ?? null;
      let seen = shown.get(key);
      if (!seen) shown.set(key, (seen = new Set()));
      if (s.input_messages || s.output_messages || s.system_instructions) {
        recorded++;
        modelBlocks(blocks, base, seen, calls);
      } else if (s.status !== "running") {
        unrecorded++;
        blocks.push({ ...base, type: "unrecorded" });
      }
      if (isBad(s) || s.status === "running") blocks.push({ ...base, type: "step" });
    } else if (s.kind === "tool") {
      const call = calls.args.get(toolCallId(n));
      blocks.push({ ...base, type: "tool", args: s.tool_arguments ?? call, result: s.tool_result });
    } else if (s.kind === "specialist" && n.children.some((c) => c.span.kind === "run")) {
      continue; // the header of the run below says the same
    } else if (s.kind === "permission" && s.status === "ok" && s.attributes?.["kaizen.decision"] === "allow") {
      continue; // the usual case, before each tool; the waterfall has it
    } else if (steps.has(s.kind)) {
      blocks.push({ ...base, type: "step" });
    }
  }
  while (open.length) {
    const top = /** @type {{node: Node, depth: number, agent: string}} */ (open.pop());
    blocks.push({ type: "end", depth: top.depth, agent: top.agent, span: top.node.span.span_id, node: top.node });
  }
  return { blocks, recorded, unrecorded };
}

/**
 * @param {Block[]} blocks
 * @param {{depth: number, agent: string, span: string, node: Node}} base
 * @param {Set<string>} seen
 * @param {{ids: Set<string>, args: Map<string, unknown>}} calls
 */
function modelBlocks(blocks, base, seen, calls) {
  const s = base.node.span;
  const put = (/** @type {Message} */ m) => {
    const key = JSON.stringify([m.role, m.parts]);
    if (seen.has(key)) return;
    seen.add(key);
    const parts = (m.parts ?? []).filter((p) => !(calls.ids.has(p.id ?? "") && (p.type === "tool_call" || p.type === "tool_call_response")));
    for (const p of m.parts ?? []) if (p.type === "tool_call" && p.id) calls.args.set(p.id, p.arguments);
    if (parts.length > 0) blocks.push({ ...base, type: "message", role: m.role, parts, ...(m.finish_reason ? { finish: m.finish_reason } : {}) });
  };
  if (s.system_instructions?.length) put({ role: "system", parts: s.system_instructions });
  for (const m of s.input_messages ?? []) put(m);
  for (const m of s.output_messages ?? []) put(m);
}

/**
 * The calls that have a span of their own: their arguments and results are
 * shown there, not a second time in the messages.
 * @param {Tree} tree
 */
function toolSpans(tree) {
  const ids = new Set();
  for (const n of tree.nodes) {
    const id = toolCallId(n);
    if (n.span.kind === "tool" && id) ids.add(id);
  }
  return { ids, args: new Map() };
}

/** @param {Node} n @returns {string} */
function toolCallId(n) {
  const id = n.span.attributes?.["gen_ai.tool.call.id"];
  return typeof id === "string" ? id : "";
}

/** @param {Node} n @param {Node} above */
function below(n, above) {
  for (let m = n.parent; m; m = m.parent) if (m === above) return true;
  return false;
}
