/**
 * One run: header, the three views of its trace, and the panel of the selected
 * span. The address holds the view (?view=) and the span (#span id).
 * @import {Context} from "./app.js"
 * @import {Node, Tree} from "./tree.js"
 * @import {Span, TraceSummary} from "./types.js"
 */
import { get } from "./api.js";
import { errorText, poll } from "./app.js";
import { copyButton, fill, h } from "./dom.js";
import { duration, int, plural, shortId, shortName } from "./format.js";
import { Detail } from "./detail.js";
import { GraphView } from "./graph_view.js";
import { costCell, statusTag, timeCell, tokensCell } from "./parts.js";
import { buildTree, costliest, isBad } from "./tree.js";
import { TranscriptView } from "./transcript_view.js";
import { Waterfall } from "./waterfall.js";

/** @typedef {"waterfall"|"agents"|"transcript"} View */

const views = /** @type {[View, string][]} */ ([["waterfall", "Waterfall"], ["agents", "Agents"], ["transcript", "Transcript"]]);

/**
 * @param {Context} ctx
 * @param {RegExpExecArray} match
 */
export function run(ctx, match) {
  new RunPage(ctx, /** @type {string} */ (match[1]));
}

class RunPage {
  /**
   * @param {Context} ctx
   * @param {string} trace
   */
  constructor(ctx, trace) {
    this.ctx = ctx;
    this.trace = trace;
    const asked = ctx.url.searchParams.get("view");
    /** @type {View} */
    this.view = views.find(([v]) => v === asked)?.[0] ?? "waterfall";
    this.selected = ctx.url.hash.slice(1);
    /** @type {Tree|null} */
    this.tree = null;
    this.drawn = "";
    this.query = "";
    /** The span that the views show as selected. */
    this.applied = "";
    /** Whether the selection is somebody's choice, and not the page's own. */
    this.chosen = this.selected !== "";
    /** @type {HTMLElement|null} */
    this.errors = null;
    const select = (/** @type {Node} */ n) => this.select(n.span.span_id);
    this.waterfall = new Waterfall(ctx.signal, select);
    this.transcript = new TranscriptView(ctx.signal, select);
    this.graph = new GraphView((id) => this.select(id));
    this.detail = new Detail(ctx.signal, () => this.close());
    this.head = h("header", { class: "runhead" }, h("p", { class: "state" }, "Loading…"));
    this.stage = h("div", { class: "stage" });
    this.panes = h("div", { class: "panes" }, this.stage);
    this.bar = this.toolbar();
    this.bar.hidden = true;
    ctx.root.classList.add("runpage");
    ctx.root.append(this.head, this.bar, this.panes);
    this.keys(ctx.keys);
    addEventListener("hashchange", () => this.select(location.hash.slice(1), true), { signal: ctx.signal });
    poll(ctx.signal, () => this.load(), (e) => {
      fill(this.head, h("p", { class: "state bad", role: "alert" }, `Run ${shortId(trace)} could not be read: ${errorText(e)}. `, h("a", { href: "/runs" }, "All runs")));
    });
  }

  async load() {
    const body = await get("/api/traces/" + this.trace, {}, this.ctx.signal);
    const summary = /** @type {TraceSummary} */ (body.trace), spans = /** @type {Span[]} */ (body.spans ?? []);
    const running = summary.status === "running" || spans.some((s) => s.status === "running");
    const last = spans.at(-1);
    const json = running ? "" : `${spans.length} ${summary.end} ${last?.span_id} ${last?.end} ${summary.log_records} ${summary.audit_entries}`;
    // Late spans may follow the end for a while; after that the run is history.
    const more = running || !(Date.now() - Date.parse(summary.end ?? "") > 20000);
    if (json && json === this.drawn) return more;
    this.drawn = json;
    this.tree = buildTree(spans, running ? Date.now() : NaN);
    this.header(summary, this.tree);
    this.bar.hidden = false;
    this.draw();
    return more;
  }

