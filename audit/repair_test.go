package audit

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// TestRepair damages and removes derived files, which come back as they were,
// and files that are not derived, which nothing can bring back.
func TestRepair(t *testing.T) {
	fsys := freshFS(t)
	l := sealedBig(t, fsys, 2000)
	segs := l.store.sealed
	if _, err := repair(t.Context(), fsys, "/l/audit"); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("Repair beside a ledger = %v, want ErrLocked", err)
	}
	mustClose(t, l)
	if done, err := repair(t.Context(), fsys, "/l/audit"); err != nil || len(done) != 0 {
		t.Errorf("Repair of an intact ledger = %v, %v", done, err)
	}
	at := func(path string) string { return filepath.Join("/l/audit", path) }
	idx := bytes.Clone(fsys.get(t, at(segs[0].idxPath())))
	idx[len(idx)/2] ^= 4
	fsys.set(at(segs[0].idxPath()), idx)
	for _, path := range []string{segs[0].nodesPath(), segs[1].idxPath()} {
		if err := fsys.Remove(at(path)); err != nil {
			t.Fatal(err)
		}
	}
	done, err := repair(t.Context(), fsys, "/l/audit")
	slices.Sort(done)
	want := []string{segs[0].idxPath(), segs[0].nodesPath(), segs[1].idxPath()}
	slices.Sort(want)
	if err != nil || !slices.Equal(done, want) {
		t.Fatalf("Repair = %v, %v; want %v", done, err, want)
	}
	if r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Indexes: true}); err != nil || !r.Clean {
		t.Fatalf("Verify after Repair = %+v, %v", r, err)
	}
	// Lines cannot be made again, nor an index of lines that are damaged.
	zst := bytes.Clone(fsys.get(t, at(segs[1].zstPath())))
	zst[len(zst)/2] ^= 1
	fsys.set(at(segs[1].zstPath()), zst)
	fsys.set(at(segs[1].idxPath()), nil)
	if done, err := repair(t.Context(), fsys, "/l/audit"); !isTamper(err) || len(done) != 0 {
		t.Errorf("Repair of damaged lines = %v, %v; want a TamperError", done, err)
	}
}
