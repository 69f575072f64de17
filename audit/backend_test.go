package audit

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// pair opens two ledgers with one key: the second is empty.
func pair(t *testing.T) (src, dst *Ledger) {
	t.Helper()
	root := t.TempDir()
	open := func(name string) *Ledger {
		l, err := Open(filepath.Join(root, name, "audit"), Config{Origin: "example.org/copy", KeyDir: filepath.Join(root, name+"-keys")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	src = open("src")
	key, err := os.ReadFile(filepath.Join(root, "src-keys", "audit.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "dst-keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "dst-keys", "audit.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	return src, open("dst")
}

func fill(t *testing.T, l *Ledger, n int) {
	t.Helper()
	for i := range n {
		e := Entry{AgentID: "a", Action: "tool.execute", Result: Success, Details: map[string]any{"n": i}, UserID: "u"}
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCopyKeepsProofs(t *testing.T) {
	src, dst := pair(t)
	fill(t, src, 300)
	old, err := src.Proof(17)
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	progress := func(done, total int64) {
		if last = done; total != 300 {
			t.Errorf("progress of %d entries, want 300", total)
		}
	}
	if err := Copy(t.Context(), dst, src, progress); err != nil {
		t.Fatal(err)
	}
	if last != 300 {
		t.Errorf("progress ended at %d, want 300", last)
	}
	if err := old.Check(dst.VerifierKey()); err != nil {
		t.Error(err)
	}
	if a, b := src.Checkpoint(), dst.Checkpoint(); a.Size != b.Size || a.Root != b.Root {
		t.Errorf("copy has %d entries with root %x, want %d, %x", b.Size, b.Root, a.Size, a.Root)
	}
	for i := range int64(300) {
		a, errA := src.Get(t.Context(), i)
		b, errB := dst.Get(t.Context(), i)
		if errA != nil || errB != nil || a.ID != b.ID || a.Index != b.Index {
			t.Fatalf("entry %d is %v (%v), want %v (%v)", i, b, errB, a, errA)
		}
	}
	// A second copy writes nothing; one after more entries takes the rest.
	if err := Copy(t.Context(), dst, src, nil); err != nil || dst.Size() != 300 {
		t.Errorf("second copy: %v, %d entries", err, dst.Size())
	}
	fill(t, src, 10)
	if err := Copy(t.Context(), dst, src, nil); err != nil || dst.Size() != 310 {
		t.Errorf("copy of the rest: %v, %d entries, want 310", err, dst.Size())
	}
}

func TestCopyRefuses(t *testing.T) {
	src, dst := pair(t)
	fill(t, src, 5)
	fill(t, dst, 3)
	err := Copy(t.Context(), dst, src, nil)
	if _, ok := errors.AsType[*TamperError](err); !ok {
		t.Errorf("copy over other entries: %v, want a *TamperError", err)
	}
	if dst.Size() != 3 {
		t.Errorf("a refused copy wrote: %d entries, want 3", dst.Size())
	}
	fill(t, dst, 9)
	if _, ok := errors.AsType[*TamperError](Copy(t.Context(), dst, src, nil)); !ok {
		t.Errorf("copy to a longer ledger is not refused")
	}
	other, err := Open(filepath.Join(t.TempDir(), "audit"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := Copy(t.Context(), other, src, nil); err == nil || other.Size() != 0 {
		t.Errorf("copy to a ledger with another key: %v, %d entries", err, other.Size())
	}
}

// TestImportAsStored imports what no caller may append: the ledger's own
// entries, and ones whose personal fields are encrypted already.
func TestImportAsStored(t *testing.T) {
	_, dst := pair(t)
	var lines [][]byte
	for i, e := range []Entry{
		{AgentID: "kaizen", Action: "ledger.erasure", Result: Success},
		{AgentID: "a", Action: "x", Result: Success, Subject: "token", UserID: "token", Details: map[string]any{"k": map[string]any{"enc": "1"}}},
	} {
		e.ID, e.Time = newID(), minTime.Add(1)
		line, err := EncodeLine(nil, e)
		if err != nil {
			t.Fatal(i, err)
		}
		lines = append(lines, line)
	}
	if err := dst.Import(t.Context(), 1, lines); !errors.Is(err, ErrPosition) {
		t.Errorf("import with a gap: %v, want ErrPosition", err)
	}
	if err := dst.Import(t.Context(), 0, lines); err != nil {
		t.Fatal(err)
	}
	i := 0
	for line, err := range dst.Lines(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if string(line) != string(lines[i]) {
			t.Errorf("line %d is %s, want %s", i, line, lines[i])
		}
		i++
	}
	if i != len(lines) {
		t.Errorf("%d lines, want %d", i, len(lines))
	}
	if err := dst.Import(t.Context(), 2, [][]byte{[]byte(`{}`)}); err == nil {
		t.Error("import took a line that is not canonical")
	}
}

// TestImportBesideTheLedgersOwn fills a ledger whose segments are full at once,
// and interrupts that: nothing of its own gets between the lines.
func TestImportBesideTheLedgersOwn(t *testing.T) {
	cfg := small()
	src := mustOpen(t, t.TempDir()+"/audit", cfg)
	appendN(t, src, 0, 300)
	key, err := os.ReadFile(keyPath(src.store.dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	fsys := freshFS(t)
	if err := durable.MkdirAll(fsys, "/l/keys"); err != nil {
		t.Fatal(err)
	}
	fsys.set("/l/keys/audit.key", key)
	cfg.fsys, cfg.sealing, cfg.ForImport, cfg.sectionBytes = fsys, true, true, 1<<20
	now := time.Now()
	cfg.now = func() time.Time { now = now.Add(-time.Hour); return now }
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	dst := mustOpen(t, "/l/audit", cfg)
	for at := 0; at < 200; at += 20 {
		var lines [][]byte
		for line, err := range src.Lines(t.Context(), int64(at)) {
			if err != nil {
				t.Fatal(err)
			}
			if lines = append(lines, bytes.Clone(line)); len(lines) == 20 {
				break
			}
		}
		if err := dst.Import(t.Context(), int64(at), lines); err != nil {
			t.Fatal(err)
		}
		if err := dst.Import(t.Context(), int64(at), lines); !errors.Is(err, ErrPosition) {
			t.Fatalf("Import at %d for the second time = %v, want ErrPosition", at, err)
		}
	}
	cancel(stop)
	if err := Copy(ctx, dst, src, nil); !errors.Is(err, stop) {
		t.Fatalf("Copy with an ended context = %v", err)
	}
	cfg.fsys = fsys.crash(crashLoses, nil)
	dst = mustOpen(t, "/l/audit", cfg)
	if err := Copy(t.Context(), dst, src, nil); err != nil {
		t.Fatalf("Copy after a crash = %v", err)
	}
	if dst.Size() != 300 || dst.Checkpoint().Root != src.Checkpoint().Root {
		t.Errorf("the copy has %d entries", dst.Size())
	}
	mustClose(t, dst)
	cfg.ForImport = false
	mustClose(t, mustOpen(t, "/l/audit", cfg)) // now it seals
}

// TestImportIsPlaced imports into a ledger that others append to: a line gets
// to its place or is refused, and is never written elsewhere.
func TestImportIsPlaced(t *testing.T) {
	dst := mustOpen(t, t.TempDir()+"/audit", small())
	line := []byte(encode(t, numbered(7)))
	dst.committer.head.Size++ // as if an entry had come between the look and the write
	w := dst.writes.take()
	entries, err := stored([][]byte{line})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.encode(entries); err != nil {
		t.Fatal(err)
	}
	w.placed, w.first = true, 0
	var g group
	if err := dst.sequence(&g, []*write{w}); err != nil || !errors.Is(w.err, ErrPosition) || g.len() != 0 || len(w.receipts) != 0 {
		t.Errorf("sequence = %v, write %v, %d entries; want ErrPosition and none", err, w.err, g.len())
	}
	dst.committer.head.Size--
	w.release(2)
}
