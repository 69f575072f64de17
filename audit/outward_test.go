package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// copyDir copies a ledger's directory as it is.
func copyDir(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(dir))
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// putBack replaces a ledger's directory by a copy.
func putBack(t testing.TB, dir, from string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestRollbackMemory puts an older copy of a ledger back: opening refuses it,
// unless that is asked for, and then says so in the ledger.
func TestRollbackMemory(t *testing.T) {
	dir, _ := closedLedger(t, 5)
	older := copyDir(t, dir)
	l := mustOpen(t, dir, small())
	lost := appendN(t, l, 5, 9)[3].Checkpoint
	mustClose(t, l)
	putBack(t, dir, older)
	before := filesOf(t, dir)
	_, err := Open(dir, small())
	var damage *TamperError
	if !errors.As(err, &damage) || !strings.HasPrefix(damage.Reason, "rollback: ") || damage.Want != "9 entries" || !strings.Contains(err.Error(), "AcceptRestored") {
		t.Fatalf("Open of an older copy = %v, want a rollback of 9 entries, and the way out", err)
	}
	for name, data := range filesOf(t, dir) {
		if string(before[name]) != string(data) {
			t.Errorf("the refused Open changed %s", name)
		}
	}
	cfg := small()
	cfg.AcceptRestored = true
	l = mustOpen(t, dir, cfg)
	e, err := l.Get(t.Context(), 5)
	if err != nil || e.Action != actionRestored || e.AgentID != systemAgent || fmt.Sprintf("%v %v", e.Details["remembered_size"], e.Details["size"]) != "9 5" {
		t.Errorf("entry 5 is %+v, %v; want the restore", e, err)
	}
	mustClose(t, l)
	// From here on the restored state is the one that is remembered.
	l = mustOpen(t, dir, small())
	appendN(t, l, 100, 110)
	mustClose(t, l)
	checkClean(t, dir, 16)
	if _, err := Verify(t.Context(), dir, VerifyConfig{Checkpoint: []byte(lost.Note)}); !isTamper(err) {
		t.Errorf("Verify with a receipt from before the restore = %v, want a TamperError", err)
	}
	mustOpen(t, dir, cfg) // nothing to accept: no second entry
	if r, err := OpenReader(dir); err != nil || r.Size() != 16 {
		t.Errorf("after opening with nothing to accept: %d entries, %v", r.Size(), err)
	}
}

// TestForkMemory continues two copies under one key: whichever comes second is
// refused.
func TestForkMemory(t *testing.T) {
	dir, _ := closedLedger(t, 5)
	twin := copyDir(t, dir)
	keys := filepath.Join(filepath.Dir(dir), "keys")
	if err := os.CopyFS(filepath.Join(filepath.Dir(twin), "keys"), os.DirFS(keys)); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, dir, small())
	appendN(t, l, 5, 7)
	mustClose(t, l)
	l = mustOpen(t, twin, small())
	appendN(t, l, 100, 110)
	mustClose(t, l)
	putBack(t, dir, twin)
	_, err := Open(dir, small())
	var damage *TamperError
	if !errors.As(err, &damage) || !strings.HasPrefix(damage.Reason, "fork: ") {
		t.Errorf("Open of another history = %v, want a fork", err)
	}
	cfg := small()
	cfg.AcceptRestored = true
	l = mustOpen(t, dir, cfg)
	if n, err := l.Count(t.Context(), Query{Action: actionRestored}); n != 1 || err != nil {
		t.Errorf("%d entries about the restore, %v", n, err)
	}
}

// TestLedgerRemoved: a ledger that is begun anew under its old key is a
// rollback too.
func TestLedgerRemoved(t *testing.T) {
	dir, _ := closedLedger(t, 5)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, small()); !isTamper(err) {
		t.Errorf("Open of a ledger that was removed = %v, want a TamperError", err)
	}
}

func TestMemoryDamaged(t *testing.T) {
	dir, _ := closedLedger(t, 3)
	if err := os.WriteFile(memoryPath(dir, ""), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, small()); !isTamper(err) {
		t.Errorf("Open with a damaged memory = %v, want a TamperError", err)
	}
}

// recorder is a witness and an anchor that may refuse.
type recorder struct {
	mu     sync.Mutex
	refuse bool
	sizes  []int64
	notes  []string
}

