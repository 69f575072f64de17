/**
 * Sessions: conversations that one or more runs belong to.
 * @import {Context} from "./app.js"
 * @import {SessionRow} from "./types.js"
 */
import { get } from "./api.js";
import { h } from "./dom.js";
import { duration, int, parseTime } from "./format.js";
import { listView, sinceFilter } from "./listview.js";
import { unpricedBy } from "./page_costs.js";
import { badCount, costCell, timeCell, tokensCell } from "./parts.js";

/** @param {Context} ctx */
export function sessions(ctx) {
  ctx.root.append(h("h1", { class: "visually-hidden" }, "Sessions"));
  listView(ctx, {
    label: "Sessions",
    filters: [sinceFilter],
    fetch: async (params, cursor, limit) => {
      const [body, unpriced] = await Promise.all([get("/api/sessions", { ...params, cursor, limit }, ctx.signal), unpricedBy("session", params, ctx.signal)]);
      const items = /** @type {SessionRow[]} */ (body.sessions ?? []).map((s) => ({ ...s, unpriced: unpriced.get(s.session_id) ?? 0 }));
      return { items, next: body.next ?? "" };
    },
    key: (s) => s.session_id,
    href: (s) => `/runs?${new URLSearchParams({ session: s.session_id })}`,
    columns: [
      { label: "Session", class: "wide", cell: (s) => [h("span", { class: "name clamp", title: s.session_id }, s.session_id), h("span", { class: "sub clamp" }, (s.agents ?? []).join(", "))] },
      { label: "User", class: "opt2", cell: (s) => s.user_id ?? "" },
      { label: "First", class: "opt", cell: (s) => timeCell(s.first) },
      { label: "Last", class: "opt2", cell: (s) => timeCell(s.last) },
      { label: "Length", class: "num opt", cell: (s) => duration(parseTime(s.last) - parseTime(s.first)) },
      { label: "Runs", class: "num", cell: (s) => int(s.runs) },
      { label: "Failed", class: "num opt2", cell: (s) => badCount(s.runs_failed, "runs failed") },
      { label: "Calls", class: "num opt2", title: "model calls", cell: (s) => int(s.model_calls) },
      { label: "Tools", class: "num opt2", title: "tool calls", cell: (s) => int(s.tool_calls) },
      { label: "Tokens", class: "num opt2", cell: (s) => tokensCell(s.tokens, s.model_calls) },
      { label: "Cost", class: "num", cell: (s) => costCell(s.cost_usd, s.unpriced, s.model_calls) },
    ],
    empty: () => h("div", null, h("h2", null, "No sessions yet"),
      h("p", null, "Runs that share a ", h("code", null, "gen_ai.conversation.id"), " appear here as one session.")),
  });
}
