package kaizentest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// TestOutward checks that a ledger shows its checkpoints to witnesses and
// anchors: by itself while it is open, once more when it is closed, under a new
// key after a change, and that nobody's refusal holds it up.
//
// Fresh makes the place of a new ledger, as that of [TestLedger] does; what it
// returns opens the ledger with the given witness and anchors.
func TestOutward(t *testing.T, fresh func(t *testing.T) (open func(audit.OutwardConfig) (audit.Backend, error))) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, open func(audit.OutwardConfig) (audit.Backend, error))
	}{
		{"rounds", testRounds},
		{"closing", testLastRound},
		{"refusals", testRefusing},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, fresh(t)) })
	}
}

var errRefused = errors.New("refused")

// outside is a witness and an anchor. It checks what it is shown as a stranger
// would: by signatures, and by proofs that join one checkpoint to the next.
type outside struct {
	t      *testing.T
	signer note.Signer
	refuse bool
	seen   chan int64 // sizes that were cosigned or anchored, if not nil

	mu       sync.Mutex
	last     audit.Checkpoint
	anchored []audit.Checkpoint
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, "witness.example.org")
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{t: t}
	if o.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *outside) tell(ctx context.Context, size int64) error {
	if o.seen == nil {
		return nil
	}
	select {
	case o.seen <- size:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Cosign implements [audit.Witness].
func (o *outside) Cosign(ctx context.Context, c audit.Checkpoint, prove func(from int64) ([][32]byte, error)) (string, error) {
	if o.refuse {
		return c.Note, errRefused
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last.Size > 0 && o.last.Size < c.Size {
		hashes, err := prove(o.last.Size)
		if err != nil {
			return c.Note, err
		}
		proof := make(tlog.TreeProof, len(hashes))
		for i, h := range hashes {
			proof[i] = h
		}
		if err := tlog.CheckTree(proof, c.Size, c.Root, o.last.Size, o.last.Root); err != nil {
			o.t.Errorf("the witness is shown %d entries after %d: %v", c.Size, o.last.Size, err)
			return c.Note, err
		}
	}
	text, _, _ := strings.Cut(c.Note, "\n\n")
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, o.signer)
	if err != nil {
		return c.Note, err
	}
	_, sig, _ := strings.Cut(string(signed), "\n\n")
	o.last = c
	return c.Note + sig, o.tell(ctx, c.Size)
}

// Anchor implements [audit.Anchor].
func (o *outside) Anchor(ctx context.Context, c audit.Checkpoint) error {
	if o.refuse {
		return errRefused
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.anchored = append(o.anchored, c)
	return o.tell(ctx, c.Size)
}

// kept are the checkpoints that the anchor has.
func (o *outside) kept() []audit.Checkpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]audit.Checkpoint(nil), o.anchored...)
}

func openOutward(t *testing.T, open func(audit.OutwardConfig) (audit.Backend, error), cfg audit.OutwardConfig) *ledgerSuite {
	t.Helper()
	s := &ledgerSuite{T: t, openIt: func() (audit.Backend, error) { return open(cfg) }, start: time.Now().UTC().Add(-time.Hour)}
	s.open()
	t.Cleanup(s.shut)
	return s
}

// testRounds: witness and anchor are asked without being called.
func testRounds(t *testing.T, open func(audit.OutwardConfig) (audit.Backend, error)) {
	w, a := newOutside(t), newOutside(t)
	w.seen, a.seen = make(chan int64), make(chan int64)
	s := openOutward(t, open, audit.OutwardConfig{Witness: w, WitnessEvery: time.Millisecond, Anchors: []audit.Anchor{a}, AnchorEvery: time.Millisecond})
	s.fill(3)
	for name, seen := range map[string]chan int64{"witness": w.seen, "anchor": a.seen} {
		for size := range seen {
			if size > 3 {
				s.Errorf("the %s saw %d entries of 3", name, size)
			}
			if size == 3 {
				break
			}
		}
	}
	// From here on nobody looks: the last round must not wait for it.
	go drain(w.seen)
	go drain(a.seen)
	defer close(w.seen)
	defer close(a.seen)
	s.shut()
}

func drain(c chan int64) {
	for range c {
		continue
	}
}

// testLastRound: what was appended last is cosigned and anchored when the ledger
// is closed, and again under a new key.
func testLastRound(t *testing.T, open func(audit.OutwardConfig) (audit.Backend, error)) {
	w, a := newOutside(t), newOutside(t)
	cfg := audit.OutwardConfig{Witness: w, WitnessEvery: time.Hour, Anchors: []audit.Anchor{a, a}, AnchorEvery: time.Hour}
	s := openOutward(t, open, cfg)
	check := func(size int64, signatures int) {
		s.Helper()
		s.shut()
		c := s.l.Witnessed()
		if c.Size != size || foreignSignatures(c.Note, s.l.Origin()) != 1 {
			s.Errorf("Witnessed() is of %d entries, want %d: %s", c.Size, size, c.Note)
		}
		if err := checkNote(s.l, c); err != nil {
			s.Error(err)
		}
		if _, sigs, _ := strings.Cut(c.Note, "\n\n"); strings.Count(sigs, "\n") != signatures {
			s.Errorf("the cosigned checkpoint has the signatures %s, want %d", sigs, signatures)
		}
		if st := s.l.Stats().Outward; st.Witnessed != size || st.Anchored != size || st.WitnessFailures != 0 || st.AnchorFailures != 0 {
			s.Errorf("Stats().Outward = %+v, want %d entries", st, size)
		}
		kept := a.kept()
		if len(kept) < 2 || kept[len(kept)-1].Size != size || kept[len(kept)-2].Size != size {
			s.Errorf("the anchors have %d checkpoints", len(kept))
		} else if _, err := audit.ParseCheckpoint([]byte(kept[len(kept)-1].Note), s.l.VerifierKey()); err != nil {
			s.Errorf("what is anchored: %v", err)
		}
	}
	s.fill(4)
	check(4, 2)
	s.open()
	s.fill(2)
	old, _, err := s.l.RotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	check(7, 3)
	s.signedBy(s.l.Witnessed(), old)
}

// testRefusing: failures are counted, and stop nothing.
func testRefusing(t *testing.T, open func(audit.OutwardConfig) (audit.Backend, error)) {
	w, a, b := newOutside(t), newOutside(t), newOutside(t)
	w.refuse, a.refuse = true, true
	s := openOutward(t, open, audit.OutwardConfig{Witness: w, WitnessEvery: time.Hour, Anchors: []audit.Anchor{a, b}, AnchorEvery: time.Hour})
	s.fill(2)
	s.check()
	s.shut()
	if st := s.l.Stats().Outward; st.Witnessed != 0 || st.Anchored != 0 || st.WitnessFailures != 1 || st.AnchorFailures != 1 {
		s.Errorf("Stats().Outward = %+v, want a failure of each", st)
	}
	if kept := b.kept(); len(kept) != 1 || kept[0].Size != 2 {
		s.Errorf("the anchor that works has %d checkpoints", len(kept))
	}
}
