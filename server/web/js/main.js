/**
 * The shell: routes, keys that work everywhere, theme. Each page is a function
 * that draws into the root it is given and stops when its signal aborts.
 * @import {Context} from "./app.js"
 */
import { apiKey, setApiKey } from "./api.js";
import { connection, errorText, isLive, setLive } from "./app.js";
import { byId, fill, h } from "./dom.js";
import { askKey, handleKey, showHelp } from "./keys.js";
import { agents } from "./page_agents.js";
import { audit } from "./page_audit.js";
import { costs } from "./page_costs.js";
import { logs } from "./page_logs.js";
import { run } from "./page_run.js";
import { runs } from "./page_runs.js";
import { sessions } from "./page_sessions.js";

/** @type {[RegExp, string, (ctx: Context, match: RegExpExecArray) => void][]} */
const routes = [
  [/^\/(?:runs)?$/, "Runs", runs],
  [/^\/runs\/([0-9a-f]{32})$/, "Run", run],
  [/^\/logs$/, "Logs", logs],
  [/^\/audit$/, "Audit", audit],
  [/^\/costs$/, "Costs", costs],
  [/^\/agents$/, "Agents", agents],
  [/^\/sessions$/, "Sessions", sessions],
];

const main = byId("main");
let leave = new AbortController();
/** @type {Context["keys"]} */
let keys = new Map();
let shownPath = "";

function show() {
  leave.abort();
  leave = new AbortController();
  keys = new Map();
  connection(null);
  const url = new URL(location.href);
  shownPath = url.pathname + url.search;
  const root = h("div", { class: "page" });
  main.replaceChildren(root);
  /** @type {Context} */
  const ctx = { root, url, signal: leave.signal, navigate, setQuery, keys };
  const route = routes.find(([re]) => re.test(url.pathname));
  for (const a of document.querySelectorAll(".nav a")) {
    const on = a.getAttribute("href") === (url.pathname === "/" ? "/runs" : "/" + url.pathname.split("/")[1]);
    if (on) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  if (!route) {
    fill(root, h("p", { class: "state" }, "No such page. ", h("a", { href: "/runs" }, "All runs")));
    return;
  }
  document.title = `${route[1]} · Kaizen`;
  try {
    route[2](ctx, /** @type {RegExpExecArray} */ (route[0].exec(url.pathname)));
  } catch (e) {
    fill(root, h("p", { class: "state bad", role: "alert" }, `The page could not be drawn: ${errorText(e)}`));
    throw e;
  }
}

/** @type {Context["navigate"]} */
function navigate(href, opts = {}) {
  if (opts.replace) history.replaceState(null, "", href);
  else history.pushState(null, "", href);
  show();
  if (!opts.replace) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

/** @type {Context["setQuery"]} */
function setQuery(query, hash = "") {
  const q = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== "")).toString();
  history.replaceState(null, "", location.pathname + (q ? "?" + q : "") + (hash ? "#" + hash : ""));
  shownPath = location.pathname + location.search;
}

document.addEventListener("click", (e) => {
  if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
  const a = e.target instanceof Element ? e.target.closest("a") : null;
  if (!a || a.hasAttribute("download") || a.target) return;
  const url = new URL(a.href, location.href);
  if (url.origin !== location.origin || !routes.some(([re]) => re.test(url.pathname))) return;
  if (a.classList.contains("skip")) return;
  e.preventDefault();
  navigate(url.pathname + url.search + url.hash);
});

addEventListener("popstate", () => {
  // A change of the fragment alone belongs to the page that is open.
  if (location.pathname + location.search !== shownPath) show();
});

document.addEventListener("keydown", (e) => handleKey(e, keys, { navigate, toggleTheme, toggleLive }));

function toggleTheme() {
  const dark = document.documentElement.dataset["theme"]
    ? document.documentElement.dataset["theme"] === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset["theme"] = dark ? "light" : "dark";
  try {
    localStorage.setItem("kaizen.theme", dark ? "light" : "dark");
  } catch {
    // Without storage the choice lasts as long as the document.
  }
  document.dispatchEvent(new Event("themechange"));
}

function toggleLive() {
  setLive(!isLive());
}

document.addEventListener("needkey", () => askKey(apiKey() !== "", (key) => {
  setApiKey(key);
  show();
}));

byId("theme").addEventListener("click", toggleTheme);
byId("live").addEventListener("click", toggleLive);
byId("help").addEventListener("click", showHelp);
show();
