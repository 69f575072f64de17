package group

import (
	"context"
	"fmt"
	"strings"

	"github.com/kaizen-go/kaizen/audit"
)

// Origin is the ledger's name.
func (l *Ledger) Origin() string { return l.keys.Origin() }

// VerifierKey is the public key of its checkpoints.
func (l *Ledger) VerifierKey() string { return l.keys.VerifierKey() }

// VerifierKeys are the public keys of the ledger, the present one first: those
// before it check older receipts and proofs.
func (l *Ledger) VerifierKeys() ([]string, error) { return l.keys.VerifierKeys(), nil }

// KeyRanges is [audit.Ledger.KeyRanges].
func (l *Ledger) KeyRanges() ([]audit.KeyRange, error) {
	changes := l.keys.Changes()
	out := make([]audit.KeyRange, 0, len(changes)+1)
	var from int64
	for _, c := range changes {
		out = append(out, audit.KeyRange{Key: c.Previous, From: from, Until: c.From})
		from = c.From
	}
	present := l.VerifierKey()
	if n := len(changes); n > 0 {
		present = changes[n-1].Key
	}
	return append(out, audit.KeyRange{Key: present, From: from, Until: -1}), nil
}

// KeyChanges are the changes of the key, oldest first.
func (l *Ledger) KeyChanges() []audit.KeyChange { return l.keys.Changes() }

// Witnessed is [audit.Ledger.Witnessed], of what this process has asked for.
func (l *Ledger) Witnessed() audit.Checkpoint { return l.outward.Witnessed() }

// OutwardStats says what witnesses and anchors know.
func (l *Ledger) OutwardStats() audit.OutwardStats { return l.outward.Stats() }

// RotateKey gives the ledger a new signing key, as [audit.Ledger.RotateKey]: the
// entry about it is the last one under the old key. The new private key takes the
// place of the old one, which stays beside it as <name>.old. Other processes with
// the same key file follow by themselves; one with a copy of its own appends
// again when it has the new key there, and gets [ErrKey] until then.
func (l *Ledger) RotateKey(ctx context.Context) (previous, vkey string, err error) {
	l.rotating.Lock()
	defer l.rotating.Unlock()
	previous, vkey, err = l.rotate(ctx)
	if err != nil {
		return "", "", l.Wrap("rotate key", err)
	}
	return previous, vkey, nil
}

func (l *Ledger) rotate(ctx context.Context) (previous, vkey string, err error) {
	if err := l.Flush(ctx); err != nil {
		return "", "", err
	}
	previous = l.keys.VerifierKey()
	next, err := nextSigner(l.keys.file, l.Origin(), l.keys.VerifierKeys())
	if err != nil {
		return "", "", err
	}
	c, err := newCall([]audit.Entry{audit.KeyChangeEntry(previous, next.vkey)})
	if err != nil {
		return "", "", err
	}
	c.next = next
	// Whoever waits must not leave a change behind that nobody answers for.
	if err := l.queue.do(context.WithoutCancel(ctx), c); err != nil {
		return "", "", err
	}
	l.outward.ChangedKey()
	return previous, next.vkey, nil
}

// Signed is a group's checkpoint, and what must be stored with it if the group
// changes the key.
type Signed struct {
	// Checkpoint is signed with the key that counts from here on.
	audit.Checkpoint
	// Change is nil in an ordinary group.
	Change *audit.KeyChange

	next *Signer
}

// Sign signs the tree that a group ends with. If the group changes the key, its
// one entry must name the present one.
func (k *Keys) Sign(g *Group, tree *Tree) (Signed, error) {
	s, err := k.Signer()
	if err != nil {
		return Signed{}, err
	}
	c, err := s.Sign(tree.Size, tree.Root())
	if err != nil || g.next == nil {
		return Signed{Checkpoint: c}, err
	}
	both, err := g.next.Cosign(c)
	if err != nil {
		return Signed{}, err
	}
	change := audit.KeyChange{From: tree.Size, Previous: s.vkey, Key: g.next.vkey, Entry: g.Calls[0].Records[0].Line, Note: both.Note}
	if _, err := audit.ParseKeyChange(change.Encode()); err != nil {
		return Signed{}, fmt.Errorf("%w: it was changed meanwhile: %w", ErrKey, err)
	}
	c, err = g.next.Sign(tree.Size, tree.Root())
	return Signed{Checkpoint: c, Change: &change, next: g.next}, err
}

// Committed goes on under the new key of a group that changed it.
func (k *Keys) Committed(s Signed) error {
	if s.Change == nil {
		return nil
	}
	return k.change(*s.Change, s.next)
}

// Refuse has every call of the group answered with err, because nothing was
// written.
func (g *Group) Refuse(err error) error {
	for _, c := range g.Calls {
		if c.Err == nil {
			c.Err = err
		}
	}
	return err
}

// otherSignatures reports whether a note has the signature of another name.
func otherSignatures(note, name string) bool {
	_, sigs, _ := strings.Cut(note, "\n\n")
	for line := range strings.Lines(sigs) {
		if !strings.HasPrefix(line, "— "+name+" ") {
			return true
		}
	}
	return false
}
