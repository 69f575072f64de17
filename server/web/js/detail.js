/**
 * The panel of the selected span: what it was, and in one step its logs, its
 * audit entries and its metric exemplars.
 * @import {Node} from "./tree.js"
 * @import {Exemplar, Span, SpanRecords, Tokens} from "./types.js"
 */
import { get } from "./api.js";
import { errorText } from "./app.js";
import { message, notRecorded, part, value } from "./content.js";
import { copyButton, dash, fill, h, longText } from "./dom.js";
import { clock, duration, int, oneLine, plural, pretty, shortName, tokenClasses, tokenSum, usdExact } from "./format.js";
import { entryDetails } from "./page_audit.js";
import { logDetails } from "./page_logs.js";
import { entryHref, facts, kindTag, levelTag, logHref, resultTag, spanLink, statusTag } from "./parts.js";
import { isBad, isModel } from "./tree.js";

/** @typedef {"details"|"content"|"attributes"|"logs"|"audit"|"metrics"} Tab */

const tabs = /** @type {[Tab, string][]} */ ([["details", "Details"], ["content", "Content"], ["attributes", "Attributes"], ["logs", "Logs"], ["audit", "Audit"], ["metrics", "Metrics"]]);

/** Attributes that the tab of content shows, and shows better. */
const contentKeys = new Set(["gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "kaizen.run.input", "kaizen.run.output"]);

/** How long a selection must stand before its records are fetched, ms: j held down passes many. */
const SETTLE = 90;

export class Detail {
  /**
   * @param {AbortSignal} signal
   * @param {() => void} onClose
   */
  constructor(signal, onClose) {
    this.signal = signal;
    /** @type {Node|null} */
    this.node = null;
    /** @type {Tab} */
    this.tab = "details";
    /** @type {SpanRecords|null} */
    this.records = null;
    this.failure = "";
    this.drawnJSON = "";
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.timer = undefined;
    this.request = new AbortController();
    signal.addEventListener("abort", () => {
      clearTimeout(this.timer);
      this.request.abort();
    });
    this.head = h("div", { class: "dhead" });
    this.buttons = new Map(tabs.map(([id, label]) => [id, h("button", { type: "button", role: "tab", id: "tab-" + id, "aria-controls": "dbody" }, label)]));
    const bar = h("div", { class: "dtabs", role: "tablist", "aria-label": "Span" }, ...this.buttons.values());
    for (const [id, b] of this.buttons) b.addEventListener("click", () => this.show(id));
    bar.addEventListener("keydown", (e) => this.arrows(e));
    this.body = h("div", { class: "dbody", id: "dbody", role: "tabpanel", tabindex: "0" });
    const close = h("button", { type: "button", class: "btn close", "aria-label": "Close the span's panel" }, "Close");
    close.addEventListener("click", onClose);
    this.element = h("aside", { class: "detail", "aria-label": "Selected span" }, close, this.head, bar, this.body);
  }

  /** @param {Node} node */
  set(node) {
    const other = node.span.span_id !== this.node?.span.span_id || node.span.trace_id !== this.node.span.trace_id;
    const json = JSON.stringify(node.span);
    if (!other && json === this.drawnJSON) {
      this.node = node;
      if (node.span.status === "running") this.fetch(0);
      return;
    }
    this.node = node;
    this.drawnJSON = json;
    if (other) {
      this.records = null;
      this.failure = "";
    }
    this.draw();
    this.fetch(other ? SETTLE : 0);
  }

  /** @param {number} delay */
  fetch(delay) {
    clearTimeout(this.timer);
    this.request.abort();
    const request = (this.request = new AbortController());
    this.timer = setTimeout(async () => {
      const s = /** @type {Node} */ (this.node).span;
      try {
        const records = /** @type {SpanRecords} */ (await get(`/api/spans/${s.trace_id}/${s.span_id}`, {}, request.signal));
        if (request.signal.aborted) return;
        const same = JSON.stringify(records) === JSON.stringify(this.records);
        this.records = records;
        this.failure = "";
        if (same) return;
      } catch (e) {
        if (request.signal.aborted) return;
        this.failure = errorText(e);
      }
      this.counts();
      if (this.tab === "logs" || this.tab === "audit" || this.tab === "metrics") this.drawBody();
    }, delay);
  }

  /** @param {Tab} tab */
  show(tab) {
    this.tab = tab;
    this.counts();
    this.drawBody();
    this.body.scrollTop = 0;
  }

  /** @param {KeyboardEvent} e */
  arrows(e) {
    const by = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0;
    if (!by) return;
    e.preventDefault();
    const at = tabs.findIndex(([id]) => id === this.tab);
    const next = /** @type {[Tab, string]} */ (tabs[(at + by + tabs.length) % tabs.length]);
    this.show(next[0]);
    this.buttons.get(next[0])?.focus();
  }

  draw() {
    const s = /** @type {Node} */ (this.node).span;
    fill(this.head,
      h("div", { class: "dtitle" }, kindTag(s.kind), h("h2", { title: s.name }, shortName(s.name, s.kind) || "unnamed"), statusTag(s.status)),
      h("div", { class: "dids quiet" }, "span ", h("code", null, s.span_id), copyButton(s.span_id, "span id"), copyLink()));
    this.counts();
    this.drawBody();
  }

  counts() {
    const r = this.records;
    const n = /** @type {Record<string, number|undefined>} */ ({ logs: r ? (r.logs ?? []).length : undefined, audit: r ? (r.audit ?? []).length : undefined, metrics: r ? (r.exemplars ?? []).length : undefined });
    for (const [id, label] of tabs) {
      const b = this.buttons.get(id), on = id === this.tab;
      if (!b) continue;
      b.setAttribute("aria-selected", String(on));
      b.tabIndex = on ? 0 : -1;
      const count = n[id];
      b.classList.toggle("none", count === 0);
      fill(b, label, count === undefined ? null : h("span", { class: "count" }, int(count)));
    }
    this.body.setAttribute("aria-labelledby", "tab-" + this.tab);
  }

  drawBody() {
    const n = this.node;
    if (!n) return;
    switch (this.tab) {
      case "details":
        return fill(this.body, ...details(n));
      case "content":
        return fill(this.body, ...content(n.span));
      case "attributes":
        return fill(this.body, attributes("Attributes", n.span.attributes, contentKeys), attributes("Resource", n.span.resource));
      default:
        return fill(this.body, this.related(n.span, this.tab));
    }
  }

  /** @param {Span} s @param {"logs"|"audit"|"metrics"} tab */
  related(s, tab) {
    const r = this.records;
    if (this.failure) return h("p", { class: "state bad" }, `Not readable: ${this.failure}`);
    if (!r) return h("p", { class: "state" }, "Loading…");
    if (tab === "logs") {
      const logs = r.logs ?? [];
      if (!logs.length) return h("p", { class: "state" }, "Nothing was logged within this span.");
      return h("div", null, ...logs.map((l) => h("details", { class: "record" },
        h("summary", null, levelTag(l.level), h("time", { class: "quiet num", datetime: l.timestamp, title: l.timestamp }, clock(l.timestamp, { ms: true }).split(" ").at(-1) ?? ""), h("span", { class: "preview" }, oneLine(l.message))), logDetails(l))),
      h("p", null, h("a", { href: logHref({ timestamp: "", level: "", message: "", trace_id: s.trace_id, span_id: s.span_id }) }, "Open on the page of logs")));
    }
    if (tab === "audit") {
      const audit = r.audit ?? [];
      if (!audit.length) return h("p", { class: "state" }, "The ledger holds no entry of this span.");
      return h("div", null, ...audit.map((e) => h("details", { class: "record" },
        h("summary", null, h("span", { class: "num quiet" }, "#" + int(e.index)), h("strong", null, e.action), resultTag(e.result)),
        entryDetails(e, { checkpoint: null }, this.signal), h("p", null, h("a", { href: entryHref(e) }, "Open in the ledger")))));
    }
    const ex = r.exemplars ?? [];
    if (!ex.length) return h("p", { class: "state" }, "No metric holds this span as its exemplar. A metric keeps the most recent few only.");
    return h("div", null, ...ex.map(exemplar));
  }
}

function copyLink() {
  const b = h("button", { type: "button", class: "copy", title: "Copy a link to this span" }, "link");
  b.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      b.textContent = "copied";
    } catch {
      b.textContent = "refused";
    }
    setTimeout(() => { b.textContent = "link"; }, 1500);
  });
  return b;
}

