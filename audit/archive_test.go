package audit

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
)

// TestArchiveAfterPrune archives a ledger of which a part was pruned before:
// the archive has its hashes and the entry about it, and is intact. So it is
// when an older archive has the first of what was pruned, and not the rest.
func TestArchiveAfterPrune(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before bool // an archive was made before anything was pruned
		pruned int  // segments, 0 for all that are sealed
	}{
		{"nothing was archived before", false, 2},
		{"what was pruned was archived", true, 2},
		{"a part of what was pruned was archived", true, 0},
		{"all was pruned and nothing archived", false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fsys := freshFS(t)
			l := sealedLedger(t, fsys, 200)
			target := dirTarget{fsys, "/l/archive"}
			var have int64 // entries in the archive before
			if tt.before {
				first, err := l.Archive(t.Context(), target)
				if err != nil {
					t.Fatal(err)
				}
				have = first.Entries
			}
			appendN(t, l, 200, 500)
			if err := l.packer.seal(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			now := time.Now().Add(time.Hour)
			if tt.pruned > 0 {
				now = l.Segments()[tt.pruned-1].Newest.Add(2)
			}
			pruned, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxAge: 1}, Now: now})
			if err != nil || len(pruned.Removed) < 2 {
				t.Fatalf("Prune = %+v, %v", pruned, err)
			}
			report, err := l.Archive(t.Context(), target)
			if err != nil || report.Segments == 0 {
				t.Fatalf("Archive = %+v, %v", report, err)
			}
			var missing int64
			for _, s := range pruned.Removed {
				if s.Base >= have {
					missing += s.Entries
				}
			}
			got, err := verify(t.Context(), fsys, "/l/archive", VerifyConfig{Key: l.VerifierKey()})
			if err != nil || got.Entries != report.Entries || got.Pruned != missing {
				t.Fatalf("Verify of the archive = %+v, %v; want %d entries, %d pruned", got, err, report.Entries, missing)
			}
			r, err := openReader(fsys, "/l/archive")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if n, err := r.Count(t.Context(), Query{}); err != nil || n != report.Entries-missing {
				t.Errorf("Count in the archive = %d, %v; want %d", n, err, report.Entries-missing)
			}
			again, err := l.Archive(t.Context(), target)
			if err != nil || again.Segments != 0 || again.Entries != report.Entries {
				t.Errorf("second Archive = %+v, %v; want nothing to do", again, err)
			}
		})
	}
}

