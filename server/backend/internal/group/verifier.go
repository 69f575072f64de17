package group

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// verifierKey is the public half of a signing key in the note format.
func verifierKey(skey string) (string, error) {
	part := strings.SplitN(skey, "+", 5)
	if len(part) != 5 {
		return "", errors.New("not a signing key in the note format")
	}
	raw, err := base64.StdEncoding.DecodeString(part[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return "", errors.New("not a signing key in the note format")
	}
	public, ok := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("signing key without public half")
	}
	return note.NewEd25519VerifierKey(part[2], public)
}

// OpenCheckpoint checks a signed checkpoint and returns what it says.
func OpenCheckpoint(text, vkey string) (audit.Checkpoint, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return audit.Checkpoint{}, fmt.Errorf("verifier key: %w", err)
	}
	n, err := note.Open([]byte(text), note.VerifierList(v))
	if err != nil {
		return audit.Checkpoint{}, err
	}
	var size int64
	var root tlog.Hash
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 {
		return audit.Checkpoint{}, errors.New("checkpoint is not of three lines")
	}
	if _, err := fmt.Sscanf(lines[1], "%d", &size); err != nil {
		return audit.Checkpoint{}, errors.New("checkpoint without size")
	}
	raw, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(raw) != len(root) {
		return audit.Checkpoint{}, errors.New("checkpoint without root")
	}
	copy(root[:], raw)
	if n.Text != fmt.Sprintf("%s\n%d\n%s\n", v.Name(), size, root) || size < 0 {
		return audit.Checkpoint{}, errors.New("checkpoint of another origin, or not in canonical form")
	}
	return audit.Checkpoint{Size: size, Root: root, Note: text}, nil
}

// Prove makes the proof of one entry from tiles, every hash of which is checked
// against the checkpoint's root on the way.
func Prove(c audit.Checkpoint, index int64, line []byte, tiles tlog.TileReader) (audit.Proof, error) {
	reader := tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, tiles)
	hashes, err := tlog.ProveRecord(c.Size, index, reader)
	if err != nil {
		return audit.Proof{}, err
	}
	p := audit.Proof{Index: index, Line: line, Note: c.Note}
	for _, h := range hashes {
		p.Hashes = append(p.Hashes, h)
	}
	if err := tlog.CheckRecord(hashes, c.Size, c.Root, index, tlog.RecordHash(line)); err != nil {
		return audit.Proof{}, fmt.Errorf("entry does not match the tree: %w", err)
	}
	return p, nil
}
