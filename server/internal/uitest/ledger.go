package uitest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "kaizen.example/fixture"

// ledger is a real Merkle tree over the canned entries with a real signature,
// made with a library that the page knows nothing of: what the page verifies
// here it would verify anywhere.
type ledger struct {
	entries []object
	lines   [][]byte
	hashes  []tlog.Hash
	root    tlog.Hash
	note    string
	vkey    string
}

func newLedger(entries []object) (*ledger, error) {
	l := &ledger{entries: entries}
	for i, e := range entries {
		e["index"] = i
		stored := object{}
		for k, v := range e {
			if k != "index" { // a line's position is its index
				stored[k] = v
			}
		}
		line, err := json.Marshal(stored)
		if err != nil {
			return nil, fmt.Errorf("uitest: encode entry %d: %w", i, err)
		}
		hashes, err := tlog.StoredHashes(int64(i), line, tlog.HashReaderFunc(l.read))
		if err != nil {
			return nil, fmt.Errorf("uitest: hash entry %d: %w", i, err)
		}
		l.lines, l.hashes = append(l.lines, line), append(l.hashes, hashes...)
	}
	var err error
	if l.root, err = tlog.TreeHash(int64(len(entries)), tlog.HashReaderFunc(l.read)); err != nil {
		return nil, fmt.Errorf("uitest: root: %w", err)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, fmt.Errorf("uitest: key: %w", err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("uitest: signer: %w", err)
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, len(entries), base64.StdEncoding.EncodeToString(l.root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return nil, fmt.Errorf("uitest: sign: %w", err)
	}
	l.note, l.vkey = string(signed), vkey
	return l, nil
}

func (l *ledger) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at < 0 || at >= int64(len(l.hashes)) {
			return nil, fmt.Errorf("uitest: no stored hash %d", at)
		}
		out[i] = l.hashes[at]
	}
	return out, nil
}

func (l *ledger) checkpoint() object {
	return object{"origin": origin, "size": len(l.lines), "root": hex.EncodeToString(l.root[:]), "note": l.note, "vkey": l.vkey}
}

// proof is the text of C2SP tlog-proof, the stored line in its extra field.
func (l *ledger) proof(index int64) ([]byte, error) {
	if index < 0 || index >= int64(len(l.lines)) {
		return nil, notFound(fmt.Sprintf("no entry %d", index))
	}
	hashes, err := tlog.ProveRecord(int64(len(l.lines)), index, tlog.HashReaderFunc(l.read))
	if err != nil {
		return nil, fmt.Errorf("uitest: prove %d: %w", index, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "c2sp.org/tlog-proof@v1\nextra %s\nindex %d\n", base64.StdEncoding.EncodeToString(l.lines[index]), index)
	for _, h := range hashes {
		fmt.Fprintln(&b, base64.StdEncoding.EncodeToString(h[:]))
	}
	fmt.Fprintf(&b, "\n%s", l.note)
	return b.Bytes(), nil
}