var errRefused = errors.New("refused")

func (r *recorder) take(c Checkpoint) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse {
		return errRefused
	}
	r.sizes, r.notes = append(r.sizes, c.Size), append(r.notes, c.Note)
	return nil
}

func (r *recorder) set(refuse bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = refuse
}

func (r *recorder) Anchor(_ context.Context, c Checkpoint) error { return r.take(c) }

// cosigner signs under a second key, as a witness would.
type cosigner struct {
	recorder
	signer *signer
}

func (c *cosigner) Cosign(_ context.Context, cp Checkpoint, prove func(int64) ([][32]byte, error)) (string, error) {
	if err := c.take(cp); err != nil {
		return cp.Note, err
	}
	if _, err := prove(cp.Size / 2); err != nil {
		return "", err
	}
	text, _, _ := strings.Cut(c.signer.checkpoint(cp.Size, cp.Root).Note, "\n\n")
	return cp.Note + strings.TrimPrefix(c.signer.checkpoint(cp.Size, cp.Root).Note, text+"\n\n"), nil
}

// TestOutward has checkpoints cosigned and anchored, with failures that hold up
// nothing.
func TestOutward(t *testing.T) {
	fsys := newMemFS()
	if err := durable.MkdirAll(fsys, "/l"); err != nil {
		t.Fatal(err)
	}
	w, a := &cosigner{signer: testSigner(t)}, &recorder{}
	cfg := tiny(fsys)
	cfg.Witness, cfg.Anchors = w, []Anchor{a, AnchorFunc(func(context.Context, Checkpoint) error { return nil })}
	l := mustOpen(t, "/l/audit", cfg)
	rounds := func() OutwardStats {
		t.Helper()
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.outward.witness(t.Context())
		l.outward.anchor(t.Context())
		return l.Stats().Outward
	}
	appendN(t, l, 0, 3)
	if st := rounds(); st.Witnessed != 3 || st.Anchored != 3 {
		t.Errorf("after the first round: %+v", st)
	}
	if got := l.Witnessed(); got.Size != 3 || !strings.HasPrefix(got.Note, l.Checkpoint().Note) || got.Note == l.Checkpoint().Note {
		t.Errorf("Witnessed = %+v, want 3 entries cosigned", got)
	}
	w.set(true)
	a.set(true)
	appendN(t, l, 3, 5)
	rounds()
	if st := rounds(); st.Witnessed != 3 || st.WitnessFailures != 2 || st.Anchored != 3 || st.AnchorFailures != 2 {
		t.Errorf("after refusals: %+v", st)
	}
	w.set(false)
	a.set(false)
	if st := rounds(); st.Witnessed != 5 || st.Anchored != 5 {
		t.Errorf("after they came back: %+v", st)
	}
	rounds() // nothing is new: nobody is asked
	if len(a.sizes) != 2 || len(w.sizes) != 2 {
		t.Errorf("the anchor was given %v, the witness %v", a.sizes, w.sizes)
	}
	appendN(t, l, 5, 6)
	mustClose(t, l)
	if got := a.sizes[len(a.sizes)-1]; got != 6 {
		t.Errorf("closing anchored %d entries, want 6", got)
	}
	history, err := historyOf(fsys, "/l/audit", []keySpan{{l.VerifierKey(), 1 << 60}})
	if err != nil || history.torn || history.absent {
		t.Fatalf("history: %+v, %v", history, err)
	}
	var cosigned int
	for _, c := range history.list {
		if strings.Count(c.Note, sigPrefix) == 2 {
			cosigned++
		}
	}
	if cosigned != 3 || history.list[len(history.list)-1].Size != 6 {
		t.Errorf("the history has %d cosigned checkpoints, the last of %d entries; want 3 and 6", cosigned, history.list[len(history.list)-1].Size)
	}
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
		t.Error(err)
	}
}

