package audit

import (
	"bytes"
	"path/filepath"
	"testing"
)

// TestEveryBitFlipKeys flips each bit of the file that joins the keys of a
// ledger. No flip leaves a ledger that verifies.
func TestEveryBitFlipKeys(t *testing.T) {
	dir, _ := closedLedger(t, 3)
	if _, _, err := RotateKey(t.Context(), dir, small()); err != nil {
		t.Fatal(err)
	}
	fsys := newMemFS()
	fsys.copyIn(t, filepath.Dir(dir), "/l")
	name := filepath.Join("/l/audit", rotationsName)
	data := fsys.get(t, name)
	for i := range data {
		for bit := range 8 {
			if bit != i%8 && raced {
				continue
			}
			bad := bytes.Clone(data)
			bad[i] ^= 1 << bit
			fsys.set(name, bad)
			if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); !isTamper(err) {
				t.Errorf("byte %d bit %d: Verify = %v, want a TamperError", i, bit, err)
			}
		}
	}
}
