/**
 * Sessions: conversations that one or more runs belong to.
 * @import {Context} from "./app.js"
 * @import {SessionRow} from "./types.js"
 */
import { get } from "./api.js";
import { h } from "./dom.js";
import { duration, int, parseTime } from "./format.js";
import { listView, sinceFilter } from "./listview.js";
import { badCount, costCell, timeCell, tokensCell } from "./parts.js";

/** @param {Context} ctx */
export function sessions(ctx) {
  ctx.root.append(h("h1", { class: "visually-hidden" }, "Sessions"));
  listView(ctx, {
    label: "Sessions",
    filters: [sinceFilter],
    fetch: async (params, cursor, limit) => {
      const body = await get("/api/sessions", { ...params, cursor, limit }, ctx.signal);
      return { items: /** @type {SessionRow[]} */ (body.sessions ?? []), next: body.next ?? "" };
    },
    key: (s) => s.session_id,
    href: (s) => `/runs?${new URLSearchParams({ session: s.session_id })}`,
    columns: [
      { label: "Session", class: "wide", cell: (s) => [h("span", { class: "name" }, s.session_id), h("span", { class: "sub" }, (s.agents ?? []).join(", "))] },
      { label: "User", class: "opt2", cell: (s) => s.user_id ?? "" },
      { label: "First", class: "opt", cell: (s) => timeCell(s.first) },
      { label: "Last", class: "opt2", cell: (s) => timeCell(s.last) },
      { label: "Length", class: "num opt", cell: (s) => duration(parseTime(s.last) - parseTime(s.first)) },
      { label: "Runs", class: "num", cell: (s) => int(s.runs) },
      { label: "Failed", class: "num opt2", cell: (s) => badCount(s.runs_failed, "runs failed") },
      { label: "Calls", class: "num opt2", title: "model calls", cell: (s) => int(s.model_calls) },
      { label: "Tools", class: "num opt2", title: "tool calls", cell: (s) => int(s.tool_calls) },
      { label: "Tokens", class: "num opt2", cell: (s) => tokensCell(s.tokens, s.model_calls) },
      { label: "Cost", class: "num", cell: (s) => costCell(s.cost_usd, 0, s.model_calls) },
    ],
    empty: () => h("div", null, h("h2", null, "No sessions yet"),
      h("p", null, "Runs that share a ", h("code", null, "gen_ai.conversation.id"), " appear here as one session.")),
  });
}
