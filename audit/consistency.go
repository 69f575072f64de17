package audit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// ConsistencyProof shows that a ledger only grew between two checkpoints: the
// entries under the old one are the first under the new one. Whoever has it
// needs nothing but the ledger's public key. docs/ledger-format.md describes
// its text.
type ConsistencyProof struct {
	// Old and New are the two signed checkpoints.
	Old, New string
	// Hashes are the nodes of the tree that join them (RFC 6962, section
	// 2.1.2). There are none if Old is empty or both are of one size.
	Hashes [][32]byte
}

const (
	consistencyFirstLine = "kaizen tlog-consistency v1\n"
	oldPrefix            = "old "
)

// Marshal gives the text of the proof, the content of a .tlog-consistency file.
func (p ConsistencyProof) Marshal() []byte {
	b := append([]byte(nil), consistencyFirstLine...)
	b = append(b, oldPrefix...)
	b = append(base64.StdEncoding.AppendEncode(b, []byte(p.Old)), '\n')
	b = appendHashLines(b, p.Hashes)
	b = append(b, '\n')
	return append(b, p.New...)
}

// appendHashLines writes hashes in base64, one a line, as C2SP's proofs have
// them.
func appendHashLines(b []byte, hashes [][32]byte) []byte {
	for i := range hashes {
		b = append(base64.StdEncoding.AppendEncode(b, hashes[i][:]), '\n')
	}
	return b
}

// parseHashLines reads what appendHashLines wrote, without the last newline.
func parseHashLines(lines []string) ([][32]byte, error) {
	if len(lines) > maxProofHashes {
		return nil, fmt.Errorf("%d hashes, at most %d", len(lines), maxProofHashes)
	}
	var hashes [][32]byte
	for _, line := range lines {
		h, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(h) != 32 {
			return nil, fmt.Errorf("hash is not 32 bytes of base64")
		}
		hashes = append(hashes, [32]byte(h))
	}
	return hashes, nil
}

// ParseConsistencyProof reads what [ConsistencyProof.Marshal] writes, and
// nothing else: marshalling the result gives the same bytes. It does not check
// the proof. Errors wrap [ErrProof].
func ParseConsistencyProof(b []byte) (ConsistencyProof, error) {
	var p ConsistencyProof
	head, text, ok := bytes.Cut(b, []byte("\n\n"))
	rest, isProof := strings.CutPrefix(string(head)+"\n", consistencyFirstLine)
	if !ok || !isProof {
		return p, badProof("not a consistency proof")
	}
	p.New = string(text)
	lines := strings.Split(strings.TrimSuffix(rest, "\n"), "\n")
	old, hasOld := strings.CutPrefix(lines[0], oldPrefix)
	if !hasOld {
		return p, badProof("no old checkpoint")
	}
	oldText, err := base64.StdEncoding.DecodeString(old)
	if err != nil {
		return p, badProof("old checkpoint is not base64")
	}
	p.Old = string(oldText)
	if p.Hashes, err = parseHashLines(lines[1:]); err != nil {
		return p, badProof("%v", err)
	}
	if !bytes.Equal(p.Marshal(), b) {
		return p, badProof("not in canonical form")
	}
	return p, nil
}

// Check verifies the proof: both checkpoints are signed with one of vkeys, the
// public keys of one ledger (more than one after its key was changed), and the
// new one extends the old one. It returns both. Errors wrap [ErrProof].
func (p ConsistencyProof) Check(vkeys ...string) (from, to Checkpoint, err error) {
	if from, err = parseCheckpointAny([]byte(p.Old), vkeys); err != nil {
		return from, to, badProof("old checkpoint: %v", err)
	}
	if to, err = parseCheckpointAny([]byte(p.New), vkeys); err != nil {
		return from, to, badProof("new checkpoint: %v", err)
	}
	if err := merkle.CheckConsistency(p.Hashes, from.Size, to.Size, from.Root, to.Root); err != nil {
		return from, to, badProof("the tree of %d entries does not extend that of %d: %v", to.Size, from.Size, err)
	}
	return from, to, nil
}

// ParseCheckpoint reads a signed checkpoint and checks that one of vkeys signed
// it; more than one key belongs to a ledger whose key was changed. Signatures of
// others, such as witnesses, may stand beside it and are not looked at.
func ParseCheckpoint(note []byte, vkeys ...string) (Checkpoint, error) {
	c, err := parseCheckpointAny(note, vkeys)
	if err != nil {
		return c, fmt.Errorf("audit: checkpoint: %w", err)
	}
	return c, nil
}

// parseCheckpointAny is parseCheckpoint under the first key that signed msg.
func parseCheckpointAny(msg []byte, vkeys []string) (c Checkpoint, err error) {
	err = fmt.Errorf("no key to check it with")
	for _, vkey := range vkeys {
		if c, err = parseCheckpoint(msg, vkey); err == nil {
			return c, nil
		}
	}
	return c, err
}

// Consistency returns the hashes that show that the first from entries are the
// beginning of the first to entries (RFC 6962, section 2.1.2): none if from is
// 0 or to. It is an error if the ledger has fewer than to entries.
func (l *Ledger) Consistency(from, to int64) ([][32]byte, error) {
	return l.store.consistency(from, to)
}

// ProveConsistency makes a proof that the ledger's newest checkpoint extends
// an older one. It is an error if old is not signed by this ledger, is newer
// than what the ledger holds, or not of its history: a [*TamperError] names
// the last two.
func (l *Ledger) ProveConsistency(old []byte) (ConsistencyProof, error) {
	return l.store.proveConsistency(old, l.Checkpoint())
}

// Consistency is [Ledger.Consistency].
func (r *Reader) Consistency(from, to int64) ([][32]byte, error) {
	return r.store.consistency(from, to)
}

// ProveConsistency is [Ledger.ProveConsistency].
func (r *Reader) ProveConsistency(old []byte) (ConsistencyProof, error) {
	return r.store.proveConsistency(old, r.Checkpoint())
}

func (s *store) consistency(from, to int64) ([][32]byte, error) {
	v, err := s.view()
	if err != nil {
		return nil, fmt.Errorf("audit: consistency of %d and %d: %w", from, to, err)
	}
	hashes, err := v.Consistency(from, to)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return hashes, nil
}

func (s *store) proveConsistency(old []byte, head Checkpoint) (ConsistencyProof, error) {
	p := ConsistencyProof{Old: string(old), New: head.Note}
	spans, err := s.spans()
	if err != nil {
		return p, fmt.Errorf("audit: prove consistency: %w", err)
	}
	c, err := parseSpans(old, spans, parseCheckpoint)
	if err != nil {
		return p, fmt.Errorf("audit: prove consistency: old checkpoint: %w", err)
	}
	if c.Size > head.Size {
		return p, fmt.Errorf("audit: prove consistency: %w", rollback(head.Size, c.Size))
	}
	if p.Hashes, err = s.consistency(c.Size, head.Size); err != nil {
		return p, err
	}
	if err := merkle.CheckConsistency(p.Hashes, c.Size, head.Size, c.Root, head.Root); err != nil {
		return p, fmt.Errorf("audit: prove consistency: %w", &TamperError{
			Path: checkpointName, Index: -1, Want: fmt.Sprintf("root %x", c.Root),
			Reason: fmt.Sprintf("fork: the first %d entries are not those of the old checkpoint", c.Size),
		})
	}
	return p, nil
}
