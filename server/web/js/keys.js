/** Keys that work on every page, the moves within lists, and their help. */
import { h } from "./dom.js";

const pages = /** @type {Record<string, string>} */ ({ r: "/runs", l: "/logs", a: "/audit", c: "/costs", n: "/agents", s: "/sessions" });

/** @type {[string, string][]} */
const everywhere = [
  ["j  k", "next, previous row"], ["Enter", "open or unfold the row"], ["/", "search"], ["g r", "runs"], ["g l", "logs"], ["g a", "audit"],
  ["g c", "costs"], ["g n", "agents"], ["g s", "sessions"], ["p", "pause or follow live"], ["t", "light or dark"], ["?", "this help"], ["Esc", "close, or leave a field"],
];
/** @type {[string, string][]} */
const inRun = [
  ["1 2 3", "waterfall, agents, transcript"], ["h  l", "fold, unfold; or to the parent, first child"], ["e  E", "next, previous error"],
  ["$", "costliest model call"], ["z", "zoom to the span, and back"], ["x", "fold or unfold all"], ["u", "back to the runs"],
];

let chord = 0;

/**
 * @param {KeyboardEvent} e
 * @param {Map<string, () => void>} own The page's keys, which come first.
 * @param {{navigate: (href: string) => void, toggleTheme: () => void, toggleLive: () => void}} shell
 */
export function handleKey(e, own, shell) {
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return;
  const field = e.target instanceof HTMLInputElement || e.target instanceof HTMLSelectElement || e.target instanceof HTMLTextAreaElement;
  if (field) {
    if (e.key === "Escape") {
      e.preventDefault(); // a search field would clear itself
      /** @type {HTMLElement} */ (e.target).blur();
    }
    return;
  }
  if (document.querySelector("dialog[open]")) return; // it has the keys until it is closed
  if (chord && e.timeStamp - chord < 1500) {
    chord = 0;
    const href = pages[e.key];
    if (href) {
      e.preventDefault();
      shell.navigate(href);
      return;
    }
  }
  chord = 0;
  const fn = own.get(e.key);
  if (fn) {
    e.preventDefault();
    fn();
    return;
  }
  switch (e.key) {
    case "g":
      chord = e.timeStamp;
      break;
    case "/":
      e.preventDefault();
      document.querySelector(/** @type {"input"} */ ("[data-search]"))?.focus();
      break;
    case "j":
      e.preventDefault();
      moveRow(1);
      break;
    case "k":
      e.preventDefault();
      moveRow(-1);
      break;
    case "t":
      shell.toggleTheme();
      break;
    case "p":
      shell.toggleLive();
      break;
    case "?":
      showHelp();
      break;
  }
}

/**
 * Moves the focus among the rows of the list: each has one element marked
 * data-row, a link or a button, so Enter needs no code.
 * @param {number} by
 */
function moveRow(by) {
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-row]")]);
  if (rows.length === 0) return;
  const active = document.activeElement?.closest("tbody")?.querySelector("[data-row]");
  const at = active ? rows.indexOf(/** @type {HTMLElement} */ (active)) : by > 0 ? -1 : rows.length;
  const next = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  next?.focus({ preventScroll: true });
  next?.closest("tr")?.scrollIntoView({ block: "nearest" });
}

/**
 * Asks for the API key that the server wants.
 * @param {boolean} refused Whether one was given and not taken.
 * @param {(key: string) => void} use
 */
export function askKey(refused, use) {
  if (document.querySelector("dialog[open]")) return;
  const field = h("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false", required: true, "aria-label": "API key" });
  const form = h("form", { method: "dialog", class: "keyform" }, field, h("button", { type: "submit", class: "btn" }, "Use it"));
  const dialog = h("dialog", { class: "help", "aria-labelledby": "key-title" }, h("h2", { id: "key-title" }, "API key"),
    h("p", { class: refused ? "bad" : "quiet" }, refused ? "The server does not take this key." : "This server shows its data to holders of a key. The key stays in this tab."), form);
  form.addEventListener("submit", (e) => {
    e.preventDefault(); // the content policy forbids forms to send anything
    dialog.close();
    use(field.value.trim());
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

export function showHelp() {
  if (document.querySelector("dialog[open]")) return;
  const list = (/** @type {[string, string][]} */ keys) =>
    h("dl", { class: "keys" }, ...keys.map(([k, what]) => [h("dt", null, ...k.split(/\s+/).flatMap((p, i) => [i ? " " : "", h("kbd", null, p)])), h("dd", null, what)]));
  const close = h("button", { type: "button", class: "btn" }, "Close");
  const dialog = h("dialog", { class: "help", "aria-labelledby": "help-title" },
    h("h2", { id: "help-title" }, "Keys"), h("div", { class: "keycols" },
      h("section", null, h("h3", null, "Everywhere"), list(everywhere)),
      h("section", null, h("h3", null, "In a run"), list(inRun))), close);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
