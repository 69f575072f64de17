package audit

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// TestPrune removes segments by size and by age, keeps what is held, and says
// beforehand what it would do.
func TestPrune(t *testing.T) {
	fsys := freshFS(t)
	l := sealedLedger(t, fsys, 600)
	receipts := appendN(t, l, 600, 601)
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	proof, err := l.Proof(5)
	if err != nil {
		t.Fatal(err)
	}
	segs := l.Segments()
	if len(segs) < 5 {
		t.Fatalf("%d sealed segments, want more", len(segs))
	}
	// By age: the first three are older than the end of the third.
	o := PruneOptions{DryRun: true, Now: segs[2].Newest.Add(time.Hour + 1), Retention: Retention{MaxAge: time.Hour}}
	plan, err := l.Prune(t.Context(), o)
	if err != nil || len(plan.Removed) != 3 || plan.Removed[0].Reason != "age" || plan.Stored == 0 {
		t.Fatalf("dry run = %+v, %v; want three segments", plan, err)
	}
	if l.Stats().Pruned != 0 {
		t.Fatal("a dry run removed something")
	}
	hold, _, err := l.Hold(t.Context(), Hold{RunID: numbered(int(segs[1].Base) + 3).RunID, Reason: "case", Authority: "court"})
	if err != nil {
		t.Fatal(err)
	}
	o.DryRun = false
	done, err := l.Prune(t.Context(), o)
	if err != nil || len(done.Held) == 0 || done.Held[0].Held != "hold "+hold.ID {
		t.Fatalf("Prune = %+v, %v; want a segment held by %s", done, err, hold.ID)
	}
	checkPruned(t, fsys, l, done, proof)
	if _, err := l.Release(t.Context(), Release{ID: hold.ID, Reason: "closed", Authority: "court"}); err != nil {
		t.Fatal(err)
	}
	// Now by size: all sealed segments go, and with them the entries that say
	// what was sealed and pruned before.
	more, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxBytes: 1}})
	if err != nil || len(more.Held) != 0 {
		t.Fatalf("Prune = %+v, %v", more, err)
	}
	checkPruned(t, fsys, l, more, proof)
	checkReceipts(t, l, receipts[:1])
	mustClose(t, l)
	report, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Indexes: true})
	if err != nil || !report.Clean || report.Pruned == 0 {
		t.Fatalf("Verify = %+v, %v", report, err)
	}
	// Life goes on.
	cfg := small()
	cfg.fsys, cfg.segmentBytes = fsys, 20<<10
	l = mustOpen(t, "/l/audit", cfg)
	appendN(t, l, 700, 800)
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxBytes: 1}}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	if report, err = verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil || !report.Clean {
		t.Fatalf("Verify = %+v, %v", report, err)
	}
}

func checkPruned(t *testing.T, fsys *memFS, l *Ledger, done PruneReport, proof Proof) {
	t.Helper()
	for _, seg := range done.Removed {
		if _, err := l.Get(t.Context(), seg.Base); !errors.Is(err, ErrPruned) {
			t.Errorf("Get of a pruned entry = %v, want ErrPruned", err)
		}
		for _, ext := range []string{zstExt, idxExt} {
			if _, err := stat(fsys, filepath.Join("/l/audit", segDir, segStem(seg.Base)+ext)); err == nil {
				t.Errorf("segment %d still has %s", seg.Base, ext)
			}
		}
	}
	if got := leafOf(t, l, proof.Index); got != merkle.HashLeaf(proof.Line) {
		t.Error("the hash of a pruned entry is not what it was")
	}
	if err := proof.Check(l.VerifierKey()); err != nil {
		t.Error(err)
	}
	old := proof.Note
	if p, err := l.ProveConsistency([]byte(old)); err != nil {
		t.Error(err)
	} else if _, _, err := p.Check(l.VerifierKey()); err != nil {
		t.Error(err)
	}
	seen := int64(0)
	for e, err := range l.Query(t.Context(), Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Index < 0 {
			t.Fatal("no index")
		}
		seen++
	}
	if st := l.Stats(); seen != st.Entries-st.Pruned {
		t.Errorf("Query yields %d entries, Stats %+v", seen, st)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
		t.Errorf("Verify of the open ledger = %v", err)
	}
}

// TestArchive copies sealed segments, twice, to a directory that is then a
// ledger, which stays when the segments are pruned here.
func TestArchive(t *testing.T) {
	fsys := freshFS(t)
	l := sealedLedger(t, fsys, 400)
	target := dirTarget{fsys, "/l/archive"}
	first, err := l.Archive(t.Context(), target)
	if err != nil || first.Segments != l.Stats().Sealed {
		t.Fatalf("Archive = %+v, %v; want %d segments", first, err, l.Stats().Sealed)
	}
	checkArchive(t, fsys, l, first)
	if again, err := l.Archive(t.Context(), target); err != nil || again.Segments != 0 {
		t.Fatalf("second Archive = %+v, %v; want nothing to do", again, err)
	}
	appendN(t, l, 400, 500)
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxAge: 1}, Now: l.Segments()[1].Newest.Add(2)}); err != nil {
		t.Fatal(err)
	}
	second, err := l.Archive(t.Context(), target)
	if err != nil || second.Segments == 0 || second.Entries <= first.Entries {
		t.Fatalf("Archive after more = %+v, %v", second, err)
	}
	checkArchive(t, fsys, l, second)
}

func checkArchive(t *testing.T, fsys *memFS, l *Ledger, want ArchiveReport) {
	t.Helper()
	report, err := verify(t.Context(), fsys, "/l/archive", VerifyConfig{Key: l.VerifierKey()})
	if err != nil || !report.Clean || report.Entries != want.Entries || report.Pruned != 0 {
		t.Fatalf("Verify of the archive = %+v, %v; want %d entries", report, err, want.Entries)
	}
	r, err := openReader(fsys, "/l/archive")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := r.Count(t.Context(), Query{AgentID: "agent-3"}); err != nil || n == 0 {
		t.Errorf("Count in the archive = %d, %v", n, err)
	}
	p, err := r.Proof(7)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(l.VerifierKey()); err != nil {
		t.Error(err)
	}
}
