/**
 * Numbers, times and names as the page writes them. Pure functions.
 * @import {Tokens} from "./types.js"
 */

/** What stands for "not known". Missing is not zero. */
export const DASH = "–";

/**
 * Milliseconds since the epoch, with the fraction kept below a millisecond
 * (Date.parse drops it). NaN when the text is no time.
 * @param {string|null|undefined} text RFC 3339
 * @returns {number}
 */
export function parseTime(text) {
  if (!text) return NaN;
  const ms = Date.parse(text);
  const dot = text.indexOf(".", 18);
  if (dot < 0 || Number.isNaN(ms)) return ms;
  let end = dot + 1;
  while (end < text.length && text.charCodeAt(end) >= 48 && text.charCodeAt(end) <= 57) end++;
  if (end - dot <= 4) return ms;
  return ms + Number("0." + text.slice(dot + 4, end));
}

/**
 * A parser for many times that lie close together, as those of a trace do: it
 * remembers the minute it parsed last, which makes it several times as fast.
 * @returns {(text: string|null|undefined) => number}
 */
export function timeParser() {
  let minute = "", base = NaN;
  return (text) => {
    if (!text || text.length < 20 || text.length > 30 || !text.endsWith("Z") || text.charCodeAt(16) !== 58) return parseTime(text);
    if (!text.startsWith(minute) || minute === "") {
      minute = text.slice(0, 17);
      base = Date.parse(minute + "00Z");
    }
    return base + Number(text.slice(17, -1)) * 1000;
  };
}

/**
 * @param {number|null|undefined} ms
 * @returns {string}
 */
