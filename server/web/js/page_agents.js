/**
 * The agents: how often each ran, failed, called, and what it cost.
 * @import {Context} from "./app.js"
 * @import {AgentRow} from "./types.js"
 */
import { get } from "./api.js";
import { dash, h } from "./dom.js";
import { duration, int, plural } from "./format.js";
import { listView, sinceFilter } from "./listview.js";
import { unpricedBy } from "./page_costs.js";
import { badCount, costCell, howToSend, timeCell, tokensCell } from "./parts.js";

/** @param {Context} ctx */
export function agents(ctx) {
  ctx.root.append(h("h1", { class: "visually-hidden" }, "Agents"));
  listView(ctx, {
    label: "Agents",
    filters: [sinceFilter],
    fetch: async (params) => {
      const [body, unpriced] = await Promise.all([get("/api/agents", params, ctx.signal), unpricedBy("agent", params, ctx.signal)]);
      const items = /** @type {AgentRow[]} */ (body.agents ?? []).map((a) => ({ ...a, unpriced: unpriced.get(a.agent) ?? 0 }));
      return { items, next: body.next ?? "" };
    },
    key: (a) => a.agent,
    href: (a) => `/runs?${new URLSearchParams({ agent: a.agent })}`,
    rowClass: (a) => (a.active > 0 ? "running" : ""),
    columns: [
      { label: "Agent", class: "wide", cell: (a) => [h("span", { class: "name clamp", title: a.agent }, a.agent || "unnamed"), h("span", { class: "sub" }, plural((a.agent_ids ?? []).length, "instance"))] },
      { label: "Active", class: "num opt2", cell: (a) => (a.active > 0 ? h("span", { class: "status s-running" }, int(a.active)) : h("span", { class: "quiet" }, "0")) },
      { label: "Runs", class: "num", cell: (a) => int(a.runs) },
      { label: "Failed", class: "num", cell: (a) => badCount(a.runs_failed, "runs failed") },
      { label: "p50", class: "num opt2", title: "median duration of a run", cell: (a) => quantile(a.run_p50_ms) },
      { label: "p95", class: "num opt2", title: "95th percentile of the duration of a run", cell: (a) => quantile(a.run_p95_ms) },
      { label: "Calls", class: "num opt2", title: "model calls", cell: (a) => int(a.model_calls) },
      { label: "Tools", class: "num opt2", title: "tool calls", cell: (a) => int(a.tool_calls) },
      { label: "Tools failed", class: "num opt", cell: (a) => badCount(a.tool_calls_failed, "tool calls failed") },
      { label: "Tokens", class: "num opt2", cell: (a) => tokensCell(a.tokens, a.model_calls) },
      { label: "Cost", class: "num", cell: (a) => costCell(a.cost_usd, a.unpriced, a.model_calls) },
      { label: "Last seen", class: "opt", cell: (a) => timeCell(a.last) },
    ],
    empty: () => h("div", null, h("h2", null, "No agents yet"), howToSend()),
  });
}

/** @param {number|null|undefined} ms */
function quantile(ms) {
  return ms === null || ms === undefined ? dash("no run has ended") : duration(ms);
}