// TestOutwardRounds: the rounds come by themselves.
func TestOutwardRounds(t *testing.T) {
	seen := make(chan int64)
	cfg := small()
	cfg.AnchorEvery = time.Millisecond
	cfg.Anchors = []Anchor{AnchorFunc(func(ctx context.Context, c Checkpoint) error {
		select {
		case seen <- c.Size:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})}
	l := mustOpen(t, filepath.Join(t.TempDir(), "audit"), cfg)
	appendN(t, l, 0, 2)
	if size := <-seen; size < 1 {
		t.Errorf("%d entries were anchored", size)
	}
	go func() {
		for range seen { // the last round must not wait
			continue
		}
	}()
	mustClose(t, l)
	close(seen)
}

// TestKnownCheckpoints holds a ledger against many checkpoints at once.
func TestKnownCheckpoints(t *testing.T) {
	dir, receipts := closedLedger(t, 8)
	key := loadedSigner(t, dir)
	var kept []Remembered
	for _, r := range receipts {
		kept = append(kept, Remembered{r.Checkpoint.Note, "receipt"})
	}
	if _, err := Verify(t.Context(), dir, VerifyConfig{Checkpoints: kept}); err != nil {
		t.Errorf("Verify with all receipts = %v", err)
	}
	for _, tt := range []struct {
		name, reason string
		extra        Checkpoint
	}{
		{"rollback", "rollback: ", key.checkpoint(9, [32]byte{1})},
		{"split view", "split view: ", key.checkpoint(4, [32]byte{1})},
		{"other beginning", "split view: ", key.checkpoint(0, [32]byte{1})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Verify(t.Context(), dir, VerifyConfig{Checkpoints: append(kept[:8:8], Remembered{tt.extra.Note, "elsewhere"})})
			var damage *TamperError
			if !errors.As(err, &damage) || !strings.HasPrefix(damage.Reason, tt.reason) || tt.name != "other beginning" && !strings.Contains(damage.Reason, "elsewhere") {
				t.Errorf("Verify = %v, want %q", err, tt.reason)
			}
		})
	}
	_, err := Verify(t.Context(), dir, VerifyConfig{Checkpoints: []Remembered{{key.checkpoint(4, [32]byte{1}).Note, "elsewhere"}}})
	if !isTamper(err) || !strings.Contains(err.Error(), "fork: ") {
		t.Errorf("Verify with one checkpoint of another history = %v, want a fork", err)
	}
}

func loadedSigner(t testing.TB, dir string) *signer {
	t.Helper()
	s, err := loadSigner(durable.OS{}, keyPath(dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHistoryTampered changes the history in every way that a line can be.
func TestHistoryTampered(t *testing.T) {
	dir, _ := closedLedger(t, 2)
	for n := 2; n < 6; n++ {
		l := mustOpen(t, dir, small())
		appendN(t, l, n, n+1)
		mustClose(t, l)
	}
	name := filepath.Join(dir, historyName)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(good), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	if len(lines) < 4 {
		t.Fatalf("%d lines", len(lines))
	}
	for what, text := range map[string]string{
		"first line removed":  strings.Join(lines[1:], ""),
		"middle line removed": lines[0] + strings.Join(lines[2:], ""),
		"last line removed":   strings.Join(lines[:len(lines)-1], ""),
		"lines swapped":       lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""),
		"line doubled":        lines[0] + strings.Join(lines, ""),
		"all removed":         "",
		"end cut off":         string(good[:len(good)-9]),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		mustTamper(t, what, dir, VerifyConfig{}, historyName, -1)
	}
	// A crash leaves half a line, which opening cuts off.
	if err := os.WriteFile(name, good[:len(good)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(dir, small()); !isTamper(err) {
		t.Fatalf("Open of a closed ledger with a torn history = %v, %v, want a TamperError", l, err)
	}
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
	running := mustOpen(t, dir, small())
	if err := os.WriteFile(name, good[:len(good)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	crashed := copyDir(t, dir) // with its ring
	mustClose(t, running)
	putBack(t, dir, crashed)
	l := mustOpen(t, dir, small())
	mustClose(t, l)
	checkClean(t, dir, 6)
	if again, err := os.ReadFile(name); err != nil || string(again) != string(good) {
		t.Errorf("the history after a torn line is another one: %v", err)
	}
}

func FuzzHistoryLine(f *testing.F) {
	s := testSigner(f)
	f.Add(historyLine([32]byte{1}, s.checkpoint(3, [32]byte{2}).Note))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		prev, note, err := parseHistoryLine(line)
		if err != nil {
			return
		}
		if again := historyLine(prev, note); string(again) != string(line) {
			t.Fatalf("two spellings:\n in %q\nout %q", line, again)
		}
	})
}