export function duration(ms) {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return DASH;
  if (ms < 0) return "-" + duration(-ms);
  if (ms === 0) return "0 ms";
  if (ms < 0.001) return `${trim(ms * 1e6, 0)} ns`;
  if (ms < 1) return ms < 0.1 ? `${trim(ms * 1000, 0)} µs` : `${trim(ms, 2)} ms`;
  if (ms < 99.95) return `${trim(ms, 1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 59.995) return `${s.toFixed(s < 9.995 ? 2 : 1)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${pad(whole % 60)} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} m`;
  const hours = Math.round(s / 3600);
  return `${Math.floor(hours / 24)} d ${pad(hours % 24)} h`;
}

/** @param {number} n @param {number} digits */
function trim(n, digits) {
  return String(Number(n.toFixed(digits)));
}

/** @param {number} n */
function pad(n) {
  return String(n).padStart(2, "0");
}

/**
 * @param {number|null|undefined} n
 * @returns {string}
 */
export function int(n) {
  return n === null || n === undefined || !Number.isFinite(n) ? DASH : n.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

/**
 * A count cut to about three digits: 950, 12.4k, 3.1M.
 * @param {number|null|undefined} n
 * @returns {string}
 */
export function compact(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  for (const [size, unit] of /** @type {[number, string][]} */ ([[1e9, "B"], [1e6, "M"], [1e3, "k"]])) {
    // 999,950 would print as 1000k: it belongs to the next unit already.
    if (n >= size * 0.99995 && n >= 10000 * (size === 1e3 ? 1 : 0)) return trim(n / size, n / size < 99.95 ? 1 : 0) + unit;
  }
  return int(n);
}

/**
 * US dollars. Small sums keep four significant digits, at most nine decimals.
 * @param {number|null|undefined} usd
 * @returns {string}
 */
export function usd(usd) {
  if (usd === null || usd === undefined || !Number.isFinite(usd)) return DASH;
  if (usd === 0) return "$0";
  const abs = Math.abs(usd);
  if (abs >= 1) return (usd < 0 ? "-$" : "$") + abs.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const digits = Math.min(9, Math.max(4, 3 - Math.floor(Math.log10(abs))));
  return (usd < 0 ? "-$" : "$") + abs.toFixed(digits);
}

/**
 * The exact sum, for titles.
 * @param {number} n
 */
export function usdExact(n) {
  return `$${Number(n.toFixed(9)).toLocaleString("en-US", { maximumFractionDigits: 9 })}`;
}

/**
 * What a group of model calls cost, honest about calls without a known price.
 * @param {number|null|undefined} cost
 * @param {number} unpriced
 * @param {number} calls
 * @returns {{text: string, why: string, known: boolean}}
 */
export function costOf(cost, unpriced, calls) {
  if (calls === 0 && !cost) return { text: DASH, why: "no model calls", known: false };
  if (cost === null || cost === undefined || (unpriced > 0 && unpriced >= calls)) {
    return { text: "unknown", why: `no price is known for ${unpriced || calls} of ${calls} model calls`, known: false };
  }
  if (unpriced > 0) {
    return { text: `≥ ${usd(cost)}`, why: `${usdExact(cost)} and ${unpriced} of ${calls} model calls without a known price`, known: true };
  }
  return { text: usd(cost), why: usdExact(cost), known: true };
}

/**
 * @param {Tokens|null|undefined} t
 * @returns {number}
 */
export function tokenSum(t) {
  return t ? t.input + t.cache_read + t.cache_write + t.output + t.reasoning : 0;
}

/** The classes of token, in the order that the page shows them. */
export const tokenClasses = /** @type {[keyof Tokens, string][]} */ ([
  ["input", "input"], ["cache_read", "cache read"], ["cache_write", "cache write"], ["output", "output"], ["reasoning", "reasoning"],
]);

/**
 * @param {Tokens} t
 * @returns {string} "input 12, output 3", zero classes left out
 */
export function tokenTitle(t) {
  return tokenClasses.filter(([k]) => t[k] > 0).map(([k, label]) => `${label} ${int(t[k])}`).join(", ") || "0 tokens";
}

/**
 * Local time of day, with the date when it is not today.
 * @param {string|null|undefined} text
 * @param {{ms?: boolean, now?: Date}} [opts]
 */
export function clock(text, opts = {}) {
  const t = parseTime(text);
  if (Number.isNaN(t)) return DASH;
  const d = new Date(t), now = opts.now ?? new Date();
  let s = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
  if (opts.ms) s += "." + String(d.getMilliseconds()).padStart(3, "0");
  if (d.toDateString() === now.toDateString()) return s;
  const date = `${pad(d.getMonth() + 1)}-${pad(d.getDate())}`;
  return (d.getFullYear() === now.getFullYear() ? date : `${d.getFullYear()}-${date}`) + " " + s;
}

/**
 * The start of an id, enough to tell two apart.
 * @param {string|null|undefined} id
 */
export function shortId(id) {
  return id ? id.slice(0, 8) : DASH;
}

/**
 * Any JSON value as indented text; a string that holds JSON is unfolded.
 * @param {unknown} value
 * @returns {string}
 */
export function pretty(value) {
  if (typeof value === "string") {
    const s = value.trim();
    if (!(s.startsWith("{") && s.endsWith("}")) && !(s.startsWith("[") && s.endsWith("]"))) return value;
    try {
      return JSON.stringify(JSON.parse(s), null, 2);
    } catch {
      return value;
    }
  }
  return value === undefined ? DASH : JSON.stringify(value, null, 2);
}

/**
 * One line of a value, for previews.
 * @param {unknown} value
 * @param {number} [limit]
 */
export function oneLine(value, limit = 160) {
  const s = (typeof value === "string" ? value : JSON.stringify(value) ?? "").replace(/\s+/g, " ").trim();
  return s.length > limit ? s.slice(0, limit) + "…" : s;
}

/**
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export function plural(n, one, many) {
  return `${int(n)} ${n === 1 ? one : many ?? one + "s"}`;
}

/**
 * A span's name without the operation that its kind says already:
 * "execute_tool search" of a tool is "search".
 * @param {string} name
 * @param {string} [kind]
 */
export function shortName(name, kind = "run") {
  const prefix = { run: "invoke_agent ", tool: "execute_tool ", model: "chat ", specialist: "specialist ", handoff: "handoff " }[kind];
  return prefix && name.startsWith(prefix) && name.length > prefix.length ? name.slice(prefix.length) : name;
}
