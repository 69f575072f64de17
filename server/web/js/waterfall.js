/**
 * The waterfall: a tree of spans beside a time axis. Only the rows in view are
 * in the document. The tree has the focus; the selected row is its active
 * descendant, so j, k and the arrows work without moving the focus.
 * @import {Node, Tree} from "./tree.js"
 * @import {Span} from "./types.js"
 */
import { h } from "./dom.js";
import { costOf, compact, duration, int, shortName, tokenSum, tokenTitle, usd } from "./format.js";
import { kindTag } from "./parts.js";
import { isBad, isErrorSource, isModel, ticks, visibleRows } from "./tree.js";
import { VirtualList } from "./vlist.js";

export const ROW = 26;

export class Waterfall {
  /**
   * @param {AbortSignal} signal
   * @param {(n: Node) => void} onSelect
   */
  constructor(signal, onSelect) {
    this.onSelect = onSelect;
    /** @type {Tree} */
    this.tree = { roots: [], nodes: [], byId: new Map(), start: 0, end: 0, orphans: 0 };
    /** @type {Set<string>} */
    this.collapsed = new Set();
    /** @type {((s: Span) => boolean)|null} */
    this.match = null;
    /** @type {[number, number]|null} */
    this.zoom = null;
    this.selected = "";
    /** @type {VirtualList<Node>} */
    this.list = new VirtualList(ROW, (n, i) => this.row(n, i), signal);
    const el = this.list.element;
    el.setAttribute("role", "tree");
    el.setAttribute("aria-label", "Spans");
    el.tabIndex = 0;
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.rail = h("canvas", { class: "rail", "aria-hidden": "true", title: "errors" });
    this.element = h("div", { class: "waterfall" }, this.axis, el, this.rail);
    el.addEventListener("keydown", (e) => this.arrow(e), { signal });
    this.rail.addEventListener("click", (e) => this.jumpTo(e.offsetY / this.railLength()), { signal });
    document.addEventListener("themechange", () => this.drawRail(), { signal });
    const observer = new ResizeObserver(() => {
      this.drawAxis();
      this.drawRail();
    });
    observer.observe(this.element);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  /** @param {Tree} tree */
  setTree(tree) {
    this.tree = tree;
    this.update();
  }

  /** Draws the rows anew, after a change of what is visible. */
  update() {
    this.list.set(visibleRows(this.tree, this.collapsed, this.match));
    this.drawAxis();
    this.drawRail();
    this.mark();
  }

  /** @param {string} id @param {boolean} [reveal] */
  select(id, reveal = true) {
    const n = this.tree.byId.get(id);
    if (!n) return;
    this.selected = id;
    let opened = false;
    for (let m = n.parent; m; m = m.parent) opened = this.collapsed.delete(m.span.span_id) || opened;
    if (opened) this.update();
    const i = this.list.items.indexOf(n);
    if (reveal && i >= 0) this.list.reveal(i);
    this.mark();
  }

  mark() {
    const el = this.list.element;
    el.querySelector(".wrow.selected")?.classList.remove("selected");
    el.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    const row = document.getElementById("row-" + this.selected);
    row?.classList.add("selected");
    row?.setAttribute("aria-selected", "true");
    if (row) el.setAttribute("aria-activedescendant", row.id);
    else el.removeAttribute("aria-activedescendant");
  }

  /** @param {number} by Moves the selection among the visible rows. */
  move(by) {
    const items = this.list.items;
    const at = items.findIndex((n) => n.span.span_id === this.selected);
    const n = items[Math.max(0, Math.min(items.length - 1, at < 0 ? 0 : at + by))];
    if (n) this.onSelect(n);
  }

  /** Folds the selected span, or goes to its parent. */
  left() {
    const n = this.tree.byId.get(this.selected);
    if (!n) return;
    if (n.children.length && !this.collapsed.has(this.selected)) this.toggle(n);
    else if (n.parent) this.onSelect(n.parent);
  }

  /** Unfolds the selected span, or goes to its first child. */
  right() {
    const n = this.tree.byId.get(this.selected);
    if (!n || !n.children.length) return;
    if (this.collapsed.has(this.selected)) this.toggle(n);
    else this.onSelect(/** @type {Node} */ (n.children[0]));
  }

  /** @param {Node} n */
  toggle(n) {
    if (!this.collapsed.delete(n.span.span_id)) this.collapsed.add(n.span.span_id);
    this.update();
  }

  /** Folds every span that has children below the roots, or unfolds all. */
  toggleAll() {
    if (this.collapsed.size > 0) this.collapsed.clear();
    else for (const n of this.tree.nodes) if (n.children.length && n.parent) this.collapsed.add(n.span.span_id);
    this.update();
  }

  /** The time axis covers the selected span only, or all again. */
  toggleZoom() {
    const n = this.tree.byId.get(this.selected);
    this.zoom = this.zoom || !n || n.end <= n.start ? null : [n.start, n.end];
    this.update();
  }

  /** @param {(s: Span) => boolean} test @param {number} by 1 or -1 @returns {Node|null} */
  find(test, by) {
    const nodes = this.tree.nodes;
    const at = nodes.findIndex((n) => n.span.span_id === this.selected);
    for (let k = 1; k <= nodes.length; k++) {
      const n = nodes[(((at + by * k) % nodes.length) + nodes.length) % nodes.length];
      if (n && test(n.span) && isErrorSource(n)) return n;
    }
    return null;
  }

  /** @param {KeyboardEvent} e */
  arrow(e) {
    const jump = Math.max(1, Math.floor(this.list.element.clientHeight / ROW) - 1);
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowDown: () => this.move(1), ArrowUp: () => this.move(-1), ArrowLeft: () => this.left(), ArrowRight: () => this.right(),
      PageDown: () => this.move(jump), PageUp: () => this.move(-jump), Home: () => this.move(-1e9), End: () => this.move(1e9),
    };
    const fn = keys[e.key];
    if (!fn || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    fn();
  }

  range() {
    const [a, b] = this.zoom ?? [this.tree.start, this.tree.end];
    return { from: a, length: Math.max(b - a, 1e-6) };
  }

  /** @param {Node} n @param {number} index */
  row(n, index) {
    const s = n.span, open = !this.collapsed.has(s.span_id), bad = isBad(s);
    const r = h("div", {
      class: `wrow st-${s.status}${bad && isErrorSource(n) ? " source" : ""}${s.span_id === this.selected ? " selected" : ""}`, role: "treeitem",
      id: "row-" + s.span_id, "aria-level": n.depth + 1, "aria-posinset": index + 1, "aria-setsize": this.list.items.length, "aria-selected": s.span_id === this.selected,
      "aria-expanded": n.children.length ? open : null, "data-span": s.span_id,
    });
    const gutter = h("div", { class: "gutter", style: { "--depth": String(Math.min(n.depth, 14)) } });
    if (n.children.length) {
      const caret = h("button", { type: "button", class: "caret", tabindex: "-1", "aria-label": open ? "fold" : "unfold" }, open ? "▾" : "▸");
      caret.addEventListener("click", (e) => {
        e.stopPropagation();
        this.toggle(n);
      });
      gutter.append(caret);
    } else {
      gutter.append(h("span", { class: "caret" }));
    }
    gutter.append(kindTag(s.kind), h("span", { class: "wname", title: s.name }, shortName(s.name, s.kind) || "unnamed"));
    const flag = this.flag(n, open);
    if (flag) gutter.append(flag);
    r.append(gutter, h("span", { class: "wnum opt" }, this.tokens(n)), h("span", { class: "wnum opt" }, this.cost(n)), h("span", { class: "wnum" }, s.end ? duration(s.duration_ms) : "running"), this.bar(n));
    r.addEventListener("click", () => this.onSelect(n));
    return r;
  }

  /** What must be seen even when the bar is out of sight. @param {Node} n @param {boolean} open */
  flag(n, open) {
    const s = n.span;
    if (isBad(s)) return h("span", { class: `flag s-${s.status}`, title: s.status_message || s.error_type || s.status }, s.status === "denied" ? "denied" : s.error_type && s.error_type !== "_OTHER" ? s.error_type : "error");
    if (!open && n.sum.errors > 0) return h("span", { class: "flag s-error" }, `${int(n.sum.errors)} failed below`);
    if (n.orphan) return h("span", { class: "flag s-denied", title: "its parent span has not arrived" }, "no parent");
    if (s.status === "cancelled") return h("span", { class: "flag s-cancelled" }, "cancelled");
    return null;
  }

  /** @param {Node} n */
  tokens(n) {
    const t = isModel(n.span) ? n.span.tokens : n.sum.models > 0 ? n.sum.tokens : null;
    const sum = tokenSum(t);
    return t && sum > 0 ? h("span", { title: tokenTitle(t) }, compact(sum)) : "";
  }

  /** @param {Node} n */
  cost(n) {
    if (isModel(n.span)) {
      if (n.span.status === "running") return "";
      return typeof n.span.cost_usd === "number" ? usd(n.span.cost_usd) : h("span", { class: "dash", title: "no price is known for this call" }, "unknown");
    }
    if (n.sum.models === 0) return "";
    const c = costOf(n.sum.cost, n.sum.unpriced, n.sum.models);
    return h("span", { class: c.known ? null : "dash", title: c.why }, c.text);
  }

  /** @param {Node} n */
  bar(n) {
    const { from, length } = this.range(), s = n.span;
    const left = (100 * (n.start - from)) / length, width = (100 * (n.end - n.start)) / length;
    const lane = h("div", { class: "lane" });
    if (left > 100 || left + width < 0) return lane;
    const l = Math.max(0, left), w = Math.min(100, left + width) - l;
    lane.append(h("span", { class: `wbar k-${s.kind} st-${s.status}`, style: { left: `${l.toFixed(3)}%`, width: `${Math.max(0, w).toFixed(3)}%` } }));
    const first = s.first_chunk_ms;
    if (typeof first === "number" && first > 0) {
      const at = left + (100 * first) / length;
      if (at >= 0 && at <= 100) lane.append(h("span", { class: "tick", title: `first chunk after ${duration(first)}`, style: { left: `${at.toFixed(3)}%` } }));
    }
    return lane;
  }

  drawAxis() {
    // The axis ends where the rows do, left of their scroll bar.
    const list = this.list.element;
    this.axis.style.setProperty("padding-right", `${list.offsetWidth - list.clientWidth}px`);
    const { from, length } = this.range();
    const lane = h("div", { class: "lane" });
    this.axis.replaceChildren(h("div", { class: "gutter" }, this.zoom ? "Span (zoomed)" : "Span"), h("span", { class: "wnum opt" }, "tokens"), h("span", { class: "wnum opt" }, "cost"), h("span", { class: "wnum" }, "time"), lane);
    for (const t of ticks(length, Math.max(2, Math.floor(lane.clientWidth / 46)))) {
      const at = (100 * t) / length;
      if (t === 0 || (lane.clientWidth * (100 - at)) / 100 > 44) lane.append(h("span", { style: { left: `${at.toFixed(3)}%` } }, duration(t + (from - this.tree.start)).replace(/\.0+ /, " ")));
    }
  }

  /** Where in the whole list failed spans are: one canvas, however many. */
  drawRail() {
    const c = this.rail, height = c.clientHeight, items = this.list.items;
    c.width = 8;
    c.height = height;
    const g = c.getContext("2d");
    if (!g || !items.length) return;
    g.fillStyle = getComputedStyle(c).color;
    const scale = this.railLength() / items.length;
    items.forEach((n, i) => {
      if (isBad(n.span) || (this.collapsed.has(n.span.span_id) && n.sum.errors)) g.fillRect(1, i * scale + Math.min(scale, ROW) / 2 - 1, 6, 3);
    });
  }

  /** How much of the rail stands for the list: no more than the rows take. */
  railLength() {
    return Math.min(this.rail.clientHeight, this.list.items.length * ROW);
  }

  /** @param {number} share */
  jumpTo(share) {
    const at = Math.min(this.list.items.length - 1, Math.floor(share * this.list.items.length));
    let best = -1;
    this.list.items.forEach((n, i) => {
      if (isBad(n.span) && (best < 0 || Math.abs(i - at) < Math.abs(best - at))) best = i;
    });
    const n = this.list.items[best < 0 ? at : best];
    if (n) this.onSelect(n);
  }
}
