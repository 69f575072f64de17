/**
 * A live list: filters in the address, rows updated in place by key, older
 * rows on demand. Rows that did not change keep their elements, so selection,
 * focus, unfolded details and the scroll position survive an update.
 * @import {Context} from "./app.js"
 * @import {Child} from "./dom.js"
 */
import { errorText, poll } from "./app.js";
import { fill, h } from "./dom.js";

/**
 * @template T
 * @typedef {object} Column
 * @property {string} label
 * @property {(item: T) => Child} cell
 * @property {string} [class] num, wide, opt (hidden below 1000 px), opt2 (hidden below 700 px)
 * @property {string} [title]
 */

/**
 * @typedef {object} Filter
 * @property {string} name The API's parameter, and the address's.
 * @property {string} label
 * @property {"search"|"text"|"select"} type
 * @property {[string, string][]} [options] value, label
 * @property {RegExp} [pattern] What a value must look like before it is asked for.
 * @property {string} [initial] Value when the address has none.
 */

/**
 * @template T
 * @typedef {object} ListSpec
 * @property {string} label What the table lists.
 * @property {Filter[]} filters
 * @property {(params: Record<string, string>, cursor: string, limit: number) => Promise<{items: T[], next: string}>} fetch
 * @property {(item: T) => string} key
 * @property {Column<T>[]} columns The first one holds the row's link or button.
 * @property {(item: T) => string} [href] Where a row leads.
 * @property {(item: T) => Child} [details] What a row unfolds to.
 * @property {(item: T) => string} [rowClass]
 * @property {() => Child} empty Shown when there is nothing and no filter is set.
 * @property {() => Child} [above] Drawn between filters and table.
 * @property {string[]} [also] Parameters that the address may carry without a field.
 * @property {string} [open] Key of a row to unfold and scroll to at first.
 */

/** Rows asked for at a time, and refreshed at most by an update. */
const PAGE = 50, REFRESH = 200;

/**
 * @template T
 * @typedef {object} Row
 * @property {HTMLElement} body
 * @property {HTMLElement} tr
 * @property {string} json
 * @property {T} item
 * @property {HTMLElement|null} details
 */

/**
 * @template T
 * @param {Context} ctx
 * @param {ListSpec<T>} spec
 * @returns {{reload: () => void, set: (name: string, value: string) => void, items: () => T[]}}
 */
