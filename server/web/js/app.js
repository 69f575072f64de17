/**
 * What every page gets from the shell, and the shell's own state: whether the
 * page follows live, and whether the server answers.
 */
import { ApiError } from "./api.js";
import { byId } from "./dom.js";

/**
 * @typedef {object} Context
 * @property {HTMLElement} root Where the page draws; empty at first.
 * @property {URL} url
 * @property {AbortSignal} signal Aborted when the page is left.
 * @property {(href: string, opts?: {replace?: boolean}) => void} navigate
 * @property {(query: Record<string, string>, hash?: string) => void} setQuery Rewrites the address in place.
 * @property {Map<string, () => void>} keys What the page's own keys do.
 */

/** How often a live page asks again, ms. */
const PERIOD = 2000;

let live = true;
/** @type {Set<() => void>} */
const wake = new Set();

export const isLive = () => live;

/** @param {boolean} on */
export function setLive(on) {
  live = on;
  byId("live").setAttribute("aria-pressed", String(on));
  byId("live").textContent = on ? "Live" : "Paused";
  if (on) for (const fn of wake) fn();
}

/**
 * Says in the header whether the server answers.
 * @param {unknown} err null when it does
 */
export function connection(err) {
  const el = byId("conn");
  const text = err ? "No answer, retrying" : "";
  if (el.textContent !== text) el.textContent = text;
  el.title = err ? errorText(err) : "";
}

/** @param {unknown} err */
export function errorText(err) {
  return err instanceof Error ? err.message : String(err);
}

/**
 * Calls load now and then every two seconds while the page is visible and
 * live. Failures after the first are shown in the header, and retried ever more
 * slowly, up to 30 s.
 * @param {AbortSignal} signal
 * @param {() => Promise<boolean|void>} load Answers false when there is nothing more to wait for.
 * @param {(err: unknown) => void} first Told of a failure of the first load.
 * @returns {() => void} Loads at once.
 */
export function poll(signal, load, first) {
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  let running = false, again = false, loaded = false, wait = PERIOD, more = true;
  const run = async () => {
    clearTimeout(timer);
    if (signal.aborted) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      try {
        const began = performance.now();
        more = (await load()) !== false;
        loaded = true;
        // A large run that takes long to load must not keep the server busy.
        wait = Math.max(PERIOD, 5 * (performance.now() - began));
        if (!signal.aborted) connection(null);
      } catch (e) {
        if (signal.aborted) return;
        // A refused request would be refused again; no answer may be one later.
        const refused = e instanceof ApiError && e.status >= 400 && e.status < 500;
        if (!loaded || refused) first(e);
        if (refused) {
          more = false;
        } else {
          connection(e);
          wait = Math.min(wait * 2, 30000);
        }
      }
    } while (again && !signal.aborted);
    running = false;
    if (more && live && !document.hidden && !signal.aborted) timer = setTimeout(run, wait);
  };
  const resume = () => { if (live && !document.hidden && more) void run(); };
  wake.add(resume);
  document.addEventListener("visibilitychange", resume, { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    wake.delete(resume);
  });
  void run();
  return () => {
    more = true;
    void run();
  };
}
