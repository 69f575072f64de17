package main

import (
	"regexp"
	"testing"
	"time"
)

// TestBench runs what needs no other program for one short round, and computes
// every target that is about it.
func TestBench(t *testing.T) {
	missed, err := bench(t.TempDir(), 1, 10*time.Millisecond, regexp.MustCompile(`^(ledger|sqlite|tessera 1$)`))
	if err != nil {
		t.Fatal(err)
	}
	if all := len(targets()); missed > all {
		t.Errorf("%d targets missed of %d", missed, all)
	}
}

func TestEntryBytes(t *testing.T) {
	line, err := encode(entry())
	if err != nil || len(line)+1 != 512 {
		t.Errorf("a line of the benchmark has %d bytes, %v; want 512 with its newline", len(line)+1, err)
	}
}
