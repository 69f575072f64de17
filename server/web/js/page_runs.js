/**
 * The list of runs, newest first, with the totals above it.
 * @import {Context} from "./app.js"
 * @import {Stats, TraceSummary} from "./types.js"
 */
import { get } from "./api.js";
import { poll } from "./app.js";
import { dash, fill, h } from "./dom.js";
import { compact, costOf, duration, int, plural, shortName, tokenSum, tokenTitle } from "./format.js";
import { anchorRow, listView, sinceFilter } from "./listview.js";
import { badCount, costCell, howToSend, statusTag, timeCell, tokensCell } from "./parts.js";

/** @param {Context} ctx */
export function runs(ctx) {
  const totals = h("section", { class: "totals", "aria-label": "Totals" });
  ctx.root.append(h("h1", { class: "visually-hidden" }, "Runs"), totals);
  const list = listView(ctx, {
    label: "Runs",
    also: ["user"],
    filters: [
      { name: "q", label: "Search", type: "search" },
      { name: "agent", label: "Agent", type: "text" },
      { name: "session", label: "Session", type: "text" },
      {
        name: "status", label: "Status", type: "select",
        options: [["", "any"], ["running", "running"], ["ok", "ok"], ["error", "error"], ["denied", "denied"], ["cancelled", "cancelled"]],
      },
      sinceFilter,
    ],
    fetch: async (params, cursor, limit) => {
      const body = await get("/api/traces", { ...params, cursor, limit }, ctx.signal);
      return { items: /** @type {TraceSummary[]} */ (body.traces ?? []), next: body.next ?? "" };
    },
    key: (t) => t.trace_id,
    href: (t) => `/runs/${t.trace_id}`,
    rowClass: (t) => (t.status === "running" ? "running" : t.status === "error" ? "failed" : ""),
    columns: [
      { label: "Run", class: "wide", cell: nameCell },
      { label: "Status", cell: (t) => statusTag(t.status) },
      { label: "Started", class: "opt2", cell: (t) => timeCell(t.start) },
      { label: "Duration", class: "num opt2", cell: (t) => (t.status === "running" ? h("span", { class: "quiet", title: "so far" }, duration(Date.now() - Date.parse(t.start))) : duration(t.duration_ms)) },
      { label: "Calls", class: "num opt2", title: "model calls", cell: (t) => int(t.model_calls) },
      { label: "Tools", class: "num opt2", title: "tool calls", cell: (t) => int(t.tool_calls) },
      { label: "Tokens", class: "num opt2", cell: (t) => tokensCell(t.tokens, t.model_calls) },
      { label: "Cost", class: "num", cell: (t) => costCell(t.cost_usd, t.unpriced_calls, t.model_calls) },
      { label: "Errors", class: "num opt2", title: "spans that failed", cell: (t) => badCount(t.errors, "spans failed") },
    ],
    empty: () => h("div", null, h("h2", null, "No runs yet"), howToSend()),
  });
  const since = () => ctx.root.querySelector("select[name=since]");
  const again = poll(ctx.signal, async () => {
    const field = since();
    const stats = /** @type {Stats} */ (await get("/api/stats", { since: field instanceof HTMLSelectElement ? field.value : "" }, ctx.signal));
    const anchor = anchorRow(ctx.root); // the totals stand above the rows, and may change in height
    fill(totals, ...totalCards(stats));
    anchor();
  }, () => fill(totals));
  since()?.addEventListener("change", again);
  void list;
}

/** @param {TraceSummary} t */
function nameCell(t) {
  const name = shortName(t.name || "unnamed"), agents = t.agents ?? [];
  const others = agents.filter((a) => a !== t.agent_name && a !== name);
  const own = t.agent_name && t.agent_name !== name ? t.agent_name : "";
  const sub = [own, others.length ? `with ${others.slice(0, 4).join(", ")}${others.length > 4 ? ` and ${others.length - 4} more` : ""}` : ""].filter(Boolean).join(" ");
  return [h("span", { class: "name clamp", title: t.name }, name),
    h("span", { class: "sub clamp" }, h("span", { class: "narrow" }, `${took(t)}${sub ? " · " : ""}`), sub || h("span", { class: "opt2" }, t.session_id || t.service || ""))];
}

/** @param {TraceSummary} t */
function took(t) {
  return t.status === "running" ? `${duration(Date.now() - Date.parse(t.start))} so far` : duration(t.duration_ms);
}

/** @param {Stats} s */
function totalCards(s) {
  const card = (/** @type {string} */ label, /** @type {import("./dom.js").Child} */ value, /** @type {import("./dom.js").Child} */ note, title = "") =>
    h("div", { class: "total", title }, h("span", { class: "label" }, label), h("span", { class: "value" }, value), h("span", { class: "note" }, note));
  const failed = (/** @type {number} */ n, /** @type {number} */ of) => (n > 0 ? h("span", { class: "bad" }, `${int(n)} failed`) : of > 0 ? "none failed" : "");
  const cost = costOf(s.cost_usd, s.model_calls_unpriced, s.model_calls);
  const tokens = tokenSum(s.tokens);
  return [
    card("Runs", int(s.runs), failed(s.runs_failed, s.runs)),
    card("Model calls", int(s.model_calls), failed(s.model_calls_failed, s.model_calls)),
    card("Tool calls", int(s.tool_calls), failed(s.tool_calls_failed, s.tool_calls)),
    card("Tokens", tokens || !s.model_calls ? compact(tokens) : dash("no model call reported its tokens"), tokens ? `${compact(s.tokens.output + s.tokens.reasoning)} out` : "", s.tokens ? tokenTitle(s.tokens) : ""),
    card("Cost", cost.text, s.model_calls_unpriced > 0 ? h("span", { class: "warn" }, `${plural(s.model_calls_unpriced, "call")} unpriced`) : s.model_calls > 0 ? "all calls priced" : "", cost.why),
    card("Audit entries", int(s.audit_entries), h("a", { href: "/audit" }, "ledger")),
  ];
}
