package evidence

// readme is README.txt. A check compares it, so a change needs another version
// of the format.
const readme = `EVIDENCE PACK OF AN AUDIT LEDGER

What is here

  report.html       what the entries say, for reading and printing
  entries.jsonl     the entries, one a line, as the ledger stores them, with
                    "index" put in front: {"index":7,"id":...}
  readable.jsonl    (only if the exporter revealed it) the same entries with what
                    is encrypted in plain text
  proof.txt         one proof that all of them stand in the ledger
  checkpoint        the signed tree head that the proof leads to
  earlier/          older signed checkpoints, each with a proof that the newer one
                    extends it
  keys.txt          the ledger's public keys, the present one first
  keys.jsonl        (only if the key was changed) how each key follows the other
  manifest.json     what was selected, and the SHA-256 of every other file

What it shows, and what not

  Every entry stands in the ledger at its index, as it is here, since before the
  checkpoint was signed. That nobody left out an entry that matches cannot be seen
  from a selection: check the ledger itself (kaizen audit verify DIR) or ask for a
  pack of everything. What is in the manifest beside hashes and keys (the filter,
  the time, the tool), and readable.jsonl, are statements of whoever made the pack.

With the program

  kaizen audit verify PACK --key ledger.vkey

  ledger.vkey has the public key as the operator gave it to you by another way.
  It needs nothing else, and ends with 0 (intact) or 1 (tampered, and where).

Without the program

  1. SHA-256 of every file as manifest.json has it:  sha256sum *
  2. checkpoint is a signed note (c2sp.org/signed-note): the text up to the empty
     line, its newline included, is signed with Ed25519. The signature line ends
     with base64 of 4 bytes (key id) and 64 bytes (signature). A public key is
     name+id+base64 of 0x01 and the 32 bytes of the key. The three lines of the text
     are name, number of entries, and root in base64.
  3. The line of an entry is its line in entries.jsonl without '"index":N,'. Its
     leaf hash is SHA-256 of a zero byte and the line.
  4. proof.txt, after its first line, has from left to right
        INDEX HASH      an entry of the pack: its leaf hash
        FROM TO HASH    the subtree of the entries FROM to TO-1, which are not here
     Keep a list of (size, hash); an entry has size 1. When the last two are of one
     size, put SHA-256(0x01, left, right) of twice the size in their place, and look
     again. At the end, join the last two in the same way until one is left: the root.
  5. earlier/N.tlog-consistency has an older checkpoint in base64 ("old"), the hashes
     of a consistency proof (RFC 6962, 2.1.2), and the newer checkpoint.
`
