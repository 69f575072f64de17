package audit

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHeader compares the two ways to read a line's fields with the whole
// entry: for lines with and without escapes.
func TestHeader(t *testing.T) {
	data, err := os.ReadFile("testdata/lines.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	odd := numbered(3)
	odd.SessionID, odd.Severity = "a\"b\\c\n", "é😀"
	odd.Metadata = map[string]any{"}": "{\"", "a": map[string]any{"b": "}"}, "c": `\`, "d": `\"}`, `e\\\`: `"\\"{`}
	data = append(append(data, encode(t, odd)...), '\n')
	data = append(append(data, encode(t, benchEntry())...), '\n')
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		want, err := DecodeLine(line)
		if err != nil {
			t.Fatal(err)
		}
		want.Details, want.Metadata = nil, nil
		for name, read := range map[string]func([]byte) (Entry, error){"header": header, "slowHeader": slowHeader} {
			got, err := read(line)
			if err != nil {
				t.Fatalf("%s = %v", name, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}
