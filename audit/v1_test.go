package audit

import (
	"os"
	"path/filepath"
	"testing"
)

// TestVersion1 takes ledgers that the first version of the format left, closed
// and crashed: they verify, are read, continued, sealed, and verify again.
func TestVersion1(t *testing.T) {
	for _, name := range []string{"closed", "crashed"} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			if err := os.CopyFS(top, os.DirFS(filepath.Join("testdata", "v1", name))); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(top, "audit")
			before, err := Verify(t.Context(), dir, VerifyConfig{})
			if err != nil || before.Clean != (name == "closed") || before.Entries+before.Unsigned != 25 {
				t.Fatalf("Verify = %+v, %v; want 25 entries", before, err)
			}
			r, err := OpenReader(dir)
			if err != nil || r.Size() != before.Entries {
				t.Fatalf("OpenReader = %v, %v", r, err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			l := mustOpen(t, dir, small())
			if n := l.Size() - int64(len(systemEntriesOf(t, l))); n != 25 {
				t.Fatalf("%d entries, want 25", n)
			}
			checkLedger(t, l)
			appendN(t, l, 25, 40)
			if err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
			checkLedger(t, l)
			size := l.Size()
			mustClose(t, l)
			checkClean(t, dir, size)
			held := VerifyConfig{Checkpoint: []byte(before.Checkpoint.Note)}
			if _, err := Verify(t.Context(), dir, held); err != nil {
				t.Errorf("Verify with the checkpoint of version 1 = %v", err)
			}
			b, err := os.ReadFile(filepath.Join(dir, ledgerName))
			if err != nil {
				t.Fatal(err)
			}
			if version, _, err := parseLedgerJSON(b); version != formatVersion || err != nil {
				t.Errorf("version %d, %v after writing; want %d", version, err, formatVersion)
			}
		})
	}
}