  draw() {
    const t = this.tree;
    if (!t) return;
    const el = this.view === "waterfall" ? this.waterfall : this.view === "agents" ? this.graph : this.transcript;
    if (this.stage.firstElementChild !== el.element) this.stage.replaceChildren(el.element);
    el.setTree(t);
    if (!this.selected && innerWidth >= 1000) this.selected = (t.nodes.find((n) => isBad(n.span) && n.sum.errors === 1) ?? t.roots[0])?.span.span_id ?? "";
    this.apply(this.selected !== this.applied);
    for (const b of this.bar.querySelectorAll("[data-view]")) b.setAttribute("aria-pressed", String(b.getAttribute("data-view") === this.view));
  }

  /** Shows what is selected. @param {boolean} reveal */
  apply(reveal) {
    const n = this.tree?.byId.get(this.selected);
    this.applied = this.selected;
    this.waterfall.selected = this.selected;
    if (n) {
      this.detail.set(n);
      if (!this.detail.element.isConnected) this.panes.append(this.detail.element);
    }
    this.panes.classList.toggle("withdetail", Boolean(n));
    // After the panel has taken its room: what is revealed must not end up below it.
    if (this.view === "waterfall") this.waterfall.select(this.selected, reveal);
    if (this.view === "transcript") this.transcript.select(this.selected, reveal && this.chosen);
  }

  /** @param {string} id @param {boolean} [fromAddress] */
  select(id, fromAddress = false) {
    if (!this.tree?.byId.has(id)) return;
    this.selected = id;
    this.chosen = true;
    if (!fromAddress) this.address();
    this.apply(true);
  }

  close() {
    this.selected = "";
    this.detail.element.remove();
    this.panes.classList.remove("withdetail");
    this.waterfall.selected = "";
    this.waterfall.mark();
    this.address();
    /** @type {HTMLElement|null} */ (this.stage.querySelector("[tabindex='0']"))?.focus({ preventScroll: true });
  }

  address() {
    this.ctx.setQuery({ view: this.view === "waterfall" ? "" : this.view }, this.selected);
  }

  /** @param {View} v */
  show(v) {
    this.view = v;
    this.address();
    this.draw();
    this.apply(true);
    /** @type {HTMLElement|null} */ (this.stage.querySelector("[tabindex='0']"))?.focus({ preventScroll: true });
  }

  /** @param {number} by */
  nextError(by) {
    const n = this.waterfall.find(isBad, by);
    if (n) this.select(n.span.span_id);
  }

  toolbar() {
    const button = (/** @type {string} */ label, /** @type {string} */ title, /** @type {() => void} */ fn) => {
      const b = h("button", { type: "button", class: "btn", title }, label);
      b.addEventListener("click", fn);
      return b;
    };
    const group = h("div", { class: "segments", role: "group", "aria-label": "View" }, ...views.map(([v, label], i) => {
      const b = button(label, `${label} (${i + 1})`, () => this.show(v));
      b.setAttribute("data-view", v);
      return b;
    }));
    const search = h("input", { type: "search", "data-search": true, placeholder: "/ name, tool, model, error", "aria-label": "Search in this run", autocomplete: "off", spellcheck: "false" });
    search.addEventListener("input", () => {
      this.query = search.value.trim().toLowerCase();
      this.waterfall.match = this.query ? (s) => [s.name, s.tool_name, s.model, s.agent_name, s.error_type, s.status_message, s.span_id].some((f) => f?.toLowerCase().includes(this.query)) : null;
      if (this.view !== "waterfall") this.show("waterfall");
      else this.waterfall.update();
      search.focus();
    });
    this.errors = button("Next error", "Next error (e)", () => this.nextError(1));
    return h("div", { class: "runbar" }, group, search, this.errors,
      h("span", { class: "opt2 tools2" }, button("Costliest", "Costliest model call ($)", () => this.toCostliest()), button("Fold", "Fold or unfold all (x)", () => this.waterfall.toggleAll()), button("Zoom", "Zoom to the span, and back (z)", () => this.waterfall.toggleZoom())));
  }

