package audit

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sealPoints are moments of sealing a segment: before its files are written,
// renamed, named by the manifest, and before its lines are removed.
var sealPoints = []struct{ op, suffix string }{
	{"open", zstExt + tmpExt}, {"open", idxExt + tmpExt}, {"rename", nodesExt},
	{"open", manifestName + tmpExt}, {"rename", manifestName},
}

// TestRotateKeyWhileSealing changes the key at each moment of sealing, and cuts
// the power at every call from there on. What is left verifies by the first key,
// opens, and is sealed to the end.
func TestRotateKeyWhileSealing(t *testing.T) {
	every := 7 // of the calls in this run; all of them in the long form
	if raced {
		every = 19
	}
	if os.Getenv("KAIZEN_FAULT_SEEDS") != "" {
		every = 1
	}
	for _, point := range sealPoints {
		for at := 0; ; at++ { // 0: the power stays
			if at%every > 0 {
				continue
			}
			mem := freshFS(t)
			h := &hookFS{FS: mem, before: func(string, string) {}}
			cfg := tiny(mem)
			cfg.fsys = h
			l := mustOpen(t, "/l/audit", cfg)
			acked := appendN(t, l, 0, 12)
			first := l.VerifierKey()
			changed := false
			h.before = func(op, name string) {
				if changed || op != point.op || !strings.HasSuffix(name, point.suffix) {
					return
				}
				changed = true
				mem.mu.Lock()
				if at > 0 {
					mem.failAt, mem.stop, mem.kept = mem.ops+at, true, at%2 == 0
				}
				mem.mu.Unlock()
				_, _, err := l.RotateKey(t.Context())
				if err != nil && at == 0 {
					t.Errorf("RotateKey while %s %s: %v", op, name, err)
				}
			}
			err := l.Seal(t.Context())
			if !changed || err != nil && at == 0 {
				t.Fatalf("%v: Seal = %v, the key was changed: %t", point, err, changed)
			}
			mem.mu.Lock()
			dead := mem.dead
			mem.failAt = -1
			mem.mu.Unlock()
			for how := range crashModes {
				survivor := mem.crash(how, rand.New(rand.NewPCG(uint64(at), uint64(how))))
				name := fmt.Sprintf("%s %s, call %d, crash %d", point.op, point.suffix, at, how)
				if !t.Run(name, func(t *testing.T) { checkRekeyed(t, survivor, first, acked) }) {
					return
				}
			}
			_ = l.Close() // refuses if the power is gone
			if at > 0 && !dead {
				break
			}
		}
	}
}

func checkRekeyed(t *testing.T, fsys *memFS, first string, acked []Receipt) {
	t.Helper()
	held := VerifyConfig{Key: first, Checkpoint: []byte(acked[len(acked)-1].Checkpoint.Note)}
	if _, err := verify(t.Context(), fsys, "/l/audit", held); err != nil {
		t.Fatalf("Verify after the crash: %v", err)
	}
	l := mustOpen(t, "/l/audit", tiny(fsys))
	for _, r := range acked {
		if e, err := l.Get(t.Context(), r.Index); err != nil || e.ID != r.ID {
			t.Errorf("entry %d is %s, %v, want %s", r.Index, e.ID, err, r.ID)
		}
	}
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkLedger(t, l)
	mustClose(t, l)
	if r, err := verify(t.Context(), fsys, "/l/audit", held); err != nil || !r.Clean || r.Sealed == 0 {
		t.Fatalf("Verify at the end = %+v, %v", r, err)
	}
}

// rekeyTarget is an archive during whose making the key is changed.
type rekeyTarget struct {
	ArchiveTarget
	at string
	do func()
}

func (r *rekeyTarget) Put(ctx context.Context, name string, b io.Reader, size int64, sum [32]byte) error {
	if do := r.do; do != nil && filepath.Base(name) == r.at {
		r.do = nil
		do()
	}
	return r.ArchiveTarget.Put(ctx, name, b, size, sum)
}

// TestRotateKeyWhileArchiving changes the key before each of the files that make
// an archive a ledger: it is one of one key, and whoever trusts the first one can
// follow.
func TestRotateKeyWhileArchiving(t *testing.T) {
	for _, at := range []string{segStem(0) + zstExt, rotationsName, ledgerName, manifestName, checkpointName} {
		fsys := freshFS(t)
		l := mustOpen(t, "/l/audit", tiny(fsys))
		first := l.VerifierKey()
		appendN(t, l, 0, 5)
		if _, _, err := l.RotateKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		target := &rekeyTarget{ArchiveTarget: dirTarget{fsys, "/l/archive"}, at: at}
		target.do = func() {
			if _, _, err := l.RotateKey(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if _, err := l.Archive(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		if target.do != nil {
			t.Fatalf("%s was not written", at)
		}
		if _, err := verify(t.Context(), fsys, "/l/archive", VerifyConfig{Key: first}); err != nil {
			t.Errorf("archive, the key changed before %s: %v", at, err)
		}
		mustClose(t, l)
	}
}
