/**
 * The audit ledger: its newest checkpoint, its entries, and their proofs,
 * which are checked here and not taken on trust.
 * @import {Context} from "./app.js"
 * @import {Checkpoint, Entry, Hold} from "./types.js"
 */
import { apiKey, get, getText } from "./api.js";
import { errorText, poll } from "./app.js";
import { copyButton, fill, h, longText } from "./dom.js";
import { int, oneLine, pretty } from "./format.js";
import { listView, sinceFilter, traceID } from "./listview.js";
import { facts, resultTag, spanLink, timeCell, userText, withheld } from "./parts.js";
import { checkProof } from "./proof.js";

/** @param {Context} ctx */
export function audit(ctx) {
  ctx.root.append(h("h1", { class: "visually-hidden" }, "Audit"));
  /** @type {{checkpoint: Checkpoint|null}} */
  const state = { checkpoint: null };
  const card = h("section", { class: "checkpoint", "aria-label": "Checkpoint" });
  listView(ctx, {
    label: "Audit entries",
    also: ["span", "run", "session"],
    filters: [
      { name: "action", label: "Action", type: "search" },
      { name: "agent", label: "Agent", type: "text" },
      { name: "user", label: "User", type: "text" },
      { name: "result", label: "Result", type: "select", options: [["", "any"], ["success", "success"], ["failure", "failure"], ["denied", "denied"]] },
      { name: "trace", label: "Trace", type: "text", pattern: traceID },
      sinceFilter,
    ],
    above: () => card,
    open: ctx.url.hash.slice(1),
    fetch: async (params, cursor, limit) => {
      const body = await get("/api/audit", { ...params, order: "desc", cursor, limit }, ctx.signal);
      return { items: /** @type {Entry[]} */ (body.entries ?? []), next: body.next ?? "" };
    },
    key: (e) => String(e.index),
    rowClass: (e) => (e.result === "success" ? "" : "failed"),
    columns: [
      { label: "Index", class: "index", cell: (e) => h("span", { class: "num" }, int(e.index)) },
      { label: "Time", class: "time opt2", cell: (e) => timeCell(e.time, true) },
      { label: "Action", cell: (e) => [h("span", { class: "name clamp" }, e.action), h("span", { class: "sub narrow" }, e.agent_id)] },
      { label: "Result", cell: (e) => resultTag(e.result) },
      { label: "Agent", class: "opt2", cell: (e) => e.agent_id },
      { label: "User", class: "opt", cell: (e) => userText(e.user_id) },
      { label: "Details", class: "wide opt", cell: (e) => h("span", { class: "clamp quiet" }, summary(e)) },
      { label: "Span", class: "opt2", cell: (e) => spanLink(e.trace_id, e.span_id) },
    ],
    details: (e) => entryDetails(e, state, ctx.signal),
    empty: () => h("div", null, h("h2", null, "The ledger is empty"),
      h("p", null, "Every step of an observed agent writes an entry. A program adds its own with ", h("code", null, "obs.Audit().Append"), ", or over HTTP:"),
      h("pre", { class: "code" }, `curl -d '{"agent_id":"a","action":"report.sent","result":"success","details":{}}' \\\n  ${location.origin}/api/audit`)),
  });
  poll(ctx.signal, async () => {
    const cp = /** @type {Checkpoint} */ (await get("/api/audit/checkpoint", {}, ctx.signal));
    const holds = await activeHolds(ctx.signal);
    if (state.checkpoint?.note === cp.note) return; // a hold is an entry, and so a new checkpoint
    state.checkpoint = cp;
    drawCheckpoint(card, cp, holds);
  }, (e) => fill(card, h("p", { class: "bad" }, `No checkpoint: ${errorText(e)}`)));
}

/**
 * What the entry says, without the braces.
 * @param {Entry} e
 */
function summary(e) {
  return Object.entries(e.details ?? {}).map(([k, v]) => (v === true && withheld({ [k]: v }) ? k : `${k} ${oneLine(v, 60)}`)).join(" · ");
}

/**
 * The active legal holds. A ledger that knows none has none.
 * @param {AbortSignal} signal
 * @returns {Promise<Hold[]>}
 */
async function activeHolds(signal) {
  try {
    return (await get("/api/audit/holds", {}, signal)).holds ?? [];
  } catch (err) {
    if (signal.aborted) throw err;
    return [];
  }
}

/**
 * What a hold is on.
 * @param {Hold} hold
 */
function holdText(hold) {
  const on = /** @type {const} */ (["agent", "user", "subject", "session", "run", "trace", "since", "until"])
    .flatMap((name) => (hold[name] ? [`${name} ${hold[name]}`] : []));
  return `${hold.id}: ${on.join(", ") || "everything"}${hold.reason ? ` (${hold.reason})` : ""}`;
}

/**
 * @param {HTMLElement} card
 * @param {Checkpoint} cp
 * @param {Hold[]} holds
 */
