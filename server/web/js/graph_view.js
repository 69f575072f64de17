/**
 * Draws the graph of agents as SVG, with the same facts in a table below it.
 * @import {AgentEdge, AgentGraph, Placed} from "./graph.js"
 * @import {Tree} from "./tree.js"
 */
import { fill, h, svg } from "./dom.js";
import { costOf, int, plural } from "./format.js";
import { agentGraph, layers } from "./graph.js";
import { costCell, statusTag } from "./parts.js";

/** Measures of the drawing, px. */
const W = 188, H = 62, GAPX = 28, GAPY = 64, PAD = 24;

export class GraphView {
  /** @param {(span: string) => void} onSelect */
  constructor(onSelect) {
    this.onSelect = onSelect;
    this.element = h("div", { class: "graphview", tabindex: "0", role: "region", "aria-label": "Agents of this run" });
    this.drawn = "";
  }

  /** @param {Tree} tree */
  setTree(tree) {
    const g = agentGraph(tree);
    const json = JSON.stringify([[...g.nodes.values()].map((n) => ({ ...n, toolNames: [...n.toolNames] })), g.edges]);
    if (json === this.drawn) return; // a live update that changes nothing keeps focus and scroll
    this.drawn = json;
    if (g.nodes.size === 0) {
      fill(this.element, h("p", { class: "state" }, "No span of this run names an agent."));
      return;
    }
    fill(this.element, h("div", { class: "scroller" }, this.draw(g)), legend(), this.table(g));
  }

