/** Reads the JSON API. */

/** An answer that is not 2xx, or none at all (status 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message
   */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const KEY = "kaizen.key";

/** Where a server needs an API key, it is kept for this tab only. */
export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} key */
export function setApiKey(key) {
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Storage is forbidden here; the server will ask again.
  }
}

/**
 * @param {string} path Starts with /api.
 * @param {Record<string, string|number|undefined|null>} [params] Empty values are left out.
 */
export function apiURL(path, params = {}) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) {
    if (v !== undefined && v !== null && v !== "") q.set(k, String(v));
  }
  const s = q.toString();
  return s ? `${path}?${s}` : path;
}

/**
 * @param {string} path
 * @param {Record<string, string|number|undefined|null>} params
 * @param {AbortSignal} signal
 * @returns {Promise<any>} The decoded body; its shape is the caller's to name.
 */
export async function get(path, params, signal) {
  const res = await request(apiURL(path, params), signal, "application/json");
  return res.json();
}

/**
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
export async function getText(path, signal) {
  const res = await request(path, signal, "*/*");
  return res.text();
}

/**
 * @param {string} url
 * @param {AbortSignal} signal
 * @param {string} accept
 */
async function request(url, signal, accept) {
  let res;
  try {
    res = await fetch(url, { signal, headers: { Accept: accept, ...(apiKey() ? { Authorization: `Bearer ${apiKey()}` } : {}) }, credentials: "same-origin" });
  } catch (e) {
    if (signal.aborted) throw e;
    throw new ApiError(0, "unreachable", "the server does not answer");
  }
  if (res.ok) return res;
  if (res.status === 401) document.dispatchEvent(new Event("needkey"));
  let code = "http", message = `the server answered ${res.status}`;
  try {
    const body = await res.json();
    if (body?.error?.message) ({ code, message } = body.error);
  } catch {
    // Not JSON: a proxy in between answered; the status says what there is to say.
  }
  throw new ApiError(res.status, code, message);
}
