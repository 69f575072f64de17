package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
)

// TestVerifyKept compares the ledger with every checkpoint that an auditor has
// kept, wherever in the list one stands that is not of it.
func TestVerifyKept(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	twin := cfg // the same key signs another history, with two entries more
	twin.Schema += "_twin"
	other := open(t, twin)
	if _, err := other.Append(t.Context(), audit.Entry{AgentID: "twin", Action: "x", Result: audit.Success}); err != nil {
		t.Fatal(err)
	}
	strange := fresh(t)
	stranger := open(t, strange)
	keep := func(l audit.Backend, source string) audit.Remembered {
		t.Helper()
		fill(t, l, 3)
		return audit.Remembered{Note: l.Checkpoint().Note, Source: source}
	}
	good := []audit.Remembered{keep(l, "a.jsonl:1"), keep(l, "a.jsonl:2"), keep(l, "b.jsonl:1")} // of 3, 6 and 9
	fill(t, l, 2)
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{Checkpoint: []byte(good[1].Note), Checkpoints: good}); err != nil {
		t.Fatalf("with what was kept: %v", err)
	}
	fork := keep(other, "fork.jsonl:1") // of 4
	fill(t, other, 6)
	newer := keep(other, "newer.jsonl:1") // of 13
	signed := good[1]
	body, sig, _ := strings.Cut(signed.Note, "\n\n")
	signed.Note, signed.Source = strings.Replace(body, "\n6\n", "\n5\n", 1)+"\n\n"+sig, "changed.jsonl:1"
	for _, tt := range []struct {
		name, reason string
		bad          audit.Remembered
	}{
		{"another history", "the first 4 entries are not those that were signed, by the checkpoint in fork.jsonl:1", fork},
		{"more entries", "ledger is older than a checkpoint of it that is known, in newer.jsonl:1", newer},
		{"changed", "the checkpoint in changed.jsonl:1 is not signed", signed},
		{"another ledger", "the checkpoint in strange.jsonl:1 is not signed", keep(stranger, "strange.jsonl:1")},
		{"empty", "the checkpoint in empty.jsonl:1 is not signed", audit.Remembered{Source: "empty.jsonl:1"}},
	} {
		for at := range len(good) + 1 {
			list := append(append(append([]audit.Remembered(nil), good[:at]...), tt.bad), good[at:]...)
			_, err := l.Verify(t.Context(), audit.VerifyConfig{Checkpoints: list})
			if damage, ok := errors.AsType[*audit.TamperError](err); !ok || !strings.HasPrefix(damage.Reason, tt.reason) {
				t.Errorf("%s at %d: Verify = %v, want %q", tt.name, at, err, tt.reason)
			}
		}
	}
}
