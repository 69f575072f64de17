/**
 * Checks an inclusion proof of the audit ledger in the browser, with nothing
 * taken on trust from the server but the public key. RFC 6962 hashes: a leaf is
 * SHA-256(0x00 || line), a node SHA-256(0x01 || left || right).
 *
 * A proof file is the text of C2SP tlog-proof:
 *
 *     c2sp.org/tlog-proof@v1
 *     extra <base64 of the stored line>      (optional)
 *     index <decimal>
 *     <base64 hash>                          (one a line, leaf to root)
 *                                            (an empty line)
 *     <the checkpoint: a signed note>
 */

/**
 * @typedef {object} Proof
 * @property {Uint8Array|null} line The stored line, without its newline.
 * @property {number} index
 * @property {Uint8Array[]} hashes
 * @property {Note} note
 *
 * @typedef {object} Note A signed checkpoint.
 * @property {string} text What is signed.
 * @property {string} origin
 * @property {number} size
 * @property {Uint8Array} root
 * @property {{name: string, key: Uint8Array, sig: Uint8Array}[]} signatures key: the first 4 bytes
 *
 * @typedef {object} Step
 * @property {"ok"|"bad"|"skipped"} verdict
 * @property {string} what
 * @property {string} [detail]
 */

const magic = "c2sp.org/tlog-proof@v1";

/**
 * @param {string} text
 * @returns {Proof}
 */
export function parseProof(text) {
  const lines = text.split("\n");
  let at = 0;
  if (lines[at++] !== magic) throw new Error(`first line is not ${magic}`);
  /** @type {Uint8Array|null} */
  let line = null;
  if (lines[at]?.startsWith("extra ")) line = unbase64(/** @type {string} */ (lines[at++]).slice(6));
  const m = /^index (0|[1-9][0-9]*)$/.exec(lines[at++] ?? "");
  if (!m) throw new Error("no index line");
  const index = Number(m[1]);
  if (!Number.isSafeInteger(index)) throw new Error("index is too large");
  const hashes = [];
  while (lines[at]) {
    const hash = unbase64(/** @type {string} */ (lines[at++]));
    if (hash.length !== 32) throw new Error(`hash ${hashes.length} has ${hash.length} bytes, want 32`);
    hashes.push(hash);
    if (hashes.length > 63) throw new Error("more than 63 hashes");
  }
  if (lines[at++] !== "") throw new Error("no empty line before the checkpoint");
  return { line, index, hashes, note: parseNote(lines.slice(at).join("\n")) };
}

/**
 * @param {string} text
 * @returns {Note}
 */
export function parseNote(text) {
  const cut = text.lastIndexOf("\n\n");
  if (cut < 0) throw new Error("checkpoint has no signatures");
  const body = text.slice(0, cut + 1), lines = body.split("\n");
  if (lines.length < 4) throw new Error("checkpoint has fewer than three lines");
  const [origin, size, root] = /** @type {[string, string, string]} */ (lines);
  if (!/^(0|[1-9][0-9]*)$/.test(size) || !Number.isSafeInteger(Number(size))) throw new Error("checkpoint has no tree size");
  const hash = unbase64(root);
  if (hash.length !== 32) throw new Error("checkpoint has no root hash of 32 bytes");
  const signatures = [];
  for (const l of text.slice(cut + 2).split("\n")) {
    if (l === "") continue;
    const m = /^\u2014 (\S+) (\S+)$/.exec(l);
    if (!m) throw new Error("checkpoint has a line that is no signature");
    const raw = unbase64(/** @type {string} */ (m[2]));
    if (raw.length < 5) throw new Error("checkpoint has a signature that is too short");
    signatures.push({ name: /** @type {string} */ (m[1]), key: raw.slice(0, 4), sig: raw.slice(4) });
  }
  return { text: body, origin, size: Number(size), root: hash, signatures };
}

/**
 * The root that a leaf and its path lead to (RFC 9162, 2.1.3.2).
 * @param {Uint8Array} leaf
 * @param {number} index
 * @param {number} size
 * @param {readonly Uint8Array[]} path
 * @returns {Promise<Uint8Array>}
 */
export async function rootFrom(leaf, index, size, path) {
  if (!(index >= 0 && index < size)) throw new Error(`index ${index} is outside a tree of ${size}`);
  // Division instead of shifts: a shift would cut the numbers to 32 bits.
  let fn = index, sn = size - 1, hash = leaf;
  for (const p of path) {
    if (sn === 0) throw new Error("the path is longer than the tree is high");
    if (fn % 2 === 1 || fn === sn) {
      hash = await nodeHash(p, hash);
      while (fn % 2 === 0 && fn !== 0) {
        fn = Math.floor(fn / 2);
        sn = Math.floor(sn / 2);
      }
    } else {
      hash = await nodeHash(hash, p);
    }
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  if (sn !== 0) throw new Error("the path is shorter than the tree is high");
  return hash;
}

/** @param {Uint8Array} line */
export const leafHash = (line) => sha256(Uint8Array.of(0), line);

/** @param {Uint8Array} left @param {Uint8Array} right */
const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);

/** @param {...Uint8Array} parts */
async function sha256(...parts) {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}