export function listView(ctx, spec) {
  /** @type {Record<string, string>} */
  const params = {};
  for (const f of spec.filters) params[f.name] = ctx.url.searchParams.get(f.name) ?? f.initial ?? "";
  // Parameters without a field of their own (a session's link, say) become one.
  const extra = [...ctx.url.searchParams].filter(([k]) => !(k in params) && spec.also?.includes(k));
  for (const [k, v] of extra) params[k] = v;

  const table = h("table", { class: "list", "aria-label": spec.label, hidden: true });
  const headRow = h("tr", null, ...spec.columns.map((c) => h("th", { scope: "col", class: c.class, title: c.title }, c.label)));
  table.append(h("thead", null, headRow));
  const state = h("div", { class: "state", role: "status" }, "Loading…");
  const more = h("button", { type: "button", class: "btn more", hidden: true }, "Older");
  const form = filterBar(spec.filters, extra, params, () => {
    writeAddress();
    reload();
  });
  const above = spec.above?.();
  ctx.root.append(form);
  if (above instanceof Node) ctx.root.append(above);
  ctx.root.append(h("div", { class: "scroller" }, table), state, more);

  /** @type {Map<string, Row<T>>} */
  const rows = new Map();
  /** @type {T[]} */
  let items = [];
  let next = "", generation = 0, toOpen = spec.open ?? "";

  const writeAddress = () => {
    const q = Object.fromEntries(Object.entries(params).filter(([k, v]) => v !== (spec.filters.find((f) => f.name === k)?.initial ?? "")));
    ctx.setQuery(q);
  };
  const reload = () => {
    generation++;
    items = [];
    next = "";
    state.className = "state";
    refresh();
  };

  const load = async () => {
    const mine = generation;
    const limit = Math.max(PAGE, Math.min(items.length, REFRESH));
    const page = await spec.fetch({ ...params }, "", limit);
    if (mine !== generation || ctx.signal.aborted) return; // the filters changed meanwhile; another load is under way
    merge(page);
    draw();
  };

  /** @param {{items: T[], next: string}} page The newest rows as they are now. */
  const merge = (page) => {
    const fresh = new Set(page.items.map(spec.key));
    const firstOld = items.findIndex((i) => fresh.has(spec.key(i)));
    // Nothing in common: more came in between than a page holds, start over.
    const older = firstOld < 0 ? [] : items.slice(page.items.length).filter((i) => !fresh.has(spec.key(i)));
    if (older.length === 0) next = page.next;
    items = [...page.items, ...older];
  };

  const draw = () => {
    const anchor = anchorRow(table);
    const seen = new Set();
    let prev = /** @type {Element|null} */ (table.tHead);
    for (const item of items) {
      const key = spec.key(item);
      if (seen.has(key)) continue;
      seen.add(key);
      let row = rows.get(key);
      if (!row) rows.set(key, (row = newRow(spec, item)));
      else updateRow(spec, row, item);
      if (prev && prev.nextElementSibling !== row.body) prev.after(row.body);
      prev = row.body;
    }
    for (const [key, row] of rows) {
      if (seen.has(key)) continue;
      row.body.remove();
      rows.delete(key);
    }
    anchor();
    table.hidden = items.length === 0;
    more.hidden = next === "";
    const filtered = spec.filters.some((f) => params[f.name] !== (f.initial ?? "")) || extra.some(([k]) => params[k]);
    if (items.length > 0) fill(state);
    else if (filtered) fill(state, `Nothing matches these filters. `, h("a", { href: ctx.url.pathname }, "Clear them"));
    else fill(state, spec.empty());
    state.hidden = items.length > 0;
    const target = toOpen && rows.get(toOpen);
    if (target) {
      toOpen = "";
      toggle(spec, target, true);
      target.body.classList.add("target");
      target.body.scrollIntoView({ block: "center" });
    }
  };

  const fail = (/** @type {unknown} */ e) => {
    state.hidden = false;
    state.className = "state bad";
    const retry = h("button", { type: "button", class: "btn" }, "Try again");
    retry.addEventListener("click", reload);
    fill(state, h("p", null, `${spec.label} could not be read: ${errorText(e)}`), retry);
  };

  more.addEventListener("click", async () => {
    const mine = generation;
    more.disabled = true;
    try {
      const page = await spec.fetch({ ...params }, next, PAGE);
      if (mine !== generation || ctx.signal.aborted) return;
      const have = new Set(items.map(spec.key));
      items = [...items, ...page.items.filter((i) => !have.has(spec.key(i)))];
      next = page.next;
      draw();
    } catch (e) {
      if (!ctx.signal.aborted) fail(e);
    } finally {
      more.disabled = false;
    }
  });
  const refresh = poll(ctx.signal, load, fail);
  return {
    reload,
    set: (name, value) => {
      params[name] = value;
      const field = form.querySelector(`[name="${CSS.escape(name)}"]`);
      if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) field.value = value;
      writeAddress();
      reload();
    },
    items: () => items,
  };
}

/**
 * Notes where the first visible row stands; the function returned puts it back
 * there after rows came in above it. At the very top new rows push down.
 * @param {HTMLElement} table The list, or what holds it.
 */
export function anchorRow(table) {
  if (scrollY < 40) return () => {};
  const first = [...table.querySelectorAll("tbody")].find((b) => b.getBoundingClientRect().bottom > 0);
  const top = first?.getBoundingClientRect().top ?? 0;
  return () => {
    if (first?.isConnected) scrollBy(0, first.getBoundingClientRect().top - top);
  };
}

/**
 * @template T
 * @param {ListSpec<T>} spec
 * @param {T} item
 * @returns {Row<T>}
 */
function newRow(spec, item) {
  const tr = h("tr");
  const body = h("tbody", null, tr);
  /** @type {Row<T>} */
  const row = { body, tr, json: "", item, details: null };
  updateRow(spec, row, item);
  tr.addEventListener("click", (e) => {
    if (e.target instanceof Element && e.target.closest("a, button, input")) return;
    if (String(getSelection())) return; // somebody is selecting text, not opening the row
    /** @type {HTMLElement|null} */ (tr.querySelector("[data-row]"))?.click();
  });
  return row;
}

/**
 * @template T
 * @param {ListSpec<T>} spec
 * @param {Row<T>} row
 * @param {T} item
 */