/** @param {Exemplar} e */
function exemplar(e) {
  const labels = Object.entries(e.labels ?? {}).filter(([k]) => k !== "trace_id" && k !== "span_id" && k !== "__name__");
  const selector = `${e.metric}{${labels.map(([k, v]) => `${k}=${JSON.stringify(v)}`).join(",")}}`;
  const seconds = e.metric.endsWith("_seconds");
  return h("details", { class: "record" },
    h("summary", null, h("strong", { class: "mono" }, e.metric), h("span", { class: "num" }, seconds ? duration(e.value * 1000) : String(e.value))),
    h("div", { class: "unfold" }, facts([["value", String(e.value)], ["time", e.timestamp], ...labels.map(([k, v]) => /** @type {[string, string]} */ ([k, v]))]),
      h("h4", null, "Query"), h("div", null, h("code", { class: "hash wrap" }, selector), copyButton(selector, "query")),
      now(selector)));
}

/**
 * What the metric says now, asked for by a button.
 * @param {string} selector
 */
function now(selector) {
  const out = h("div", { role: "status" });
  const ask = h("button", { type: "button", class: "btn small" }, "Value now");
  ask.addEventListener("click", async () => {
    try {
      // Of a histogram the count is the number to ask for.
      const query = /_(seconds|bytes)\{/.test(selector) ? `${selector} or ${selector.replace("{", "_count{")}` : selector;
      const body = await get("/prometheus/api/v1/query", { query }, new AbortController().signal);
      const rows = /** @type {{metric: Record<string, string>, value?: [number, string], histogram?: [number, {count: string, sum: string}]}[]} */ (body.data?.result ?? []);
      fill(out, rows.length === 0 ? h("p", { class: "quiet" }, "No series of this name and labels is there now.") : facts(rows.map((r) => [r.metric["__name__"] ?? "", reading(r)])));
    } catch (e) {
      fill(out, h("p", { class: "bad" }, errorText(e)));
    }
  });
  return h("div", { class: "now" }, ask, out);
}

/** @param {{value?: [number, string], histogram?: [number, {count: string, sum: string}]}} r */
function reading(r) {
  if (r.histogram) return `${r.histogram[1].count} observations, ${r.histogram[1].sum} in sum`;
  return r.value?.[1] ?? "";
}

/**
 * @param {Node} n
 * @returns {import("./dom.js").Child[]}
 */
function details(n) {
  const s = n.span, a = s.attributes ?? {};
  const attempts = a["kaizen.attempts"];
  return [
    trouble(s),
    facts([
      ["agent", s.agent_name || s.agent_id ? [s.agent_name || s.agent_id, s.agent_name && s.agent_id && s.agent_id !== s.agent_name ? h("span", { class: "quiet" }, ` ${s.agent_id}`) : null] : null],
      ["started", [h("time", { datetime: s.start, title: s.start }, clock(s.start, { ms: true }))]],
      ["duration", s.end ? duration(s.duration_ms) : "running"],
      ["first chunk", typeof s.first_chunk_ms === "number" && s.first_chunk_ms > 0 ? duration(s.first_chunk_ms) : null],
      ["model", s.model ? [s.model, s.response_model && s.response_model !== s.model ? h("span", { class: "quiet" }, ` answered by ${s.response_model}`) : null] : null],
      ["provider", s.provider], ["tool", s.tool_name],
      ["decision", oneLine(a["kaizen.decision"] ?? "")], ["reason", oneLine(a["kaizen.reason"] ?? "", 400)],
      ["attempts", typeof attempts === "number" && attempts > 1 ? int(attempts) : null],
      ["operation", s.operation],
      ["session", s.session_id ? h("a", { href: "/runs?" + new URLSearchParams({ session: s.session_id }) }, s.session_id) : null],
      ["user", s.user_id], ["run", s.run_id ? h("code", null, s.run_id) : null], ["service", s.service], ["scope", s.scope],
      ["parent", s.parent_span_id ? [spanLink(s.trace_id, s.parent_span_id, s.parent_span_id), n.orphan ? h("span", { class: "warn" }, " has not arrived") : null] : h("span", { class: "quiet" }, "none: a root")],
    ]),
    isModel(s) ? usage(s) : n.sum.models > 0 ? below(n) : null,
    events(s),
    (s.links ?? []).length ? [h("h3", null, "Links"), h("ul", { class: "plain" }, ...(s.links ?? []).map((l) => h("li", null, spanLink(l.trace_id, l.span_id, `${l.trace_id.slice(0, 8)} / ${l.span_id}`), l.attributes && Object.keys(l.attributes).length ? h("span", { class: "quiet" }, " " + oneLine(l.attributes)) : null)))] : null,
  ].flat();
}

/** @param {Span} s */
function trouble(s) {
  if (!isBad(s) && !s.status_message) return null;
  return h("div", { class: "errorbox " + s.status, role: "note" }, h("strong", null, s.error_type && s.error_type !== "_OTHER" ? s.error_type : s.status), h("p", null, s.status_message || "No message was recorded."));
}

/** @param {Span} s */
function usage(s) {
  const a = s.attributes ?? {};
  const from = [a["kaizen.cost.table"] ? `price book ${oneLine(a["kaizen.cost.table"])}` : "", a["kaizen.cost.rule"] ? `rule ${oneLine(a["kaizen.cost.rule"])}` : ""].filter(Boolean).join(", ");
  return h("section", null, h("h3", null, "Tokens and cost"),
    s.tokens ? tokenTable(s.tokens) : h("p", { class: "quiet" }, s.status === "running" ? "Known when the call has ended." : "The call reported no usage, so its tokens are unknown."),
    facts([["cost", typeof s.cost_usd === "number" ? h("span", { class: "num" }, usdExact(s.cost_usd)) : s.status === "running" ? dash("known when the call has ended") : h("span", { class: "warn" }, "unknown price")], ["priced by", from]]));
}

/** @param {Node} n */
function below(n) {
  const s = n.sum;
  return h("section", null, h("h3", null, `Model calls below: ${int(s.models)}`), tokenSum(s.tokens) ? tokenTable(s.tokens) : h("p", { class: "quiet" }, "None of them reported its tokens."),
    facts([["cost", s.unpriced >= s.models ? h("span", { class: "warn" }, "unknown price") : h("span", { class: "num" }, usdExact(s.cost))],
      ["not in it", s.unpriced > 0 && s.unpriced < s.models ? h("span", { class: "warn" }, plural(s.unpriced, "call without a known price", "calls without a known price")) : null]]));
}

/** @param {Tokens} t */
function tokenTable(t) {
  const sum = tokenSum(t);
  return h("table", { class: "tokens" }, h("tbody", null, ...tokenClasses.map(([k, label]) => h("tr", { class: t[k] ? null : "quiet" }, h("th", { scope: "row" }, label), h("td", { class: "num" }, int(t[k])),
    h("td", { class: "barcell" }, h("span", { class: "sharebar", "aria-hidden": "true", style: { "--share": `${sum ? (100 * t[k]) / sum : 0}%` } })))),
  h("tr", { class: "sum" }, h("th", { scope: "row" }, "total"), h("td", { class: "num" }, int(sum)), h("td"))));
}

/** @param {Span} s */
function events(s) {
  const list = s.events ?? [];
  if (!list.length) return null;
  return h("section", null, h("h3", null, "Events"), ...list.map((e) => {
    const a = e.attributes ?? {}, stack = a["exception.stacktrace"];
    const rest = Object.fromEntries(Object.entries(a).filter(([k]) => k !== "exception.stacktrace"));
    return h("details", { class: "record", open: e.name === "exception" },
      h("summary", null, h("time", { class: "quiet num", datetime: e.time, title: e.time }, clock(e.time, { ms: true }).split(" ").at(-1) ?? ""), h("strong", null, e.name), h("span", { class: "preview" }, oneLine(a["exception.message"] ?? rest, 100))),
      h("div", { class: "unfold" }, Object.keys(rest).length ? facts(Object.entries(rest).map(([k, v]) => [k, pretty(v)])) : null, typeof stack === "string" ? longText(stack) : null));
  }));
}

/** @param {unknown} v */
function words(v) {
  return v ? longText(typeof v === "string" ? v : pretty(v)) : h("p", { class: "quiet" }, "not recorded");
}

/** @param {Span} s @returns {import("./dom.js").Child[]} */
function content(s) {
  if (s.kind === "tool") {
    if (s.tool_arguments === undefined && s.tool_result === undefined) return [h("p", { class: "state" }, notRecorded)];
    return [h("h3", null, "Arguments"), value("arguments", s.tool_arguments), h("h3", null, "Result"), s.status === "running" ? h("p", { class: "quiet" }, "running") : value("result", s.tool_result)];
  }
  const task = s.attributes?.["kaizen.run.input"], answer = s.attributes?.["kaizen.run.output"];
  if (task || answer) return [h("h3", null, "Task"), words(task), h("h3", null, "Answer"), s.status === "running" ? h("p", { class: "quiet" }, "running") : words(answer)];
  const none = !s.input_messages && !s.output_messages && !s.system_instructions;
  if (none) return [h("p", { class: "state" }, isModel(s) ? notRecorded : "A span of this kind carries no messages. Its model calls and tools, below it, do.")];
  return [
    s.system_instructions?.length ? h("section", null, h("h3", null, "System instructions"), ...s.system_instructions.map(part)) : null,
    h("h3", null, "Input"), ...(s.input_messages?.map(message) ?? [h("p", { class: "quiet" }, "not recorded")]),
    h("h3", null, "Output"), ...(s.output_messages?.map(message) ?? [h("p", { class: "quiet" }, s.status === "running" ? "running" : "not recorded")]),
  ];
}

/**
 * @param {string} title
 * @param {Record<string, unknown>|null|undefined} a
 * @param {Set<string>} [hide]
 */
function attributes(title, a, hide) {
  const all = Object.entries(a ?? {}).sort(([x], [y]) => (x < y ? -1 : 1));
  const list = all.filter(([k]) => !hide?.has(k));
  return h("section", null, h("h3", null, title),
    list.length ? h("dl", { class: "facts attrs" }, ...list.flatMap(([k, v]) => [h("dt", null, k), h("dd", null, attribute(v))])) : h("p", { class: "quiet" }, "none"),
    all.length > list.length ? h("p", { class: "quiet" }, "Messages, arguments and results stand under Content.") : null);
}

/** @param {unknown} v */
function attribute(v) {
  const text = pretty(v);
  return text.length > 120 || text.includes("\n") ? longText(text, 600) : h("span", { class: "mono" }, text);
}
