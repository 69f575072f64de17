package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadAnchors(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, filepath.Join(dir, "audit"), small())
	receipts := appendN(t, l, 0, 3)
	kept := filepath.Join(dir, "kept")
	if err := os.Mkdir(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(kept, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := &FileAnchor{Path: filepath.Join(kept, "anchors.jsonl")}
	if err := file.Anchor(t.Context(), receipts[0].Checkpoint); err != nil {
		t.Fatal(err)
	}
	// A crash leaves half a line, and the next one comes after it.
	b, err := os.ReadFile(file.Path)
	if err != nil {
		t.Fatal(err)
	}
	write("anchors.jsonl", string(b)+string(b[:40]))
	if err := file.Anchor(t.Context(), receipts[1].Checkpoint); err != nil {
		t.Fatal(err)
	}
	write("one.note", receipts[2].Checkpoint.Note)
	p, err := l.Proof(1)
	if err != nil {
		t.Fatal(err)
	}
	write("entry.tlog-proof", string(p.Marshal()))
	found, err := ReadAnchors(kept)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ source, note string }{
		{"anchors.jsonl:1", receipts[0].Checkpoint.Note}, {"anchors.jsonl:3", receipts[1].Checkpoint.Note},
		{"entry.tlog-proof", p.Note}, {"one.note", receipts[2].Checkpoint.Note},
	}
	if len(found) != len(want) {
		t.Fatalf("%d checkpoints, want %d: %v", len(found), len(want), found)
	}
	for i, w := range want {
		if found[i].Note != w.note || filepath.Base(found[i].Source) != w.source {
			t.Errorf("checkpoint %d is %+v, want %+v", i, found[i], w)
		}
	}
	for name, text := range map[string]string{"text": "hello\n", "json": "{\"a\":1}\n", "line": "{\"note\":\"\"}\n", "proof": proofFirstLine} {
		if _, err := ReadAnchors(write(name, text)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("ReadAnchors(%s) = %v, want an error that names it", name, err)
		}
	}
	if _, err := ReadAnchors(filepath.Join(dir, "nothing")); err == nil {
		t.Error("ReadAnchors of nothing succeeded")
	}
	if err := (&FileAnchor{Path: filepath.Join(dir, "no", "where")}).Anchor(t.Context(), receipts[0].Checkpoint); err == nil {
		t.Error("Anchor without a directory succeeded")
	}
}

func FuzzAnchors(f *testing.F) {
	f.Add("{\"note\":\"a\\n1\\nb\\n\\n— a AAAA\\n\"}\n{\"note\":\"cut")
	f.Add("a\n1\nb\n\n— a AAAA\n")
	f.Add(proofFirstLine)
	f.Fuzz(func(t *testing.T, text string) {
		found, err := parseAnchors(text, "f")
		if err != nil {
			return
		}
		for _, k := range found {
			if k.Note == "" {
				t.Fatalf("%q has an empty checkpoint", text)
			}
			if !strings.HasPrefix(text, "{") && !strings.Contains(text, k.Note) {
				t.Fatalf("%q has the checkpoint %q", text, k.Note)
			}
		}
	})
}
