package audit

import (
	"path/filepath"
	"testing"
)

// TestProgress wants each kind of long work to say how far it is, up to its end.
func TestProgress(t *testing.T) {
	dir := t.TempDir()
	type step struct{ done, total int64 }
	steps := map[string][]step{}
	// The ledger calls it with its work locked, and what it does here is done
	// when Seal, Archive and Prune are: nothing is due in the background.
	cfg := Config{SealAfter: NoAge, Progress: func(work string, done, total int64) {
		steps[work] = append(steps[work], step{done, total})
	}}
	l := mustOpen(t, filepath.Join(dir, "audit"), cfg)
	var ends []int64
	for n := range 3 {
		appendN(t, l, n*600, (n+1)*600)
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, steps["seal"][len(steps["seal"])-1].total)
	}
	segs := l.Segments()
	a, err := l.Archive(t.Context(), ArchiveDir(filepath.Join(dir, "kept")))
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxBytes: 1}, DryRun: true})
	if err != nil || len(steps["prune"]) != 0 {
		t.Fatalf("dry run = %v, and said %v", err, steps["prune"])
	}
	if p, err = l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxBytes: 1}}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	if len(segs) != 3 || ends[0] != segs[0].Entries || ends[2] != segs[2].Entries || p.Entries == 0 {
		t.Errorf("sealed %v of %+v, removed %d", ends, segs, p.Entries)
	}
	for work, total := range map[string]int64{"archive": a.Entries, "prune": p.Entries} {
		list := steps[work]
		if len(list) != 3 || list[2] != (step{total, total}) {
			t.Errorf("%s said %v, want three steps up to %d", work, list, total)
		}
	}
	for work, list := range steps {
		for i, s := range list {
			if s.done > s.total || i > 0 && work != "seal" && s.done <= list[i-1].done {
				t.Errorf("%s said %v", work, list)
				break
			}
		}
	}
	if seals := steps["seal"]; len(seals) < 6 { // each segment in several pieces
		t.Errorf("seal said %v, want more", seals)
	}
}
