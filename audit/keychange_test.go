package audit

import (
	"bytes"
	"path/filepath"
	"testing"
)

// A line of keys.jsonl is a KeyChange, and the other way round.
func TestKeyChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, dir, small())
	appendN(t, l, 0, 3)
	previous, vkey, err := l.RotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	line := filesOf(t, dir)[rotationsName]
	c, err := ParseKeyChange(line)
	if err != nil || c.From != 4 || c.Previous != previous || c.Key != vkey || !bytes.Equal(c.Encode(), line) {
		t.Fatalf("ParseKeyChange(%s) = %+v, %v", line, c, err)
	}
	e, err := DecodeLine(c.Entry)
	if want := KeyChangeEntry(previous, vkey); err != nil || e.Action != want.Action || e.Details["vkey"] != want.Details["vkey"] {
		t.Errorf("the entry is %+v, %v", e, err)
	}
	for name, bad := range map[string]KeyChange{
		"other size":   {c.From + 1, c.Previous, c.Key, c.Entry, c.Note},
		"keys swapped": {c.From, c.Key, c.Previous, c.Entry, c.Note},
		"other entry":  {c.From, c.Previous, c.Key, []byte("{}"), c.Note},
	} {
		if _, err := ParseKeyChange(bad.Encode()); err == nil {
			t.Errorf("%s: ParseKeyChange = nil", name)
		}
	}
}
