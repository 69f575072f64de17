/**
 * The small pieces that several pages share: status, kind, cost, tokens, links.
 * @import {Entry, Log, Status, Tokens} from "./types.js"
 */
import { dash, h } from "./dom.js";
import { clock, compact, costOf, int, shortId, tokenSum, tokenTitle } from "./format.js";

/** Colour is never the only signal: each status has its word. @type {Record<string, string>} */
const statusWord = { ok: "ok", error: "error", denied: "denied", cancelled: "cancelled", running: "running" };

/** @param {Status|string} status */
export function statusTag(status) {
  return h("span", { class: "status s-" + (statusWord[status] ?? "unknown") }, statusWord[status] ?? status);
}

const kindShort = /** @type {Record<string, string>} */ ({
  run: "run", iteration: "iter", plan: "plan", model: "model", embedding: "embed", tool: "tool", memory: "mem", retrieval: "retr",
  checkpoint: "ckpt", permission: "perm", interrupt: "intr", specialist: "spec", handoff: "hand", other: "span",
});

/** @param {string} kind */
export function kindTag(kind) {
  return h("span", { class: `kind k-${kindShort[kind] ? kind : "other"}`, title: kind }, kindShort[kind] ?? "span");
}

/** @param {string} level */
export function levelTag(level) {
  const known = ["debug", "info", "warning", "error", "critical"].includes(level);
  return h("span", { class: `level l-${known ? level : "info"}` }, level);
}

/** @param {Entry["result"]|string} result */
export function resultTag(result) {
  const cls = result === "success" ? "s-ok" : result === "failure" ? "s-error" : result === "denied" ? "s-denied" : "s-unknown";
  return h("span", { class: "status " + cls }, result);
}

/**
 * @param {number|null|undefined} cost
 * @param {number} unpriced
 * @param {number} calls
 */
export function costCell(cost, unpriced, calls) {
  const c = costOf(cost, unpriced, calls);
  return h("span", { class: c.known ? "num" : "num dash", title: c.why }, c.text);
}

/**
 * A sum of tokens; a dash when calls were made and none reported its usage.
 * @param {Tokens|null|undefined} t
 * @param {number} calls
 */
export function tokensCell(t, calls) {
  if (calls === 0) return dash("no model calls");
  const n = tokenSum(t);
  if (!t || n === 0) return dash("no model call reported its tokens");
  return h("span", { class: "num", title: tokenTitle(t) }, compact(n));
}

/** @param {string|null|undefined} t @param {boolean} [ms] */
export function timeCell(t, ms = false) {
  if (!t) return dash("no time");
  return h("time", { datetime: t, title: t }, clock(t, { ms }));
}

/**
 * A count where zero is the usual case and anything else matters.
 * @param {number} n
 * @param {string} what
 */
export function badCount(n, what) {
  return n > 0 ? h("strong", { class: "badnum", title: `${int(n)} ${what}` }, int(n)) : h("span", { class: "num quiet" }, "0");
}

/** @param {string} trace @param {string} [span] */
export function runHref(trace, span) {
  return `/runs/${trace}${span ? "#" + span : ""}`;
}

/** @param {string|undefined} trace @param {string} [span] @param {string} [label] */
export function spanLink(trace, span, label) {
  if (!trace) return dash("not part of a trace");
  return h("a", { href: runHref(trace, span), class: "id", title: span ? `trace ${trace}, span ${span}` : `trace ${trace}` }, label ?? shortId(span || trace));
}

/**
 * Why a field is not shown: it was erased, or this machine has not the key.
 * @param {unknown} field
 */
export function withheld(field) {
  if (!field || typeof field !== "object") return "";
  if ("erased" in field && field.erased === true) return "erased";
  if ("encrypted" in field && field.encrypted === true) return "encrypted";
  return "";
}

/**
 * @param {unknown} user A string, or a field that is not shown.
 * @returns {string}
 */
export function userText(user) {
  if (typeof user === "string") return user;
  return withheld(user);
}

/**
 * Where a log record is found on the page of logs.
 * @param {Log} l
 */
export function logHref(l) {
  return "/logs?" + new URLSearchParams({ ...(l.trace_id ? { trace_id: l.trace_id } : {}), ...(l.span_id ? { span_id: l.span_id } : {}) });
}

/**
 * Where an audit entry is found on the page of audit.
 * @param {Entry} e
 */
export function entryHref(e) {
  return "/audit?" + new URLSearchParams({ ...(e.trace_id ? { trace: e.trace_id } : {}), ...(e.span_id ? { span: e.span_id } : {}) }) + "#" + e.index;
}

/**
 * A list of names and values; those without a value are left out.
 * @param {[string, import("./dom.js").Child][]} rows
 */
export function facts(rows) {
  return h("dl", { class: "facts" }, ...rows.filter(([, v]) => v !== null && v !== undefined && v !== "" && v !== false)
    .flatMap(([k, v]) => [h("dt", null, k), h("dd", null, v)]));
}

/**
 * The page's only advice to somebody who has no data yet.
 */
export function howToSend() {
  const host = location.hostname.includes(":") ? `[${location.hostname.replace(/^\[|\]$/g, "")}]` : location.hostname;
  return h("div", { class: "howto" },
    h("p", null, "From a Go program, two lines:"),
    h("pre", { class: "code" }, "obs, err := kaizen.Start(ctx, kaizen.Config{})\ndefer obs.Shutdown(ctx)"),
    h("p", null, "From any other program that speaks OpenTelemetry, two variables:"),
    h("pre", { class: "code" }, `export OTEL_EXPORTER_OTLP_ENDPOINT=http://${host}:4318\nexport OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf`),
    h("p", { class: "quiet" }, "Or let a team of agents run once: ", h("code", null, "kaizen demo")));
}
