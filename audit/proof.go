package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// Proof shows that one entry is in a ledger, to somebody who has nothing but
// the ledger's public key. As text it is a C2SP tlog-proof
// (c2sp.org/tlog-proof), whose extra line carries the entry.
type Proof struct {
	// Index is the entry's position.
	Index int64
	// Line is the stored line, without newline.
	Line []byte
	// Hashes are its siblings in the Merkle tree, from the leaf up.
	Hashes [][32]byte
	// Note is the signed checkpoint that the proof leads to.
	Note string
}

const (
	proofFirstLine = "c2sp.org/tlog-proof@v1\n"
	extraPrefix    = "extra "
	indexPrefix    = "index "
	// maxProofHashes is enough for a tree of 2^63 entries.
	maxProofHashes = 63
)

// ErrProof means that a proof does not show what it claims to.
var ErrProof = errors.New("proof is not valid")

func badProof(format string, args ...any) error {
	return fmt.Errorf("audit: %w: %s", ErrProof, fmt.Sprintf(format, args...))
}

// Marshal gives the text of the proof, the content of a .tlog-proof file.
func (p Proof) Marshal() []byte {
	b := append([]byte(nil), proofFirstLine...)
	b = append(b, extraPrefix...)
	b = base64.StdEncoding.AppendEncode(b, p.Line)
	b = append(b, "\n"+indexPrefix...)
	b = strconv.AppendInt(b, p.Index, 10)
	b = append(b, '\n')
	b = appendHashLines(b, p.Hashes)
	b = append(b, '\n')
	return append(b, p.Note...)
}

// ParseProof reads what [Proof.Marshal] writes, and nothing else: marshalling
// the result gives the same bytes. It does not check the proof. Errors wrap
// [ErrProof].
func ParseProof(b []byte) (Proof, error) {
	var p Proof
	head, text, ok := bytes.Cut(b, []byte("\n\n"))
	rest, isProof := strings.CutPrefix(string(head)+"\n", proofFirstLine)
	if !ok || !isProof {
		return p, badProof("not a tlog-proof")
	}
	p.Note = string(text)
	lines := strings.Split(strings.TrimSuffix(rest, "\n"), "\n")
	if len(lines) < 2 {
		return p, badProof("%d lines before the checkpoint", len(lines))
	}
	extra, hasLine := strings.CutPrefix(lines[0], extraPrefix)
	index, hasIndex := strings.CutPrefix(lines[1], indexPrefix)
	if !hasLine || !hasIndex {
		return p, badProof("no entry and index")
	}
	var err error
	if p.Line, err = base64.StdEncoding.DecodeString(extra); err != nil {
		return p, badProof("entry is not base64")
	}
	if p.Index, err = strconv.ParseInt(index, 10, 64); err != nil || p.Index < 0 {
		return p, badProof("bad index")
	}
	if p.Hashes, err = parseHashLines(lines[2:]); err != nil {
		return p, badProof("%v", err)
	}
	if !bytes.Equal(p.Marshal(), b) {
		return p, badProof("not in canonical form")
	}
	return p, nil
}

// Check verifies the proof against vkey, the public key of the ledger: the
// checkpoint is signed with it, and the entry is in its tree at Index. Errors
// wrap [ErrProof].
func (p Proof) Check(vkey string) error {
	c, err := parseCheckpoint([]byte(p.Note), vkey)
	if err != nil {
		return badProof("checkpoint: %v", err)
	}
	if _, err := DecodeLine(p.Line); err != nil {
		return badProof("entry: %v", err)
	}
	if err := merkle.CheckInclusion(p.Hashes, p.Index, c.Size, merkle.HashLeaf(p.Line), c.Root); err != nil {
		return badProof("entry %d is not in the tree of %d entries: %v", p.Index, c.Size, err)
	}
	return nil
}

// Entry is the entry that the proof is about.
func (p Proof) Entry() (Entry, error) {
	e, err := DecodeLine(p.Line)
	e.Index = p.Index
	return e, err
}

// Checkpoint reads the proof's checkpoint and checks its signature.
func (p Proof) Checkpoint(vkey string) (Checkpoint, error) {
	c, err := parseCheckpoint([]byte(p.Note), vkey)
	if err != nil {
		return c, badProof("checkpoint: %v", err)
	}
	return c, nil
}
