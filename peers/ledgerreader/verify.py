#!/usr/bin/env python3
"""Check an audit ledger, written from docs/ledger-format.md alone.

    verify.py DIR [--key FILE]

DIR is the ledger's own directory. It prints "intact: N entries, root HEX" and
exits with 0, or says what is wrong and exits with 1. The standard library is
enough; sealed segments need one of: Python 3.14, the package zstandard, zstdcat.

It does not look at the ring: a directory that was not closed is checked as far as
its checkpoint goes.
"""

import base64
import hashlib
import json
import math
import os
import re
import struct
import subprocess
import sys
from datetime import datetime, timezone


class Bad(Exception):
    pass


def need(ok, what):
    if not ok:
        raise Bad(what)


def sha256(*parts):
    h = hashlib.sha256()
    for p in parts:
        h.update(p)
    return h.digest()


# Ed25519 (RFC 8032, section 5.1.7).

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P:
        return None
    return P - x if x & 1 != sign else x


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (recover_x(BASE_Y, 0), BASE_Y, 1, recover_x(BASE_Y, 0) * BASE_Y % P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(n, p):
    q = (0, 1, 1, 0)
    while n:
        if n & 1:
            q = add(q, p)
        p, n = add(p, p), n >> 1
    return q


def decode_point(b):
    y = int.from_bytes(b, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def signed(public, message, signature):
    a, r = decode_point(public), decode_point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# Keys and checkpoints: C2SP signed notes.


def parse_key(vkey):
    origin, key_id, data = vkey.split("+", 2)
    data = base64.b64decode(data, validate=True)
    need(len(data) == 33 and data[0] == 1, "key %s is not Ed25519" % vkey)
    need(sha256(origin.encode(), b"\n", data)[:4].hex() == key_id, "key %s has another id" % vkey)
    return origin, bytes.fromhex(key_id), data[1:]


def open_note(note, vkey, where):
    """Returns size and root of a checkpoint that vkey signed."""
    origin, key_id, public = parse_key(vkey)
    text, empty, signatures = note.partition("\n\n")
    need(empty, "%s: no signature" % where)
    text += "\n"
    lines = text.split("\n")
    need(len(lines) == 4 and lines[0] == origin and lines[3] == "", "%s: not the three lines of %s" % (where, origin))
    size, root = int(lines[1]), base64.b64decode(lines[2], validate=True)
    need(str(size) == lines[1] and size >= 0 and len(root) == 32, "%s: size or root" % where)
    for line in signatures.splitlines():
        match = re.fullmatch("\u2014 (\\S+) (\\S+)", line)
        need(match, "%s: signature line" % where)
        blob = base64.b64decode(match[2], validate=True)
        if match[1] == origin and blob[:4] == key_id:
            need(signed(public, text.encode(), blob[4:]), "%s: signature is wrong" % where)
            return size, root
    raise Bad("%s: not signed by %s" % (where, vkey))


# The tree of RFC 6962, as its right edge.


class Tree:
    def __init__(self):
        self.size, self.peaks = 0, []

    def add(self, leaf):
        n, h = self.size, leaf
        while n & 1:
            h, n = sha256(b"\1", self.peaks.pop(), h), n >> 1
        self.peaks.append(h)
        self.size += 1

    def root(self):
        if not self.peaks:
            return sha256(b"")
        h = self.peaks[-1]
        for left in reversed(self.peaks[:-1]):
            h = sha256(b"\1", left, h)
        return h


# Entries.

FIELDS = ["id", "time", "agent_id", "action", "result", "details", "user_id", "subject", "session_id", "run_id", "trace_id",
          "span_id", "parent", "severity", "metadata"]
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def string(s):
    return '"%s"' % re.sub('["\\\\\x00-\x1f]', lambda m: ESCAPES.get(m[0]) or "\\u%04x" % ord(m[0]), s)


def number(n):
    if isinstance(n, int):
        if -(2**63) <= n < 2**64:
            return str(n)
        n = float(n)  # a double below 1e21 is spelt without exponent, too
    need(math.isfinite(n), "number")
    if n == 0:
        return "0"
    # The shortest digits, placed as ECMAScript does.
    sign = "-" if n < 0 else ""
    mantissa, _, exponent = ("%r" % abs(n)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    digits = whole + fraction
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    e = "e%+d" % (point - 1)
    return sign + digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + e


def canonical(v, depth=0):
    if v is None or v is True or v is False:
        return {None: "null", True: "true", False: "false"}[v]
    if isinstance(v, str):
        return string(v)
    if isinstance(v, (int, float)):
        return number(v)
    need(depth < 32, "nested too deep")
    if isinstance(v, list):
        return "[%s]" % ",".join(canonical(x, depth + 1) for x in v)
    keys = sorted(v, key=lambda k: k.encode("utf-16-be"))
    return "{%s}" % ",".join(string(k) + ":" + canonical(v[k], depth + 1) for k in keys)


def unique(pairs):
    d = dict(pairs)
    need(len(d) == len(pairs), "a key is there twice")
    return d


def parse_entry(line, where):
    """Reads a stored line, and spells it again: one entry has one spelling."""
    need(len(line) <= 65535, where + ": line is too long")
    try:
        e = json.loads(line.decode("utf-8"), object_pairs_hook=unique)
        need(isinstance(e, dict) and list(e) == [f for f in FIELDS if f in e] and all(f in e for f in FIELDS[:6]), "fields")
        need(ULID.fullmatch(e["id"]) and ("parent" not in e or ULID.fullmatch(e["parent"])), "id")
        need(TIME.fullmatch(e["time"]) and "1970" <= e["time"][:4] <= "2261", "time")
        datetime.strptime(e["time"][:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
        need(e["agent_id"] and e["action"] and e["result"] in ("success", "failure", "denied"), "agent, action or result")
        for name, size in (("trace_id", 32), ("span_id", 16)):
            need(name not in e or re.fullmatch("[0-9a-f]{%d}" % size, e[name]) and e[name].strip("0"), name)
        for name in ("agent_id", "action", "user_id", "subject", "session_id", "run_id", "severity"):
            need(name not in e or 0 < len(e[name].encode()) <= 512, name)
        need(isinstance(e["details"], dict) and ("metadata" not in e or isinstance(e["metadata"], dict) and e["metadata"]), "details")
        again = "{%s}" % ",".join(string(f) + ":" + canonical(e[f]) for f in FIELDS if f in e)
        need(again.encode() == line, "is spelt in another way")
        return e
    except (Bad, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as err:
        raise Bad("%s: %s" % (where, err))


# Sealed segments.


def decompress(frame, size):
    try:
        from compression import zstd  # Python 3.14
        return zstd.decompress(frame)
    except ImportError:
        pass
    try:
        import zstandard
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except ImportError:
        return subprocess.run(["zstdcat"], input=frame, stdout=subprocess.PIPE, check=True).stdout


def sealed_lines(packed, count, where):
    """The lines of a .jsonl.zst file, frame by frame as the seek table says."""
    need(len(packed) >= 17, where + ": no seek table")
    frames, zero, magic = struct.unpack("<IBI", packed[-9:])
    table = packed[-(17 + 8 * frames):]
    need(magic == 0x8F92EAB1 and zero == 0 and frames in ((count + 63) // 64, (count + 255) // 256) and len(table) == 17 + 8 * frames, where + ": seek table")
    need(struct.unpack("<II", table[:8]) == (0x184D2A5E, len(table) - 8), where + ": seek table")
    at, lines = 0, []
    per = 64 if frames == (count + 63) // 64 else 256
    for i in range(frames):
        size, plain = struct.unpack_from("<II", table, 8 + 8 * i)
        text = decompress(packed[at:at + size], plain)
        need(len(text) == plain and text.endswith(b"\n"), "%s: frame %d" % (where, i))
        new = text[:-1].split(b"\n")
        need(len(new) == min(per, count - per * i), "%s: frame %d has %d lines" % (where, i, len(new)))
        lines += new
        at += size
    need(at == len(packed) - len(table), where + ": more than its frames")
    return lines


RECORD = ["base", "count", "bytes", "stored", "min_time", "max_time", "min_id", "max_id", "root", "raw", "zst", "idx", "nodes", "l0", "system",
          "entry", "pruned"]


def read_manifest(dir):
    path = os.path.join(dir, "segments.json")
    if not os.path.exists(path):
        return [], []
    text = open(path, "rb").read()
    lines = text.split(b"\n")
    need(lines[-1] == b"" and len(lines) >= 3, "segments.json: cut off")
    body = text[:len(text) - len(lines[-2]) - 1]
    need(lines[-2] == b'{"sha256":"%s"}' % sha256(body).hex().encode(), "segments.json: its hash is wrong")
    head, records = json.loads(lines[0]), [json.loads(x) for x in lines[1:-2]]
    need(head["format"] == "kaizen-segments" and head["version"] == 2 and head["segments"] == len(records), "segments.json: head")
    for r, line in zip(records, lines[1:]):
        need(list(r) in (RECORD, [k for k in RECORD if k != "system"]) and json.dumps(r, separators=(",", ":")).encode() == line, "segments.json: a segment's line")
    return records, [bytes.fromhex(h) for h in head["edge"]]


def nodes_of(base, leaves, before):
    """The .nodes file: perfect subtrees of 256^step leaves that end in this segment.

    before[step] has the hashes of the level below that wait for their parent."""
    out, level = {}, leaves
    step = 1
    while level or before.get(step):
        pending = before.setdefault(step, [])
        made = []
        for h in level:
            pending.append(h)
            if len(pending) == 256:
                hashes = pending[:]
                while len(hashes) > 1:
                    hashes = [sha256(b"\1", a, b) for a, b in zip(hashes[::2], hashes[1::2])]
                made.append(hashes[0])
                pending.clear()
        out[step], level = made, made
        step += 1
    return b"".join(h for s in sorted(out) for h in out[s])


def read(dir, *name):
    try:
        with open(os.path.join(dir, *name), "rb") as f:
            return f.read()
    except FileNotFoundError:
        raise Bad("%s is missing" % "/".join(name))


def keys_of(dir, vkey):
    """The keys of the ledger with the size up to which each counts, and the entries about changes."""
    path = os.path.join(dir, "keys.jsonl")
    if not os.path.exists(path):
        return [(vkey, None)], {}
    keys, entries, last = [], {}, None
    for n, line in enumerate(read(dir, "keys.jsonl").decode().splitlines(), 1):
        r, where = json.loads(line), "keys.jsonl: line %d" % n
        need(list(r) == ["from", "previous", "vkey", "entry", "note"] and last in (None, r["previous"]), where)
        for key in (r["previous"], r["vkey"]):
            need(open_note(r["note"], key, where)[0] == r["from"], where + ": checkpoint of another size")
        keys.append((r["previous"], r["from"]))
        entries[r["from"] - 1] = r["entry"].encode()
        last = r["vkey"]
    need(last == vkey, "keys.jsonl: does not lead to the present key")
    return keys + [(vkey, None)], entries


def history(dir, keys):
    """Size and root of each checkpoint in checkpoints.jsonl, and the hash of each line by where it ends."""
    path = os.path.join(dir, "checkpoints.jsonl")
    out, marks, before, end = [], {}, None, 0
    if not os.path.exists(path):
        return None, marks
    for n, line in enumerate(read(dir, "checkpoints.jsonl").splitlines(keepends=True), 1):
        where = "checkpoints.jsonl: line %d" % n
        if not line.endswith(b"\n") or b"\0" in line:
            break  # cut off by a crash
        c = json.loads(line)
        want = base64.b64encode(sha256(before) if before else bytes(32)).decode()
        need(list(c) == ["prev", "note"] and c["prev"] == want, where + " does not follow the one before")
        need(json.dumps(c, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" == line, where + " is spelt in another way")
        for key, until in keys:
            try:
                size, root = open_note(c["note"], key, where)
            except Bad:
                continue
            if until is None or size <= until:
                break
        else:
            raise Bad(where + ": not signed by a key of the ledger")
        need(not out or size >= out[-1][0], where + ": is older than the one before")
        out.append((size, root, where))
        before, end = line, end + len(line)
        marks[end] = sha256(line).hex()
    return out, marks


class Verifier:
    def __init__(self, dir, trusted=None):
        self.dir, self.tree, self.pruned, self.unsealed = dir, Tree(), 0, 0
        ledger = read(dir, "ledger.json").decode()
        head = json.loads(ledger)
        need(head.get("format") == "kaizen-ledger" and head.get("version") in (1, 2), "ledger.json: format")
        need(ledger == json.dumps(head, separators=(",", ":")) + "\n" and list(head) == ["format", "version", "origin", "vkey"],
             "ledger.json: not in its one form")
        need(parse_key(head["vkey"])[0] == head["origin"], "ledger.json: key of another origin")
        self.keys, self.changes = keys_of(dir, head["vkey"])
        need(trusted is None or trusted in [k for k, _ in self.keys], "signed with another key than the trusted one")
        note = read(dir, "checkpoint").decode()
        self.size, self.root = open_note(note, head["vkey"], "checkpoint")
        self.history, self.marks = history(dir, self.keys)
        self.doubt = None  # what an entry says of the history, and it is not so
        archive = not any(name.endswith(".jsonl") for name in os.listdir(os.path.join(dir, "seg")))
        need(head["version"] == 1 or self.history or archive and self.history is None, "checkpoints.jsonl is missing, or empty")
        self.roots = {}
        for size, root, where in self.history or ():
            need(size <= self.size, "%s: rollback: the checkpoint has %d entries" % (where, self.size))
            self.roots.setdefault(size, []).append((root, where))
        self.wanted = {}  # entries that must say something
        self.check_roots()

    def check_roots(self):
        for root, where in self.roots.get(self.tree.size, ()):
            need(root == self.tree.root(), "%s: is not the root of the first %d entries" % (where, self.tree.size))

    def add(self, leaf):
        self.tree.add(leaf)
        self.check_roots()

    def line(self, line, stored, where):
        index = self.tree.size
        where = "%s: entry %d" % (where, index)
        leaf = sha256(b"\0", line)
        need(leaf == stored, where + " is not the one whose hash is stored")
        entry = parse_entry(line, where)
        if index in self.changes:
            need(self.changes[index] == line, where + " is not the one that keys.jsonl quotes")
        for check in self.wanted.pop(index, ()):
            check(entry, where)
        if (entry["agent_id"], entry["action"], entry["details"].get("history")) == ("kaizen", "ledger.restored", "lost"):
            self.doubt = None
        self.add(leaf)
        return entry

    def sealed(self):
        records, edge = read_manifest(self.dir)
        for r in records:
            said = {k: r[k] for k in RECORD[:-2] if k in r}
            if r["pruned"] >= 0:
                self.wanted.setdefault(r["pruned"], []).append(lambda e, w, said=said: need(
                    (e["agent_id"], e["action"]) == ("kaizen", "ledger.pruned") and
                    any({k: s.get(k) for k in said} == said for s in e["details"]["segments"]), w + " is not about that segment"))
            elif r["entry"] >= 0:
                self.wanted.setdefault(r["entry"], []).append(lambda e, w, said=said: self.vouched(e, w, said))
        waiting = {}
        for r in records:
            self.segment(r, waiting)
        if records:
            need(edge == self.tree.peaks, "segments.json: edge")

    def vouched(self, e, where, said):
        """Entry e must be about the segment that said describes; it also says how far the history had come."""
        details = dict(e["details"])
        mark = details.pop("history", None)
        need((e["agent_id"], e["action"]) == ("kaizen", "ledger.segment_sealed") and details == said, where + " is not about that segment")
        if mark and self.history and self.marks.get(mark["bytes"]) != mark["sha256"]:
            self.doubt = self.doubt or "checkpoints.jsonl: its first %d bytes are not those that %s vouches for" % (mark["bytes"], where)

    def segment(self, r, waiting):
        need(r["base"] == self.tree.size, "segments.json: segments do not follow each other")
        base = "%020d" % r["base"]
        files = {"l0": base + ".l0", "nodes": base + ".nodes"}
        if r["pruned"] < 0:
            files.update(zst=base + ".jsonl.zst", idx=base + ".idx")
        content = {}
        for kind, name in files.items():
            content[kind] = read(self.dir, "seg", name)
            need(sha256(content[kind]).hex() == r[kind], "seg/%s: not the file that was sealed" % name)
        hashes = content["l0"]
        need(len(hashes) == 32 * r["count"], "seg/%s: size" % files["l0"])
        leaves = [hashes[i:i + 32] for i in range(0, len(hashes), 32)]
        if r["pruned"] >= 0:
            self.pruned += r["count"]
            for leaf in leaves:
                self.add(leaf)
        else:
            lines = sealed_lines(content["zst"], r["count"], "seg/" + files["zst"])
            need(sha256(b"".join(x + b"\n" for x in lines)).hex() == r["raw"], "seg/%s: lines" % files["zst"])
            entries = [self.line(line, leaf, "seg/" + files["zst"]) for line, leaf in zip(lines, leaves)]
            own = sorted({e["action"] for e in entries if e["agent_id"] == "kaizen" and e["action"].startswith("ledger.")})
            need(r.get("system", own) == own, "segments.json: the ledger's own entries in segment " + base)
        need(self.tree.root().hex() == r["root"], "segments.json: root after segment " + base)
        need(nodes_of(r["base"], leaves, waiting) == content["nodes"], "seg/%s: nodes" % files["nodes"])

    def open_segments(self):
        while True:
            base = "%020d" % self.tree.size
            if not os.path.exists(os.path.join(self.dir, "seg", base + ".jsonl")):
                break
            start, name = self.tree.size, "seg/" + base + ".jsonl"
            text, hashes = read(self.dir, "seg", base + ".jsonl"), read(self.dir, "seg", base + ".l0")
            at = 0
            while at < len(text) and self.tree.size < self.size:
                end = text.find(b"\n", at)
                need(end >= 0, "%s: entry %d is cut off" % (name, self.tree.size))
                i = 32 * (self.tree.size - start)
                self.line(text[at:end], hashes[i:i + 32], name)
                at = end + 1
            if at < len(text) or self.tree.size == start:
                self.unsealed = text.count(b"\n", at)
                break

    def run(self):
        self.sealed()
        self.open_segments()
        need(self.tree.size == self.size, "entry %d is missing: the checkpoint covers %d" % (self.tree.size, self.size))
        need(self.tree.root() == self.root, "checkpoint: the entries have another root")
        need(not self.wanted, "segments.json: refers to entries that are not there")
        need(not self.doubt, self.doubt)
        closed = not os.path.exists(os.path.join(self.dir, "ring"))
        need(not closed or self.unsealed == 0, "there are entries beyond the checkpoint of a closed ledger")
        if closed and self.history:
            need(self.history[-1][0] == self.size, "checkpoints.jsonl: the last line is not of the newest checkpoint")


def main(args):
    trusted = None
    if "--key" in args:
        i = args.index("--key")
        trusted = open(args[i + 1]).read().strip()
        del args[i:i + 2]
    if len(args) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        v = Verifier(args[0], trusted)
        v.run()
    except (Bad, ValueError, KeyError, TypeError, struct.error, subprocess.CalledProcessError) as err:
        print("tampered: %s" % (str(err) or type(err).__name__))
        return 1
    print("intact: %d entries, %d of them removed by retention, root %s" % (v.size, v.pruned, v.root.hex()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
