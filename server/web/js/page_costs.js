/**
 * What model calls cost, by model, agent, provider, session or user.
 * @import {Context} from "./app.js"
 * @import {Costs, CostRow} from "./types.js"
 */
import { get } from "./api.js";
import { errorText, poll } from "./app.js";
import { dash, fill, h } from "./dom.js";
import { compact, costOf, int, plural, tokenClasses, tokenSum } from "./format.js";
import { sinceFilter } from "./listview.js";
import { costCell, howToSend } from "./parts.js";

const kinds = /** @type {[string, string][]} */ ([["model", "Model"], ["agent", "Agent"], ["provider", "Provider"], ["session", "Session"], ["user", "User"]]);

/** @param {Context} ctx */
export function costs(ctx) {
  let by = ctx.url.searchParams.get("by") ?? "model", since = ctx.url.searchParams.get("since") ?? "";
  if (!kinds.some(([k]) => k === by)) by = "model";
  const group = h("div", { class: "segments", role: "group", "aria-label": "Costs by" });
  const range = h("select", { name: "since" }, ...(sinceFilter.options ?? []).map(([v, label]) => h("option", { value: v }, label)));
  range.value = since;
  const body = h("div", null, h("p", { class: "state" }, "Loading…"));
  ctx.root.append(h("h1", { class: "visually-hidden" }, "Costs"),
    h("div", { class: "filters" }, group, h("label", null, h("span", null, "Since"), range)), body);
  const buttons = kinds.map(([k, label]) => {
    const b = h("button", { type: "button", class: "btn", "aria-pressed": String(k === by) }, label);
    b.addEventListener("click", () => {
      by = k;
      for (const [i, [other]] of kinds.entries()) buttons[i]?.setAttribute("aria-pressed", String(other === by));
      changed();
    });
    return b;
  });
  group.append(...buttons);
  range.addEventListener("change", () => {
    since = range.value;
    changed();
  });
  let drawn = "";
  const changed = () => {
    ctx.setQuery({ by: by === "model" ? "" : by, since });
    again();
  };
  const again = poll(ctx.signal, async () => {
    const asked = `${by} ${since}`;
    const data = /** @type {Costs} */ (await get("/api/costs", { by, since }, ctx.signal));
    const json = asked + JSON.stringify(data);
    if (asked !== `${by} ${since}` || json === drawn) return;
    drawn = json;
    fill(body, ...draw(data, since !== ""));
  }, (e) => fill(body, h("p", { class: "state bad" }, `Costs could not be read: ${errorText(e)}`)));
}

/**
 * @param {Costs} data
 * @param {boolean} filtered
 */
function draw(data, filtered) {
  const rows = data.rows ?? [];
  if (rows.length === 0) {
    return [h("div", { class: "state" }, filtered ? "No model calls in this time." : [h("h2", null, "No model calls yet"), howToSend()])];
  }
  const label = kinds.find(([k]) => k === data.by)?.[1] ?? data.by;
  const total = costOf(data.total_usd, data.unpriced_calls, data.model_calls);
  const max = Math.max(...rows.map((r) => r.cost_usd ?? 0));
  return [
    h("section", { class: "totals", "aria-label": "Totals" },
      h("div", { class: "total", title: total.why }, h("span", { class: "label" }, "Cost"), h("span", { class: "value" }, total.text), h("span", { class: "note" }, "US dollars")),
      h("div", { class: "total" }, h("span", { class: "label" }, "Model calls"), h("span", { class: "value" }, int(data.model_calls)), h("span", { class: "note" }, "")),
      h("div", { class: "total" }, h("span", { class: "label" }, "Unpriced"), h("span", { class: "value" }, int(data.unpriced_calls)),
        h("span", { class: "note" }, data.unpriced_calls > 0 ? h("span", { class: "warn" }, "their cost is unknown, not zero") : "every call has a price"))),
    h("div", { class: "scroller" }, h("table", { class: "list", "aria-label": `Costs by ${label.toLowerCase()}` },
      h("thead", null, h("tr", null, h("th", { scope: "col", class: "wide" }, label), h("th", { scope: "col", class: "bar opt" }, "Share"),
        h("th", { scope: "col", class: "num" }, "Cost"), h("th", { scope: "col", class: "num" }, "Calls"),
        ...tokenClasses.map(([, name]) => h("th", { scope: "col", class: "num opt2" }, name)), h("th", { scope: "col", class: "num opt2" }, "tokens"))),
      ...rows.map((r) => row(data.by, r, max)))),
  ];
}

/**
 * How many model calls of each agent or session have no known price: their
 * rows carry a sum only, and a sum alone would show an unknown cost as zero.
 * @param {"agent"|"session"} by
 * @param {Record<string, string>} params
 * @param {AbortSignal} signal
 * @returns {Promise<Map<string, number>>}
 */
export async function unpricedBy(by, params, signal) {
  const costs = /** @type {Costs} */ (await get("/api/costs", { by, since: params["since"] ?? "" }, signal));
  return new Map((costs.rows ?? []).map((r) => [r.key, r.unpriced_calls]));
}

/** @param {string} by @param {CostRow} r @param {number} max */
function row(by, r, max) {
  const href = by === "agent" || by === "session" || by === "user" ? `/runs?${new URLSearchParams({ [by]: r.key })}` : "";
  const name = r.key === "" ? h("span", { class: "quiet" }, "not known") : r.key;
  const share = max > 0 && r.cost_usd ? r.cost_usd / max : 0;
  const none = tokenSum(r.tokens) === 0 && r.model_calls > 0;
  return h("tbody", null, h("tr", null,
    h("td", { class: "wide" }, href && r.key ? h("a", { href, "data-row": true, class: "rowlink" }, name) : h("span", { "data-row": true, tabindex: "-1", class: "name" }, name),
      r.unpriced_calls > 0 ? h("span", { class: "sub warn" }, `${plural(r.unpriced_calls, "call")} unpriced`) : null),
    h("td", { class: "bar opt" }, h("span", { class: "sharebar", "aria-hidden": "true", style: { "--share": `${(share * 100).toFixed(2)}%` } })),
    h("td", { class: "num" }, costCell(r.cost_usd, r.unpriced_calls, r.model_calls)),
    h("td", { class: "num" }, int(r.model_calls)),
    ...tokenClasses.map(([k]) => h("td", { class: "num opt2" }, none ? dash("no call reported its tokens") : h("span", { title: int(r.tokens[k]) }, compact(r.tokens[k])))),
    h("td", { class: "num opt2" }, none ? dash("no call reported its tokens") : h("span", { title: int(tokenSum(r.tokens)) }, compact(tokenSum(r.tokens))))));
}