function updateRow(spec, row, item) {
  const json = JSON.stringify(item);
  if (json === row.json) return;
  const focused = row.tr.contains(document.activeElement);
  row.json = json;
  row.item = item;
  row.tr.className = spec.rowClass?.(item) ?? "";
  fill(row.tr, ...spec.columns.map((c, i) => h("td", { class: c.class }, i === 0 ? handle(spec, row, c.cell(item)) : c.cell(item))));
  if (focused) /** @type {HTMLElement|null} */ (row.tr.querySelector("[data-row]"))?.focus({ preventScroll: true });
  if (row.details) fill(/** @type {Element} */ (row.details.firstElementChild), spec.details?.(item));
}

/**
 * What takes the focus in a row: a link, or a button that unfolds it.
 * @template T
 * @param {ListSpec<T>} spec
 * @param {Row<T>} row
 * @param {Child} content
 */
function handle(spec, row, content) {
  if (spec.href) return h("a", { href: spec.href(row.item), "data-row": true, class: "rowlink" }, content);
  if (!spec.details) return h("span", { "data-row": true, tabindex: "-1" }, content);
  const b = h("button", { type: "button", class: "rowlink", "data-row": true, "aria-expanded": String(row.details !== null) }, content);
  b.addEventListener("click", () => toggle(spec, row, row.details === null));
  return b;
}

/**
 * @template T
 * @param {ListSpec<T>} spec
 * @param {Row<T>} row
 * @param {boolean} open
 */
function toggle(spec, row, open) {
  row.tr.querySelector("[data-row]")?.setAttribute("aria-expanded", String(open));
  row.body.classList.toggle("open", open);
  if (open && !row.details) {
    row.details = h("tr", { class: "details" }, h("td", { colspan: String(spec.columns.length) }, spec.details?.(row.item)));
    row.body.append(row.details);
  } else if (!open) {
    row.details?.remove();
    row.details = null;
  }
}

/**
 * @param {Filter[]} filters
 * @param {[string, string][]} extra
 * @param {Record<string, string>} params
 * @param {() => void} changed
 */
function filterBar(filters, extra, params, changed) {
  const form = h("form", { class: "filters folded", role: "search", "aria-label": "Filters" });
  const unfold = h("button", { type: "button", class: "btn narrow-only", "aria-expanded": "false" }, "Filters");
  unfold.addEventListener("click", () => unfold.setAttribute("aria-expanded", String(!form.classList.toggle("folded"))));
  form.addEventListener("submit", (e) => e.preventDefault());
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  for (const f of filters) {
    const field = f.type === "select"
      ? h("select", { name: f.name }, ...(f.options ?? []).map(([v, label]) => h("option", { value: v }, label)))
      : h("input", { name: f.name, type: "search", autocomplete: "off", spellcheck: "false", "data-search": f.type === "search", placeholder: f.type === "search" ? "/" : null });
    field.value = params[f.name] ?? "";
    field.addEventListener(f.type === "select" ? "change" : "input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        const v = field.value.trim(), partial = v !== "" && f.pattern !== undefined && !f.pattern.test(v);
        field.setAttribute("aria-invalid", String(partial));
        if (partial || v === params[f.name]) return; // half an id would only be refused
        params[f.name] = v;
        changed();
      }, f.type === "select" ? 0 : 250);
    });
    const set = params[f.name] !== (f.initial ?? "");
    form.append(h("label", { class: f.type === "search" ? "grow" : set ? "set" : "more-filter" }, h("span", null, f.label), field));
    if (f.type === "search") form.append(unfold);
  }
  if (!unfold.parentElement) form.classList.remove("folded");
  for (const [name, value] of extra) {
    const chip = h("button", { type: "button", class: "chip", title: `Remove the filter ${name} = ${value}` }, `${name} ${value.slice(0, 16)}`, h("span", { "aria-hidden": "true" }, " ×"));
    chip.addEventListener("click", () => {
      params[name] = "";
      chip.remove();
      changed();
    });
    form.append(chip);
  }
  return form;
}

/** A trace's id, pasted or followed by a link. @type {RegExp} */
export const traceID = /^[0-9a-f]{32}$/;

/** The filter of every list that has a time range. @type {Filter} */
export const sinceFilter = {
  name: "since", label: "Since", type: "select",
  options: [["", "all time"], ["15m", "15 minutes"], ["1h", "1 hour"], ["24h", "24 hours"], ["168h", "7 days"], ["720h", "30 days"]],
};