  /** @param {AgentGraph} g */
  draw(g) {
    const rows = layers(g), widest = Math.max(...rows.map((r) => r.length));
    const width = widest * (W + GAPX) - GAPX + 2 * PAD, height = rows.length * (H + GAPY) - GAPY + 2 * PAD;
    /** @type {Map<string, {x: number, y: number, layer: number}>} */
    const at = new Map();
    for (const [l, row] of rows.entries()) {
      const offset = (width - (row.length * (W + GAPX) - GAPX)) / 2;
      for (const p of row) at.set(p.node.name, { x: offset + p.row * (W + GAPX), y: PAD + l * (H + GAPY), layer: l });
    }
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "graph", role: "group", "aria-label": "Graph of agents" },
      svg("defs", null, ...["call", "handoff"].map((k) => svg("marker", { id: "arrow-" + k, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" },
        svg("path", { d: "M0 0 L8 4 L0 8 Z", class: "head e-" + k })))));
    for (const e of g.edges) {
      const a = at.get(e.from), b = at.get(e.to);
      if (a && b) root.append(this.edge(e, a, b));
    }
    for (const p of rows.flat()) root.append(this.node(p, /** @type {{x: number, y: number}} */ (at.get(p.node.name))));
    return root;
  }

  /**
   * @param {AgentEdge} e
   * @param {{x: number, y: number, layer: number}} a
   * @param {{x: number, y: number, layer: number}} b
   */
  edge(e, a, b) {
    let d, lx, ly;
    if (b.layer > a.layer) {
      const x1 = a.x + W / 2, y1 = a.y + H, x2 = b.x + W / 2, y2 = b.y - 2, my = (y1 + y2) / 2;
      d = `M${x1} ${y1} C${x1} ${my} ${x2} ${my} ${x2} ${y2}`;
      [lx, ly] = [(x1 + x2) / 2, my];
    } else {
      // Sideways or back up: around the right-hand side.
      const x1 = a.x + W, y1 = a.y + H / 2, x2 = b.x + W + 2, y2 = b.y + H / 2 + 8, out = Math.max(x1, x2) + 26;
      d = `M${x1} ${y1} C${out} ${y1} ${out} ${y2} ${x2} ${y2}`;
      [lx, ly] = [out - 8, (y1 + y2) / 2];
    }
    const label = e.count > 1 ? `${int(e.count)}×` : "";
    return svg("g", { class: "edge" }, svg("title", null, `${e.from} ${e.kind === "call" ? "calls" : "hands off to"} ${e.to}, ${plural(e.count, "time")}`),
      svg("path", { d, class: "line e-" + e.kind, "marker-end": `url(#arrow-${e.kind})` }),
      label ? svg("text", { x: lx, y: ly + 4, class: "elabel" }, label) : null);
  }

  /** @param {Placed} p @param {{x: number, y: number}} at */
  node(p, at) {
    const n = p.node, cost = costOf(n.cost, n.unpriced, n.models);
    const line = [n.runs > 1 ? plural(n.runs, "run") : "", n.models ? plural(n.models, "call") : "", n.tools ? plural(n.tools, "tool call") : ""].filter(Boolean).join(" · ");
    const el = svg("g", { class: `gnode st-${n.status}`, tabindex: "0", role: "button", "aria-label": `${n.name}, ${n.status}, ${line}`, transform: `translate(${at.x} ${at.y})` },
      svg("title", null, n.name), svg("rect", { width: W, height: H, rx: 3, class: "gbox" }), svg("rect", { width: 4, height: H, rx: 1, class: "gstatus" }),
      svg("text", { x: 14, y: 20, class: "gname" }, cut(n.name, 23)), svg("text", { x: 14, y: 37, class: "gline" }, cut(line, 30)),
      svg("text", { x: 14, y: 53, class: "gline" }, [n.status === "ok" ? "" : n.status, n.models ? (cost.known ? cost.text : "cost unknown") : "", n.errors ? `${int(n.errors)} failed` : ""].filter(Boolean).join(" · ")));
    el.addEventListener("click", () => this.onSelect(n.span));
    el.addEventListener("keydown", (e) => {
      if (e.key !== "Enter" && e.key !== " ") return;
      e.preventDefault();
      this.onSelect(n.span);
    });
    return el;
  }

  /** @param {AgentGraph} g */
  table(g) {
    const select = (/** @type {string} */ span, /** @type {string} */ text) => {
      const b = h("button", { type: "button", class: "rowlink" }, text);
      b.addEventListener("click", () => this.onSelect(span));
      return b;
    };
    const ways = (/** @type {AgentEdge[]} */ list, /** @type {"from"|"to"} */ end) => list.map((e) => `${e[end]}${e.kind === "handoff" ? " (handoff)" : ""}${e.count > 1 ? ` ${e.count}×` : ""}`).join(", ");
    return h("div", { class: "scroller" }, h("table", { class: "list", "aria-label": "Agents" },
      h("thead", null, h("tr", null, ...["Agent", "Status"].map((t) => h("th", { scope: "col" }, t)), h("th", { scope: "col", class: "num" }, "Runs"),
        h("th", { scope: "col", class: "num opt2" }, "Calls"), h("th", { scope: "col", class: "num" }, "Cost"), h("th", { scope: "col", class: "opt2" }, "Called by"), h("th", { scope: "col", class: "opt2" }, "Tools"))),
      h("tbody", null, ...[...g.nodes.values()].map((n) => h("tr", null,
        h("td", null, select(n.span, n.name)), h("td", null, statusTag(n.status)), h("td", { class: "num" }, int(n.runs)), h("td", { class: "num opt2" }, int(n.models)),
        h("td", { class: "num" }, costCell(n.cost, n.unpriced, n.models)), h("td", { class: "opt2" }, ways(g.edges.filter((e) => e.to === n.name), "from") || h("span", { class: "quiet" }, "nobody: it starts here")),
        h("td", { class: "opt2" }, [...n.toolNames].map(([t, c]) => (c > 1 ? `${t} ${c}×` : t)).join(", ")))))));
  }
}

function legend() {
  const sample = (/** @type {string} */ kind) => svg("svg", { width: 34, height: 10, "aria-hidden": "true" }, svg("path", { d: "M1 5 H30", class: "line e-" + kind }));
  return h("p", { class: "legend" }, sample("call"), " calls ", sample("handoff"), " hands off to");
}

/** @param {string} s @param {number} n */
function cut(s, n) {
  return s.length > n ? s.slice(0, n - 1) + "…" : s;
}
