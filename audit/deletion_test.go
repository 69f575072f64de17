package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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
		if _, err := l.store.view(); err != nil { // lines are written after the answer; whoever looks waits for them
			t.Fatal(err)
		}
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
// same in a table. The entries from anchored on are all in the ring: how many
// that are depends on what was synced meanwhile.
func unmissed(state, rel, how string, anchored int64) string {
	open := strings.HasPrefix(state, "open")
	base, ext, _ := segmentFile(filepath.Base(rel))
	switch {
	case open && ext == lineExt && base >= anchored && (how == "emptied" || base > 0):
		return "all that it has is in the ring"
	case rel == lockName:
		return "it is empty, and says nothing"
	case open && rel == ringName && how == "removed" && (strings.Contains(state, "all published") || strings.Contains(state, "without entries")):
		return "it has nothing that is not in the segments, under the checkpoint"
	case open && rel == ringName && how == "removed":
		return "another is named: the segment whose newest entries nothing vouches for any more"
	case open && rel == historyName && how == "emptied" && (strings.Contains(state, "without entries") || strings.Contains(state, "nothing published")):
		return "no checkpoint of an entry was published yet"
	case open && ext == hashExt && base >= anchored:
		return "derived: all that it has is in the ring, and opening makes it again"
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
	ring, err := readRing(whole, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	anchored, err := anchor(&ring, Checkpoint{Size: published})
	if err != nil {
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
		if named := errors.As(err, &damage) && damage.Path == rel; named != (unmissed(state, rel, how, anchored) == "") {
			t.Errorf("%s, %s: %s %s: Verify = %v; want it named unless: %q", state, dir, rel, how, err, unmissed(state, rel, how, anchored))
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

// TestHistoryLost opens a ledger whose history is gone as a restored one, and
// ends the power at each call: the next Open refuses again, or the ledger says
// that its history was lost. It is intact from then on.
func TestHistoryLost(t *testing.T) {
	base := fullForTamper(t)
	removeFile(t, base, "/l/audit/"+historyName)
	with := func(fsys *memFS, accept bool) Config {
		cfg := small()
		cfg.fsys, cfg.AcceptRestored = fsys, accept
		return cfg
	}
	refused := func(t *testing.T, err error) {
		t.Helper()
		if !isTamper(err) || !strings.Contains(err.Error(), "AcceptRestored") {
			t.Fatalf("Open = %v, want a TamperError with the way out", err)
		}
	}
	_, err := Open("/l/audit", with(base, false))
	refused(t, err)
	long := os.Getenv("KAIZEN_FAULT_SEEDS") != ""
	again := map[bool]int{} // by whether it had to be accepted a second time
	for at, done := 1, false; !done; at++ {
		for mode := range 2 * crashModes {
			if !long && mode != at%(2*crashModes) {
				continue
			}
			kept, how := mode%2 == 1, mode/2
			fsys := base.clone()
			fsys.failAt, fsys.kept, fsys.stop = fsys.ops+at, kept, true
			l, err := Open("/l/audit", with(fsys, true))
			if err == nil {
				err = l.Close()
			}
			done = err == nil
			after := fsys.crash(how, rand.New(rand.NewPCG(uint64(at), uint64(mode))))
			if !t.Run(fmt.Sprintf("call %d, kept %t, crash %d", at, kept, how), func(t *testing.T) {
				l, err := Open("/l/audit", with(after, false))
				again[err != nil]++
				if err != nil {
					refused(t, err)
					l = mustOpen(t, "/l/audit", with(after, true))
				}
				checkLoss(t, l)
				appendN(t, l, 100, 101)
				if err := l.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
				mustClose(t, l)
				if _, err := verify(t.Context(), after, "/l/audit", VerifyConfig{}); err != nil {
					t.Fatalf("Verify = %v", err)
				}
			}) {
				return
			}
		}
	}
	if again[true] == 0 || again[false] == 0 {
		t.Errorf("refused %d times and opened %d times: want some of both", again[true], again[false])
	}
}

// checkLoss wants an entry that says that the history was lost: one, or one for
// each time that it was accepted.
func checkLoss(t *testing.T, l *Ledger) {
	t.Helper()
	n := 0
	for e, err := range l.Query(t.Context(), Query{AgentID: systemAgent, Action: actionRestored}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Details[historyKey] == historyLostValue {
			n++
		}
	}
	if n < 1 || n > 2 {
		t.Errorf("%d entries say that the history was lost, want one, or two", n)
	}
}

// TestHistoryLostBefore takes over a ledger whose history an older version made
// anew before it could say so.
func TestHistoryLostBefore(t *testing.T) {
	fsys := fullForTamper(t)
	cfg := small()
	cfg.fsys = fsys
	if err := beginHistory(fsys, "/l/audit", string(fsys.get(t, "/l/audit/"+checkpointName))); err != nil {
		t.Fatal(err)
	}
	cfg.AcceptRestored = true
	for range 2 { // the second time there is nothing to say
		l := mustOpen(t, "/l/audit", cfg)
		if n, err := l.Count(t.Context(), Query{Action: actionRestored}); n != 1 || err != nil {
			t.Errorf("%d entries about the loss, %v, want 1", n, err)
		}
		mustClose(t, l)
		if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
			t.Errorf("Verify = %v", err)
		}
	}
}
