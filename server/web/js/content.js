/**
 * Draws what was said: the parts of messages, tool arguments and results.
 * @import {Message, Part} from "./types.js"
 */
import { h, longText } from "./dom.js";
import { oneLine, pretty } from "./format.js";

/**
 * @param {Part} p
 * @returns {HTMLElement}
 */
export function part(p) {
  switch (p.type) {
    case "text":
      return longText(asText(p.content));
    case "reasoning":
    case "thinking":
      return folded("Reasoning", asText(p.content), "reasoning");
    case "tool_call":
      return h("div", { class: "call" }, h("span", { class: "quiet" }, "calls "), h("strong", null, p.name ?? "a tool"), value("arguments", p.arguments));
    case "tool_call_response":
      return h("div", { class: "call" }, h("span", { class: "quiet" }, "result "), value("result", p.response ?? p.result));
    default:
      return folded(p.type || "part", pretty(p.content ?? p), "");
  }
}

/** @param {unknown} v */
function asText(v) {
  return typeof v === "string" ? v : v === undefined || v === null ? "" : pretty(v);
}

/**
 * @param {string} label
 * @param {string} text
 * @param {string} cls
 */
function folded(label, text, cls) {
  return h("details", { class: "fold " + cls }, h("summary", null, label, " ", h("span", { class: "preview" }, oneLine(text, 90))), longText(text));
}

/**
 * A value: in the line when it is short, folded when it is long.
 * @param {string} label
 * @param {unknown} v
 */
export function value(label, v) {
  if (v === undefined || v === null || v === "") return h("span", { class: "quiet" }, `no ${label} recorded`);
  const line = typeof v === "string" ? v : spaced(v);
  if (line.length <= 90 && !line.includes("\n")) return h("code", { class: "inline" }, line);
  const text = pretty(v);
  if (text.length <= 100 && !text.trim().includes("\n")) return h("code", { class: "inline" }, text);
  if (text.length <= 700) return longText(text);
  return h("details", { class: "fold" }, h("summary", null, label, " ", h("span", { class: "preview" }, oneLine(text, 90))), longText(text));
}

/** Endings that need no mention: the answer was complete, or calls tools. */
const usual = new Set(["stop", "end_turn", "tool_calls", "tool_use", "tool_call"]);

/**
 * JSON in one line, with room to read it.
 * @param {unknown} v
 */
function spaced(v) {
  return JSON.stringify(v, null, 1).replace(/\n\s*/g, " ").replace(/([[{]) /g, "$1").replace(/ ([\]}])/g, "$1");
}

/** @param {Message} m */
export function message(m) {
  return h("div", { class: `msg r-${["user", "assistant", "system", "tool"].includes(m.role) ? m.role : "other"}` },
    h("span", { class: "role" }, m.role, m.finish_reason && !usual.has(m.finish_reason) ? h("span", { class: "quiet" }, ` finished: ${m.finish_reason}`) : null),
    h("div", { class: "body" }, ...(m.parts ?? []).map(part)));
}

/** Said where content is missing, so that nobody takes it for an empty answer. */
export const notRecorded = "Content was not recorded. It is off by default; set Config.Content to redacted or full in the program to record it.";
