package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// tamperStates are ledgers in every state in which a directory can be found.
func tamperStates(t *testing.T) map[string]*memFS {
	t.Helper()
	states := map[string]*memFS{"sealed and pruned": sealedForTamper(t), "everything": fullForTamper(t)}
	opened := func(n int, then func(l *Ledger)) *memFS {
		fsys := freshFS(t)
		l := mustOpen(t, "/l/audit", tiny(fsys))
		appendN(t, l, 0, n)
		then(l)
		found := fsys.clone()
		mustClose(t, l)
		states["closed after that: "+t.Name()] = fsys
		return found
	}
	states["open, without entries"] = opened(0, func(*Ledger) {})
	states["open, nothing published"] = opened(5, func(*Ledger) {})
	states["open, all published"] = opened(40, func(l *Ledger) {
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	states["open, sealed, more in the ring"] = opened(40, func(l *Ledger) {
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		appendN(t, l, 40, 45)
	})
	delete(states, "closed after that: "+t.Name())
	for _, n := range []int{0, 40} {
		fsys := freshFS(t)
		l := mustOpen(t, "/l/audit", tiny(fsys))
		appendN(t, l, 0, n)
		mustClose(t, l)
		states[map[int]string{0: "closed, without entries", 40: "closed"}[n]] = fsys
	}
	return states
}

// unmissed says why a file can be removed, or emptied, from a ledger in that
// state without Verify naming it, empty if it must. docs/verification.md has the
// same in a table.
func unmissed(state, rel, how string, published int64) string {
	open := strings.HasPrefix(state, "open")
	switch {
	case rel == lockName:
		return "it is empty, and says nothing"
	case open && rel == ringName && how == "removed" && (strings.Contains(state, "all published") || strings.Contains(state, "without entries")):
		return "it has nothing that is not in the segments, under the checkpoint"
	case open && rel == ringName && how == "removed":
		return "another is named: the segment whose newest entries nothing vouches for any more"
	case open && rel == historyName && how == "emptied" && (strings.Contains(state, "without entries") || strings.Contains(state, "nothing published")):
		return "no checkpoint of an entry was published yet"
	case open && rel == filepath.Join(segDir, segStem(published)+hashExt):
		return "derived: nothing in it is under the checkpoint, and opening makes it again"
	}
	return ""
}

// TestDeleteEveryFile removes, and empties, each file of ledgers in every state.
// Verify must name that file, and Open refuse, but for what unmissed says.
func TestDeleteEveryFile(t *testing.T) {
	for state, whole := range tamperStates(t) {
		if _, err := verify(t.Context(), whole, "/l/audit", VerifyConfig{}); err != nil {
			t.Errorf("%s: %v", state, err)
			continue
		}
		for _, dir := range []string{"/l/audit", "/l/archive"} {
			if _, err := whole.ReadDir(dir); err != nil {
				continue
			}
			for _, name := range whole.ledgerFiles(t, dir) {
				deleteOne(t, whole, state, dir, name)
			}
		}
	}
}

func deleteOne(t *testing.T, whole *memFS, state, dir, name string) {
	t.Helper()
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	var published int64
	if _, err := fmt.Sscanf(strings.Split(string(whole.get(t, dir+"/"+checkpointName)), "\n")[1], "%d", &published); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"removed", "emptied"} {
		fsys := whole.clone()
		if how == "removed" {
			removeFile(t, fsys, name)
		} else if len(fsys.get(t, name)) == 0 {
			continue
		} else {
			fsys.set(name, nil)
		}
		_, err := verify(t.Context(), fsys, dir, VerifyConfig{})
		var damage *TamperError
		if named := errors.As(err, &damage) && damage.Path == rel; named != (unmissed(state, rel, how, published) == "") {
			t.Errorf("%s, %s: %s %s: Verify = %v; want it named unless: %q", state, dir, rel, how, err, unmissed(state, rel, how, published))
		}
		if rel != historyName || err == nil || how == "emptied" && published == 0 {
			continue // of a ledger without entries nothing is lost
		}
		if _, err := Open(dir, tiny(fsys)); !isTamper(err) || !strings.Contains(err.Error(), historyName) {
			t.Errorf("%s, %s: %s %s: Open = %v; want it named", state, dir, rel, how, err)
		}
	}
}

// TestHistoryRewritten leaves lines out of the history and joins the others anew:
// the entries about sealed segments say how far it had come.
func TestHistoryRewritten(t *testing.T) {
	fsys := fullForTamper(t)
	name := "/l/audit/" + historyName
	lines := strings.SplitAfter(strings.TrimSuffix(string(fsys.get(t, name)), "\n"), "\n")
	if len(lines) < 4 {
		t.Fatalf("%d lines", len(lines))
	}
	for left := range len(lines) - 1 { // the last must stay
		var text []byte
		var prev [32]byte
		for i, line := range lines {
			if i == left {
				continue
			}
			_, note, err := parseHistoryLine([]byte(strings.TrimSuffix(line, "\n") + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			joined := historyLine(prev, note)
			text, prev = append(text, joined...), sha256.Sum256(joined)
		}
		changed := fsys.clone()
		changed.set(name, text)
		_, err := verify(t.Context(), changed, "/l/audit", VerifyConfig{})
		var damage *TamperError
		if errors.As(err, &damage) && damage.Path == historyName {
			continue
		}
		// After the last sealing nothing vouches for a line but the next one.
		if left < len(lines)-3 {
			t.Errorf("line %d of %d left out: Verify = %v, want it named", left+1, len(lines), err)
		}
	}
}

// TestHistoryLost opens a ledger whose history is gone as a restored one: it
// says so, and is intact from then on, also if power fails in between.
func TestHistoryLost(t *testing.T) {
	fsys := fullForTamper(t)
	removeFile(t, fsys, "/l/audit/"+historyName)
	cfg := small()
	cfg.fsys = fsys
	if _, err := Open("/l/audit", cfg); !isTamper(err) || !strings.Contains(err.Error(), "AcceptRestored") {
		t.Fatalf("Open = %v, want a TamperError with the way out", err)
	}
	cfg.AcceptRestored = true
	for stop := 1; ; stop++ {
		broken := fsys.clone()
		cfg.fsys = broken
		broken.failAt, broken.stop = broken.ops+stop, true
		l, err := Open("/l/audit", cfg)
		if err == nil {
			err = l.Close()
		}
		done := err == nil
		if !done {
			broken = broken.crash(crashLoses, nil)
			cfg.fsys = broken
			l, err = Open("/l/audit", cfg)
			if err != nil {
				t.Fatalf("Open after call %d failed: %v", stop, err)
			}
			appendN(t, l, 100, 101)
			if err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustClose(t, l)
		}
		if _, err := verify(t.Context(), broken, "/l/audit", VerifyConfig{}); err != nil {
			t.Fatalf("Verify after call %d failed: %v", stop, err)
		}
		if done {
			break
		}
	}
}