  toCostliest() {
    const n = this.tree && costliest(this.tree);
    if (n) this.select(n.span.span_id);
  }

  /** @param {TraceSummary} s @param {Tree} tree */
  header(s, tree) {
    document.title = `${shortName(s.name) || "Run"} · Kaizen`;
    const errors = tree.nodes.reduce((n, x) => n + (isBad(x.span) ? 1 : 0), 0);
    if (this.errors) this.errors.hidden = errors === 0;
    const item = (/** @type {string} */ label, /** @type {import("./dom.js").Child} */ v) => h("div", { class: "fig" }, h("dt", null, label), h("dd", null, v));
    fill(this.head,
      h("div", { class: "runtitle" }, h("a", { href: "/runs", class: "up", title: "All runs (u)" }, "Runs"), h("h1", { title: s.name }, shortName(s.name) || "unnamed"), statusTag(s.status),
        h("span", { class: "quiet tid" }, h("code", { title: s.trace_id }, shortId(s.trace_id)), copyButton(s.trace_id, "trace id"))),
      h("dl", { class: "figs" },
        item("started", timeCell(s.start)),
        item("duration", s.status === "running" ? `${duration(Date.now() - Date.parse(s.start))} so far` : duration(s.duration_ms)),
        item("cost", costCell(s.cost_usd, s.unpriced_calls, s.model_calls)), item("tokens", tokensCell(s.tokens, s.model_calls)),
        item("model calls", int(s.model_calls)), item("tool calls", int(s.tool_calls)), item("spans", int(s.spans)),
        item("failed", errors ? h("span", { class: "bad" }, plural(errors, "span")) : "0"),
        item("agents", (s.agents ?? []).length ? agentList(s.agents ?? []) : "none named"),
        s.session_id ? item("session", h("a", { href: "/runs?" + new URLSearchParams({ session: s.session_id }) }, s.session_id)) : null,
        s.user_id ? item("user", s.user_id) : null,
        item("logs", s.log_records ? h("a", { href: "/logs?" + new URLSearchParams({ trace_id: s.trace_id }) }, int(s.log_records)) : "0"),
        item("audit", s.audit_entries ? h("a", { href: "/audit?" + new URLSearchParams({ trace: s.trace_id }) }, int(s.audit_entries)) : "0")),
      tree.orphans > 0 ? h("p", { class: "notice" }, `${plural(tree.orphans, "span")} came without their parents; they stand as roots of their own.`) : null,
      tree.nodes.length < s.spans ? h("p", { class: "notice" }, `The answer holds ${int(tree.nodes.length)} of ${int(s.spans)} spans.`) : null);
  }

  /** @param {Map<string, () => void>} keys */
  keys(keys) {
    const move = (/** @type {number} */ by) => () => (this.view === "transcript" ? this.transcript.move(by) : this.waterfall.move(by));
    const set = /** @type {[string, () => void][]} */ ([
      ["j", move(1)], ["k", move(-1)], ["h", () => this.waterfall.left()], ["l", () => this.waterfall.right()],
      ["e", () => this.nextError(1)], ["E", () => this.nextError(-1)], ["$", () => this.toCostliest()],
      ["x", () => this.waterfall.toggleAll()], ["z", () => this.waterfall.toggleZoom()], ["u", () => this.ctx.navigate("/runs")],
      ["1", () => this.show("waterfall")], ["2", () => this.show("agents")], ["3", () => this.show("transcript")],
      ["Escape", () => this.close()],
    ]);
    for (const [k, fn] of set) keys.set(k, fn);
  }
}

/** @param {string[]} names */
function agentList(names) {
  const shown = names.slice(0, 3).join(", ");
  return h("span", { title: names.join(", ") }, names.length > 3 ? `${shown} and ${names.length - 3} more` : shown);
}