function drawCheckpoint(card, cp, holds) {
  const copied = (/** @type {string} */ text, /** @type {string} */ label) => [h("code", { class: "hash", title: text }, text), copyButton(text, label)];
  const open = card.querySelector("details")?.open;
  fill(card, h("h2", null, "Checkpoint"), facts([
    ["entries", h("span", { class: "num" }, int(cp.size))], ["origin", copied(cp.origin, "origin")],
    ["root", copied(cp.root, "root")], ["key", copied(cp.vkey, "key")],
    ["legal holds", holds.map(holdText).join("; ")],
  ]), h("details", { open: open === true },
    h("summary", null, "Signed note"), h("pre", { class: "code" }, cp.note),
    h("p", { class: "quiet" }, "Keep a copy of this note elsewhere. Later it shows that nothing before it was changed or removed: ", h("code", null, "kaizen audit verify URL --checkpoint FILE"))));
}

/**
 * @param {Entry} e
 * @param {{checkpoint: Checkpoint|null}} state
 * @param {AbortSignal} signal
 */
export function entryDetails(e, state, signal) {
  const verdict = h("div", { class: "verdict", role: "status" });
  const verify = h("button", { type: "button", class: "btn" }, "Verify here");
  verify.addEventListener("click", async () => {
    verify.disabled = true;
    fill(verdict, "Checking…");
    try {
      const [text, cp] = await Promise.all([
        getText(`/api/audit/proof/${e.index}`, signal),
        state.checkpoint ?? /** @type {Promise<Checkpoint>} */ (get("/api/audit/checkpoint", {}, signal)),
      ]);
      drawVerdict(verdict, await checkProof(text, e.index, cp.vkey, (line) => differs(line, e)));
    } catch (err) {
      if (!signal.aborted) fill(verdict, h("p", { class: "bad" }, `The proof could not be read: ${errorText(err)}`));
    } finally {
      verify.disabled = false;
    }
  });
  const name = `entry-${e.index}.proof`;
  const download = h("a", { class: "btn", href: `/api/audit/proof/${e.index}`, download: name }, "Proof");
  download.addEventListener("click", async (event) => {
    if (!apiKey()) return; // a plain link does
    event.preventDefault(); // a link cannot carry the key
    try {
      save(name, await getText(`/api/audit/proof/${e.index}`, signal));
    } catch (err) {
      if (!signal.aborted) fill(verdict, h("p", { class: "bad" }, `The proof could not be read: ${errorText(err)}`));
    }
  });
  return h("div", { class: "unfold" },
    facts([
      ["id", h("code", null, e.id)], ["time", e.time], ["agent", e.agent_id], ["user", userText(e.user_id)], ["session", e.session_id], ["run", e.run_id],
      ["severity", e.severity], ["parent", e.parent], ["trace", e.trace_id ? spanLink(e.trace_id, undefined, e.trace_id) : ""],
      ["span", e.trace_id && e.span_id ? spanLink(e.trace_id, e.span_id, e.span_id) : ""],
    ]),
    notice(e),
    h("h4", null, "Details"), longText(pretty(e.details ?? {})),
    e.metadata && Object.keys(e.metadata).length ? [h("h4", null, "Metadata"), longText(pretty(e.metadata))] : null,
    h("div", { class: "actions" }, verify,
      download,
      h("span", { class: "quiet" }, "Offline: ", h("code", null, `kaizen audit check ${name}`))),
    verdict);
}

/**
 * Says what of the entry is not shown, and why.
 * @param {Entry} e
 */
function notice(e) {
  const why = withheld(e.details) || withheld(e.metadata) || withheld(e.user_id);
  if (!why) return null;
  return h("p", { class: "quiet" }, why === "erased"
    ? "What concerns a person here was erased: the keys were destroyed. The proof still holds."
    : "What concerns a person here is encrypted, and this server has not the key. The proof holds all the same.");
}

/**
 * Hands a text to the browser as a file.
 * @param {string} name
 * @param {string} text
 */
function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/**
 * What of the stored line is not what the page shows. Personal fields may
 * stand in the line encrypted, so they are not compared.
 * @param {Record<string, unknown>} line
 * @param {Entry} e
 */
export function differs(line, e) {
  for (const field of /** @type {const} */ (["id", "action", "result", "agent_id", "trace_id", "span_id"])) {
    const stored = line[field], shown = e[field];
    if (typeof stored === "string" && stored !== (shown ?? "")) return `${field} is ${stored} in the ledger and ${shown ?? "missing"} here`;
  }
  if (typeof line["id"] !== "string") return "the stored line has no id";
  return "";
}

/**
 * @param {HTMLElement} el
 * @param {Awaited<ReturnType<typeof checkProof>>} result
 */
function drawVerdict(el, result) {
  const word = { ok: "ok", bad: "failed", skipped: "not checked" };
  const cls = { ok: "s-ok", bad: "s-error", skipped: "s-denied" };
  fill(el,
    h("p", { class: "verdict-line " + (!result.ok ? "bad" : result.complete ? "good" : "warn") },
      !result.ok ? "This entry is not proven." : result.complete ? "Proven: this entry stands in the signed ledger." : "Partly checked; nothing contradicts the entry."),
    h("ol", { class: "steps" }, ...result.steps.map((s) => h("li", null,
      h("span", { class: "status " + cls[s.verdict] }, word[s.verdict]), h("span", null, s.what, s.detail ? h("code", { class: "hash", title: s.detail }, s.detail) : null)))));
}