/**
 * Every step of a proof's check, in order, each with its verdict. Nothing is
 * skipped silently: what could not be checked says so.
 * @param {string} text The proof file.
 * @param {number} index The entry that it should prove.
 * @param {string} vkey The log's verifier key; "" when unknown.
 * @param {(line: Record<string, unknown>) => string} [sameEntry] What differs between the stored line and the entry shown, "" if nothing.
 * @returns {Promise<{ok: boolean, complete: boolean, steps: Step[]}>}
 */
export async function checkProof(text, index, vkey, sameEntry) {
  /** @type {Step[]} */
  const steps = [];
  const done = () => ({ ok: steps.every((s) => s.verdict !== "bad"), complete: steps.every((s) => s.verdict === "ok"), steps });
  const step = (/** @type {Step["verdict"]} */ verdict, /** @type {string} */ what, detail = "") => { steps.push({ verdict, what, detail }); };
  if (!globalThis.crypto?.subtle) {
    step("skipped", "This browser offers no SHA-256 here", "It does over HTTPS and on localhost. Download the proof and run: kaizen audit check FILE");
    return done();
  }
  let proof;
  try {
    proof = parseProof(text);
  } catch (e) {
    step("bad", "The proof file cannot be read", String(e instanceof Error ? e.message : e));
    return done();
  }
  if (proof.index !== index) {
    step("bad", `The proof is for entry ${proof.index}, not ${index}`);
    return done();
  }
  if (!proof.line) {
    step("skipped", "The proof holds no stored line, so there is nothing to hash");
    return done();
  }
  if (sameEntry) {
    let differs;
    try {
      differs = sameEntry(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(proof.line)));
    } catch {
      differs = "the stored line is no JSON";
    }
    step(differs ? "bad" : "ok", "The stored line is the entry shown", differs);
  }
  const leaf = await leafHash(proof.line);
  step("ok", "Leaf hash computed over the stored line", hex(leaf));
  try {
    const root = await rootFrom(leaf, proof.index, proof.note.size, proof.hashes);
    const same = hex(root) === hex(proof.note.root);
    step(same ? "ok" : "bad", same ? `${proof.hashes.length} hashes lead from entry ${index} to the root of all ${proof.note.size} entries`
      : "The path does not lead to the checkpoint's root", same ? hex(root) : `computed ${hex(root)}, signed ${hex(proof.note.root)}`);
  } catch (e) {
    step("bad", "The path does not fit the tree", String(e instanceof Error ? e.message : e));
  }
  await checkSignature(proof.note, vkey, step);
  return done();
}

/**
 * @param {Note} note
 * @param {string} vkey "<name>+<8 hex digits>+<base64 of 0x01 and the Ed25519 key>"
 * @param {(verdict: Step["verdict"], what: string, detail?: string) => void} step
 */
async function checkSignature(note, vkey, step) {
  const what = `The checkpoint is signed by ${note.origin}`;
  let key;
  try {
    key = parseVKey(vkey);
  } catch (e) {
    step("skipped", "Signature not checked", String(e instanceof Error ? e.message : e));
    return;
  }
  const own = await sha256(new TextEncoder().encode(key.name + "\n"), Uint8Array.of(1), key.key);
  if (hex(own.slice(0, 4)) !== key.hash) {
    step("bad", "The verifier key does not match its own hash", vkey);
    return;
  }
  const ours = note.signatures.find((s) => s.name === key.name && hex(s.key) === key.hash);
  if (!ours) {
    step("bad", "The checkpoint carries no signature of the log's key", `${key.name}+${key.hash}`);
    return;
  }
  try {
    const pub = await crypto.subtle.importKey("raw", /** @type {Uint8Array<ArrayBuffer>} */ (key.key), "Ed25519", false, ["verify"]);
    const good = await crypto.subtle.verify("Ed25519", pub, /** @type {Uint8Array<ArrayBuffer>} */ (ours.sig), new TextEncoder().encode(note.text));
    step(good ? "ok" : "bad", good ? what : "The checkpoint's signature is false", `${key.name}+${key.hash}`);
  } catch {
    step("skipped", "Signature not checked: this browser has no Ed25519", "Run: kaizen audit check FILE");
  }
}

/**
 * @param {string} vkey
 * @returns {{name: string, hash: string, key: Uint8Array}}
 */
export function parseVKey(vkey) {
  const m = /^([^+\s]+)\+([0-9a-f]{8})\+(.+)$/.exec(vkey);
  if (!m) throw new Error("the server names no verifier key");
  const raw = unbase64(/** @type {string} */ (m[3]));
  if (raw.length !== 33 || raw[0] !== 1) throw new Error("the verifier key is not Ed25519");
  return { name: /** @type {string} */ (m[1]), hash: /** @type {string} */ (m[2]), key: raw.slice(1) };
}

/** @param {string} s */
function unbase64(s) {
  let bin;
  try {
    bin = atob(s);
  } catch {
    throw new Error("not base64: " + s.slice(0, 20));
  }
  return Uint8Array.from(bin, (c) => c.charCodeAt(0));
}

/** @param {Uint8Array} b */
export function hex(b) {
  return Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
}
