/**
 * Draws a trace as a conversation. Blocks are added as they come into view, so
 * a long run opens as fast as a short one.
 * @import {Block} from "./transcript.js"
 * @import {Node, Tree} from "./tree.js"
 * @import {Span} from "./types.js"
 */
import { message, notRecorded, value } from "./content.js";
import { h, longText } from "./dom.js";
import { compact, costOf, duration, int, oneLine, pretty, shortName, tokenSum } from "./format.js";
import { kindTag, statusTag } from "./parts.js";
import { isBad } from "./tree.js";
import { transcript } from "./transcript.js";

/** Blocks drawn at a time. */
const CHUNK = 80;

export class TranscriptView {
  /**
   * @param {AbortSignal} signal
   * @param {(n: Node) => void} onSelect
   */
  constructor(signal, onSelect) {
    this.onSelect = onSelect;
    /** @type {Block[]} */
    this.blocks = [];
    /** The blocks drawn are those from first up to, not with, drawn. */
    this.first = 0;
    this.drawn = 0;
    this.selected = "";
    this.shape = "";
    this.notice = h("p", { class: "notice", hidden: true });
    this.flow = h("div", { class: "flow" });
    this.earlier = h("button", { type: "button", class: "btn", hidden: true }, "Earlier");
    this.earlier.addEventListener("click", () => this.back());
    this.end = h("div", { class: "sentinel", "aria-hidden": "true" });
    this.element = h("div", { class: "transcript", tabindex: "0", role: "region", "aria-label": "Transcript" }, this.notice, this.earlier, this.flow, this.end);
    this.observer = new IntersectionObserver((entries) => {
      if (entries.some((e) => e.isIntersecting)) this.grow();
    }, { root: this.element, rootMargin: "800px" });
    this.observer.observe(this.end);
    signal.addEventListener("abort", () => this.observer.disconnect());
    this.element.addEventListener("click", (e) => {
      const t = e.target instanceof Element ? e.target : null;
      if (!t || t.closest("summary, a, button, pre") || String(getSelection())) return;
      const n = this.tree?.byId.get(t.closest("[data-span]")?.getAttribute("data-span") ?? "");
      if (n) this.onSelect(n);
    }, { signal });
  }

  /** @param {Tree} tree */
  setTree(tree) {
    this.tree = tree;
    const { blocks, recorded, unrecorded } = transcript(tree);
    // What is drawn already stays, unless it changed: a live run grows at its end.
    const shape = (/** @type {Block} */ b) => `${b.type} ${b.span} ${b.node.span.status} ${b.node.span.end}`;
    let same = this.first;
    while (same < this.drawn && same < blocks.length && shape(/** @type {Block} */ (this.blocks[same])) === shape(/** @type {Block} */ (blocks[same]))) same++;
    while (this.drawn > same) {
      this.flow.lastElementChild?.remove();
      this.drawn--;
    }
    this.blocks = blocks;
    this.notice.hidden = unrecorded === 0;
    this.notice.textContent = recorded === 0 ? notRecorded : `${int(unrecorded)} of ${int(recorded + unrecorded)} model calls came without content.`;
    this.grow();
  }

  /** @param {number} [upTo] */
  grow(upTo = this.drawn + CHUNK) {
    this.earlier.hidden = this.first === 0;
    const end = Math.min(this.blocks.length, upTo);
    for (; this.drawn < end; this.drawn++) this.flow.append(this.block(/** @type {Block} */ (this.blocks[this.drawn])));
    this.end.hidden = this.drawn === this.blocks.length;
    // The sentinel only reports when it enters the view; if it is still there, go on.
    if (!this.end.hidden) {
      this.observer.unobserve(this.end);
      this.observer.observe(this.end);
    }
  }

  /** Draws the blocks before the first one drawn; what is in view stays where it is. */
  back() {
    const from = Math.max(0, this.first - CHUNK), height = this.element.scrollHeight;
    this.flow.prepend(...this.blocks.slice(from, this.first).map((b) => this.block(b)));
    this.first = from;
    this.earlier.hidden = from === 0;
    this.element.scrollTop += this.element.scrollHeight - height;
  }

