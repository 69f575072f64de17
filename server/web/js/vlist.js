/**
 * A list of rows of one height of which only those near the view are in the
 * document, however many there are.
 */
import { h } from "./dom.js";

/** Rows kept beyond both edges of the view, so that a short scroll draws nothing. */
const OVERSCAN = 12;

/**
 * @template T
 */
export class VirtualList {
  /**
   * @param {number} rowHeight px
   * @param {(item: T, index: number) => HTMLElement} render
   * @param {AbortSignal} signal
   */
  constructor(rowHeight, render, signal) {
    this.rowHeight = rowHeight;
    this.render = render;
    /** @type {T[]} */
    this.items = [];
    this.spacer = h("div", { class: "vspace", role: "presentation" });
    this.element = h("div", { class: "vlist" }, this.spacer);
    /** @type {Map<number, HTMLElement>} */
    this.drawn = new Map();
    this.element.addEventListener("scroll", () => this.draw(), { passive: true, signal });
    const observer = new ResizeObserver(() => this.draw());
    observer.observe(this.element);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  /** @param {T[]} items Drawn anew, the scroll position kept. */
  set(items) {
    this.items = items;
    this.spacer.style.setProperty("height", `${items.length * this.rowHeight}px`);
    this.redraw();
  }

  /** Draws every visible row again. */
  redraw() {
    for (const el of this.drawn.values()) el.remove();
    this.drawn.clear();
    this.draw();
  }

  draw() {
    const top = this.element.scrollTop, height = this.element.clientHeight;
    const first = Math.max(0, Math.floor(top / this.rowHeight) - OVERSCAN);
    const last = Math.min(this.items.length - 1, Math.ceil((top + height) / this.rowHeight) + OVERSCAN);
    for (const [i, el] of this.drawn) {
      if (i >= first && i <= last) continue;
      el.remove();
      this.drawn.delete(i);
    }
    for (let i = first; i <= last; i++) {
      if (this.drawn.has(i)) continue;
      const el = this.render(/** @type {T} */ (this.items[i]), i);
      el.style.setProperty("top", `${i * this.rowHeight}px`);
      this.drawn.set(i, el);
      this.spacer.append(el);
    }
  }

  /**
   * Scrolls no further than needed.
   * @param {number} index
   */
  reveal(index) {
    const top = index * this.rowHeight, el = this.element;
    if (top < el.scrollTop) el.scrollTop = Math.max(0, top - this.rowHeight);
    else if (top + 2 * this.rowHeight > el.scrollTop + el.clientHeight) el.scrollTop = top + 2 * this.rowHeight - el.clientHeight;
    this.draw();
  }
}
