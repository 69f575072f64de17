package audit

import (
	"fmt"
	"math/bits"
	"testing"
)

// TestSegmentRemovedAfterCrash removes open segments of a crashed ledger, whose
// ring may still have their entries: Verify and Open say the same of it, and what
// Open takes has every entry.
func TestSegmentRemovedAfterCrash(t *testing.T) {
	agreed := map[bool]int{} // by whether the ledger is intact
	for _, sealed := range []bool{false, true} {
		for _, at := range [][2]int{{0, 5}, {3, 3}, {3, 8}} { // entries under the checkpoint, and synced in segments
			fsys := freshFS(t)
			cfg := small()
			// Two or three entries in a segment, and all in one section of the ring.
			cfg.fsys, cfg.segmentBytes, cfg.sectionBytes = fsys, 600, 256<<10
			l := mustOpen(t, "/l/audit", cfg)
			if sealed {
				appendN(t, l, 100, 103)
				if err := l.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			appendN(t, l, 0, at[0])
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			appendN(t, l, at[0], at[1])
			if err := l.keeper.settle(false); err != nil {
				t.Fatal(err)
			}
			appendN(t, l, at[1], 9)
			size := l.Size()
			bases := openBases(l)
			for removed := range 1 << len(bases) {
				if sealed && bits.OnesCount(uint(removed)) > 1 {
					continue // more of the same
				}
				for _, exts := range [][]string{{lineExt}, {hashExt}, {lineExt, hashExt}} {
					name := fmt.Sprintf("sealed %t, published and synced %d, removed %b of %d, %v", sealed, at, removed, bases, exts)
					crashed := fsys.clone()
					for i, base := range bases {
						if removed>>i&1 == 0 {
							continue
						}
						for _, ext := range exts {
							removeFile(t, crashed, "/l/audit/"+segDir+"/"+segStem(base)+ext)
						}
					}
					_, verr := verify(t.Context(), crashed, "/l/audit", VerifyConfig{})
					after := cfg
					after.fsys = crashed
					again, oerr := Open("/l/audit", after)
					if (verr == nil) != (oerr == nil) || verr != nil && (!isTamper(verr) || !isTamper(oerr)) {
						t.Errorf("%s: Verify = %v, Open = %v", name, verr, oerr)
					}
					agreed[verr == nil]++
					if oerr != nil {
						continue
					}
					if again.Size() != size+1 { // and ledger.recovery
						t.Errorf("%s: %d entries, want %d", name, again.Size(), size+1)
					}
					checkLedger(t, again)
					mustClose(t, again)
					if _, err := verify(t.Context(), crashed, "/l/audit", VerifyConfig{}); err != nil {
						t.Errorf("%s: Verify after recovery = %v", name, err)
					}
				}
			}
		}
	}
	if agreed[true] == 0 || agreed[false] == 0 {
		t.Errorf("intact %d times and not %d times: want some of both", agreed[true], agreed[false])
	}
}

// openBases are where the segments that are not sealed begin.
func openBases(l *Ledger) (bases []int64) {
	l.store.mu.RLock()
	defer l.store.mu.RUnlock()
	for _, seg := range l.store.segs {
		bases = append(bases, seg.base)
	}
	return bases
}