  /** @param {string} id @param {boolean} [reveal] */
  select(id, reveal = true) {
    this.selected = id;
    for (const el of this.flow.querySelectorAll(".selected")) el.classList.remove("selected");
    const at = this.blocks.findIndex((b) => b.span === id);
    if (at < 0) return;
    if (at >= this.drawn + CHUNK || at < this.first) {
      // Far away: begin anew a little above it, so that the document stays small.
      this.first = this.drawn = Math.max(0, at - 10);
      this.flow.replaceChildren();
    }
    if (at >= this.drawn) this.grow(at + CHUNK);
    this.flow.children[at - this.first]?.classList.add("selected");
    if (reveal) this.flow.children[at - this.first]?.scrollIntoView({ block: "nearest" });
  }

  /** @param {number} by Moves the selection to the next block of another span. */
  move(by) {
    const from = this.blocks.findIndex((b) => b.span === this.selected);
    for (let i = from < 0 ? (by > 0 ? 0 : this.blocks.length - 1) : from + by; i >= 0 && i < this.blocks.length; i += by) {
      const b = /** @type {Block} */ (this.blocks[i]);
      if (b.span !== this.selected && b.type !== "end") {
        this.onSelect(b.node);
        return;
      }
    }
  }

  /** @param {Block} b */
  block(b) {
    const el = h("div", { class: `block b-${b.type}${b.span === this.selected ? " selected" : ""}`, "data-span": b.span, style: { "--depth": String(Math.min(b.depth, 6)) } }, this.inner(b));
    return el;
  }

  /** @param {Block} b */
  inner(b) {
    const s = b.node.span;
    switch (b.type) {
      case "agent":
        return h("div", { class: "agenthead" }, h("span", { class: "agentname" }, b.agent), b.caller && b.caller !== b.agent ? h("span", { class: "quiet" }, `called by ${b.caller}`) : null, statusTag(s.status), figures(b.node), said("task", s.attributes?.["kaizen.run.input"]));
      case "end":
        if (s.status === "running") return h("span", { class: "quiet" }, `${b.agent} is running`);
        return h("span", { class: "quiet" }, `${b.agent} ended `, statusTag(s.status), isBad(s) ? trouble(b.node) : null, said("answer", s.attributes?.["kaizen.run.output"]));
      case "message":
        return message({ role: b.role ?? "", parts: b.parts ?? [], ...(b.finish ? { finish_reason: b.finish } : {}) });
      case "tool":
        return h("div", { class: "toolcard st-" + s.status },
          h("div", { class: "toolhead" }, kindTag("tool"), h("strong", null, s.tool_name || shortName(s.name, s.kind)), h("span", { class: "quiet num" }, duration(s.duration_ms)), s.status === "ok" ? null : statusTag(s.status)),
          h("div", { class: "pair" }, h("span", { class: "quiet" }, "in"), value("arguments", b.args)),
          isBad(s) ? trouble(b.node) : h("div", { class: "pair" }, h("span", { class: "quiet" }, "out"), s.status === "running" ? "running" : value("result", b.result)));
      case "unrecorded":
        return h("span", { class: "quiet" }, `${s.model || "model"} answered; content not recorded`, s.tokens ? ` (${compact(tokenSum(s.tokens))} tokens)` : "");
      default:
        return h("div", { class: "step" }, kindTag(s.kind), h("span", null, shortName(s.name, s.kind)), s.status === "ok" ? null : statusTag(s.status), isBad(s) ? trouble(b.node) : reason(s));
    }
  }
}

/**
 * What a run was given or gave back, where that was recorded.
 * @param {string} label
 * @param {unknown} text
 */
function said(label, text) {
  return text ? h("div", { class: "said" }, h("span", { class: "quiet" }, label), longText(typeof text === "string" ? text : pretty(text))) : null;
}

/**
 * Why a permission was given, work was handed on, and the like.
 * @param {Span} s
 */
function reason(s) {
  const a = s.attributes ?? {};
  const text = [a["kaizen.decision"], a["kaizen.reason"]].filter(Boolean).map((v) => oneLine(v)).join(": ");
  return text ? h("span", { class: "quiet" }, text) : null;
}

/** @param {Node} n */
function trouble(n) {
  const s = n.span;
  return h("span", { class: `trouble s-${s.status}` }, [s.error_type, s.status_message].filter(Boolean).join(": ") || "failed without a message");
}

/** @param {Node} n */
function figures(n) {
  const c = costOf(n.sum.cost, n.sum.unpriced, n.sum.models);
  return h("span", { class: "quiet num" }, [n.span.end ? duration(n.span.duration_ms) : "", n.sum.models ? `${compact(tokenSum(n.sum.tokens))} tokens` : "", n.sum.models ? c.text : ""].filter(Boolean).join(" · "));
}

