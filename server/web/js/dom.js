/**
 * Makes elements. Everything that comes from data passes through here as text
 * or as an attribute value; nothing in the page ever parses markup.
 */

/** @typedef {Node|string|number|null|undefined|false|readonly (Node|string|number|null|undefined|false)[]} Child */

/**
 * Attributes: `on` holds listeners, `style` custom properties and styles (set
 * through CSSOM, which the content policy allows), false and null leave out.
 * @typedef {Record<string, unknown> & {on?: Record<string, (e: any) => void>, style?: Record<string, string>}} Props
 */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Props|null} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props, ...children) {
  const el = document.createElement(tag);
  apply(el, props ?? {});
  add(el, children);
  return el;
}

/**
 * @param {string} tag
 * @param {Props|null} [props]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, props, ...children) {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  apply(el, props ?? {});
  add(el, children);
  return el;
}

/**
 * @param {HTMLElement|SVGElement} el
 * @param {Props} props
 */
function apply(el, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, fn] of Object.entries(props.on ?? {})) el.addEventListener(event, fn);
    } else if (name === "style") {
      for (const [key, v] of Object.entries(props.style ?? {})) el.style.setProperty(key, v);
    } else {
      el.setAttribute(name, value === true ? "" : String(value));
    }
  }
}

/**
 * @param {Node} parent
 * @param {readonly Child[]} children
 */
function add(parent, children) {
  for (const c of children) {
    if (c === null || c === undefined || c === false) continue;
    if (Array.isArray(c)) add(parent, c);
    else if (c instanceof Node) parent.appendChild(c);
    else parent.appendChild(document.createTextNode(String(c)));
  }
}

/**
 * Replaces an element's children.
 * @param {Element} el
 * @param {...Child} children
 */
export function fill(el, ...children) {
  el.replaceChildren();
  add(el, children);
}

/**
 * Finds what the document must contain.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const el = document.getElementById(id);
  if (!el) throw new Error(`element #${id} is missing from the page`);
  return el;
}

/**
 * A value that is not known: a dash whose title says why.
 * @param {string} why
 */
export function dash(why) {
  return h("span", { class: "dash", title: why, "aria-label": why }, "–");
}

/**
 * A button that puts text on the clipboard.
 * @param {string} text
 * @param {string} label
 */
export function copyButton(text, label) {
  const b = h("button", { type: "button", class: "copy", title: `Copy ${label}`, "aria-label": `Copy ${label}` }, "copy");
  b.addEventListener("click", async (e) => {
    e.stopPropagation();
    try {
      await navigator.clipboard.writeText(text);
      b.textContent = "copied";
    } catch {
      b.textContent = "refused"; // no clipboard outside a secure context
    }
    setTimeout(() => { b.textContent = "copy"; }, 1500);
  });
  return b;
}

/**
 * Long text, cut until asked for, so that one huge value does not stop the page.
 * @param {string} text
 * @param {number} [limit] Characters shown at first.
 */
export function longText(text, limit = 3000) {
  // JSON is indented and reads better in one width; prose does not.
  const cls = /^[{[]\s/.test(text) ? "text mono" : "text";
  if (text.length <= limit) return h("pre", { class: cls }, text);
  const pre = h("pre", { class: cls }, text.slice(0, limit) + "…");
  const more = h("button", { type: "button", class: "btn small" }, `Show all ${text.length.toLocaleString("en-US")} characters`);
  more.addEventListener("click", () => {
    pre.textContent = text;
    more.remove();
  });
  return h("div", null, pre, more);
}
