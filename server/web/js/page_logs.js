/**
 * Log records, newest first.
 * @import {Context} from "./app.js"
 * @import {Log} from "./types.js"
 */
import { get } from "./api.js";
import { h, longText } from "./dom.js";
import { oneLine, pretty } from "./format.js";
import { listView, sinceFilter, traceID } from "./listview.js";
import { facts, howToSend, levelTag, spanLink, timeCell } from "./parts.js";

/** @param {Context} ctx */
export function logs(ctx) {
  ctx.root.append(h("h1", { class: "visually-hidden" }, "Logs"));
  listView(ctx, {
    label: "Logs",
    also: ["span_id", "run_id", "agent"],
    filters: [
      { name: "q", label: "Search", type: "search" },
      { name: "level", label: "Level, at least", type: "select", options: [["", "any"], ["debug", "debug"], ["info", "info"], ["warning", "warning"], ["error", "error"], ["critical", "critical"]] },
      { name: "logger", label: "Logger", type: "text" },
      { name: "trace_id", label: "Trace", type: "text", pattern: traceID },
      sinceFilter,
    ],
    fetch: async (params, cursor, limit) => {
      const body = await get("/api/logs", { ...params, order: "desc", cursor, limit }, ctx.signal);
      return { items: numbered(/** @type {Log[]} */ (body.logs ?? [])), next: body.next ?? "" };
    },
    key: (l) => l.key,
    rowClass: (l) => (l.log.level === "error" || l.log.level === "critical" ? "failed" : ""),
    columns: [
      { label: "Time", class: "time", cell: ({ log }) => timeCell(log.timestamp, true) },
      { label: "Level", cell: ({ log }) => levelTag(log.level) },
      { label: "Message", class: "wide", cell: ({ log }) => h("span", { class: "clamp" }, oneLine(log.message, 400)) },
      { label: "Logger", class: "opt", cell: ({ log }) => h("span", { class: "quiet" }, log.logger ?? "") },
      { label: "Span", class: "opt2", cell: ({ log }) => spanLink(log.trace_id, log.span_id) },
    ],
    details: ({ log }) => logDetails(log),
    empty: () => h("div", null, h("h2", null, "No log records yet"), howToSend()),
  });
}

/**
 * Records have no id of their own; equal ones are told apart by counting.
 * Counted from the oldest, so that a newer twin does not rename them all.
 * @param {Log[]} list newest first
 */
function numbered(list) {
  /** @type {Map<string, number>} */
  const seen = new Map();
  return [...list].reverse().map((log) => {
    const base = `${log.timestamp} ${log.span_id ?? ""} ${log.logger ?? ""} ${log.message}`;
    const n = seen.get(base) ?? 0;
    seen.set(base, n + 1);
    return { key: n ? `${base} #${n}` : base, log };
  }).reverse();
}

/** @param {Log} l */
export function logDetails(l) {
  const context = l.context && Object.keys(l.context).length > 0;
  return h("div", { class: "unfold" },
    longText(l.message),
    facts([
      ["time", l.timestamp], ["logger", l.logger], ["service", l.service], ["agent", l.agent_id], ["session", l.session_id],
      ["run", l.run_id], ["user", l.user_id], ["trace", l.trace_id ? spanLink(l.trace_id, undefined, l.trace_id) : ""],
      ["span", l.trace_id && l.span_id ? spanLink(l.trace_id, l.span_id, l.span_id) : ""],
    ]),
    context ? h("div", null, h("h4", null, "Context"), longText(pretty(l.context))) : h("p", { class: "quiet" }, "No further context was logged."));
}