// TestArchiveHeadIsMadeUp: a copy that ended after the last segment and before
// the checkpoint is completed by the next one.
func TestArchiveHeadIsMadeUp(t *testing.T) {
	fsys := freshFS(t)
	l := sealedLedger(t, fsys, 200)
	target := dirTarget{fsys, "/l/archive"}
	first, err := l.Archive(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/l/archive/" + manifestName, "/l/archive/" + checkpointName} {
		if err := fsys.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := l.Archive(t.Context(), target); err != nil || again.Segments != 0 {
		t.Fatalf("second Archive = %+v, %v; want no segment", again, err)
	}
	checkArchive(t, fsys, l, first)
}

// TestArchiveIsReadOnce: the background does not read what it copied, or found,
// again each time; nor does it write what makes the archive a ledger.
func TestArchiveIsReadOnce(t *testing.T) {
	fsys := freshFS(t)
	l := sealedLedger(t, fsys, 200)
	known := &copies{}
	target := dirTarget{fsys, "/l/archive"}
	if r, err := l.archive(t.Context(), target, known); err != nil || r.Segments == 0 {
		t.Fatalf("archive = %+v, %v", r, err)
	}
	entries, err := fsys.ReadDir("/l/archive/" + segDir)
	if err != nil || len(entries) == 0 {
		t.Fatal(entries, err)
	}
	for _, e := range entries { // who looks again misses them
		if err := fsys.Remove("/l/archive/" + segDir + "/" + e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := l.archive(t.Context(), target, known); err != nil || r.Segments != 0 {
		t.Errorf("archive again = %+v, %v; want no look at what is known", r, err)
	}
	if r, err := l.Archive(t.Context(), target); err != nil || r.Segments == 0 {
		t.Errorf("Archive by hand = %+v, %v; want all to be looked for", r, err)
	}
	if _, err := fsys.OpenFile("/l/archive/"+checkpointName, os.O_RDONLY, 0); err != nil {
		t.Error(err)
	}
}

// TestArchiveGoesOn: when the ledger is lost, its archive goes on in its place
// with the key that is left, if that is said. Proofs from before hold.
func TestArchiveGoesOn(t *testing.T) {
	fsys := freshFS(t)
	l := sealedLedger(t, fsys, 200)
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	archive := dirTarget{fsys, "/l/copy/audit"}
	report, err := l.Archive(t.Context(), archive)
	if err != nil {
		t.Fatal(err)
	}
	old, err := l.Proof(7)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	cfg := small()
	cfg.fsys, cfg.KeyDir = fsys, "/l/keys"
	if _, err := Open("/l/copy/audit", cfg); !isTamper(err) {
		t.Fatalf("Open of an archive = %v, want a *TamperError: it is older than what was signed", err)
	}
	cfg.AcceptRestored = true
	l = mustOpen(t, "/l/copy/audit", cfg)
	appendN(t, l, 1000, 1300)
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	now, err := l.Proof(7)
	if err != nil || !bytes.Equal(now.Line, old.Line) {
		t.Errorf("Proof(7) = %+v, %v; want the line from before", now, err)
	}
	mustClose(t, l)
	for _, p := range []Proof{old, now} {
		if err := p.Check(l.VerifierKey()); err != nil {
			t.Error(err)
		}
	}
	got, err := verify(t.Context(), fsys, "/l/copy/audit", VerifyConfig{Key: l.VerifierKey()})
	if err != nil || got.Entries <= report.Entries+300 || !got.Clean {
		t.Errorf("Verify = %+v, %v; want more than %d entries", got, err, report.Entries+300)
	}
	cfg.AcceptRestored = false
	mustClose(t, mustOpen(t, "/l/copy/audit", cfg))
}

// TestArchiveOfAnother: an archive is not written over by another ledger, by an
// older state of its own, or by a fork; nor is anything in it changed.
func TestArchiveOfAnother(t *testing.T) {
	fsys := freshFS(t)
	l := sealedLedger(t, fsys, 200)
	before := fsys.clone()
	appendN(t, l, 200, 500)
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	target := dirTarget{fsys, "/l/archive"}
	first, err := l.Archive(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	cfg := small()
	cfg.fsys, cfg.segmentBytes = before, 20<<10
	older := mustOpen(t, "/l/audit", cfg)
	cfg.fsys = freshFS(t)
	other := mustOpen(t, "/l/audit", cfg)
	for _, tt := range []struct {
		name string
		from *Ledger
		add  int // entries before it is tried
	}{
		{"an older state", older, 0},
		{"a fork", older, 600},
		{"another ledger", other, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			appendN(t, tt.from, 5000, 5000+tt.add)
			if err := tt.from.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r, err := tt.from.Archive(t.Context(), target); !errors.Is(err, ErrOtherArchive) {
				t.Errorf("Archive = %+v, %v; want ErrOtherArchive", r, err)
			}
			checkArchive(t, fsys, l, first)
		})
	}
}

// TestArchivedInBackground goes on copying with what is known of the archive: what
// was pruned before it was copied stays pruned there.
func TestArchivedInBackground(t *testing.T) {
	fsys := freshFS(t)
	l := sealedLedger(t, fsys, 200)
	pruned, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxAge: 1}, Now: l.Segments()[1].Newest.Add(2)})
	if err != nil || pruned.Entries == 0 {
		t.Fatalf("Prune = %+v, %v", pruned, err)
	}
	known, target := &copies{}, dirTarget{fsys, "/l/archive"}
	for n := 200; n < 500; n += 100 {
		report, err := l.archive(t.Context(), target, known)
		if err != nil || report.Segments == 0 {
			t.Fatalf("archive = %+v, %v", report, err)
		}
		got, err := verify(t.Context(), fsys, "/l/archive", VerifyConfig{Key: l.VerifierKey()})
		if err != nil || got.Entries != report.Entries || got.Pruned != pruned.Entries {
			t.Fatalf("%d entries: Verify of the archive = %+v, %v; want %d entries, %d pruned", n, got, err, report.Entries, pruned.Entries)
		}
		appendN(t, l, n, n+100)
		if err := l.packer.seal(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
}
