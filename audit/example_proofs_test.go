package audit_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/audit"
)

// exampleLedger is a ledger of two entries in a temporary directory.
func exampleLedger() (l *audit.Ledger, receipts []audit.Receipt, remove func()) {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	if l, err = audit.Open(filepath.Join(dir, "audit"), audit.Config{Origin: "example.org/ledger"}); err != nil {
		log.Fatal(err)
	}
	for _, action := range []string{"run.start", "tool.execute"} {
		e := audit.Entry{AgentID: "planner", Action: action, Result: audit.Success, Details: map[string]any{}}
		r, err := l.Append(context.Background(), e)
		if err != nil {
			log.Fatal(err)
		}
		receipts = append(receipts, r)
	}
	return l, receipts, func() {
		if err := l.Close(); err != nil {
			log.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			log.Fatal(err)
		}
	}
}

// An auditor who kept an earlier receipt has it proven that nothing before it
// was changed since. The proof is a file that needs nothing but the key.
func ExampleLedger_ProveConsistency() {
	l, receipts, remove := exampleLedger()
	defer remove()
	proof, err := l.ProveConsistency([]byte(receipts[0].Checkpoint.Note))
	if err != nil {
		log.Fatal(err)
	}
	file := proof.Marshal()

	read, err := audit.ParseConsistencyProof(file)
	if err != nil {
		log.Fatal(err)
	}
	from, to, err := read.Check(l.VerifierKey())
	fmt.Printf("%d entries grew to %d: %v\n", from.Size, to.Size, err)
	// Output: 1 entries grew to 2: <nil>
}

func ExampleParseCheckpoint() {
	l, receipts, remove := exampleLedger()
	defer remove()
	c, err := audit.ParseCheckpoint([]byte(receipts[1].Checkpoint.Note), l.VerifierKey())
	fmt.Println(c.Size, c.Root == l.Checkpoint().Root, err)
	// Output: 2 true <nil>
}

// Bundles and tiles are what programs for C2SP logs read.
func ExampleSplitBundle() {
	l, _, remove := exampleLedger()
	defer remove()
	bundle, err := l.Bundle(context.Background(), 0, 2)
	if err != nil {
		log.Fatal(err)
	}
	lines, err := audit.SplitBundle(bundle)
	if err != nil {
		log.Fatal(err)
	}
	for _, line := range lines {
		e, err := audit.DecodeLine(line)
		fmt.Println(e.Action, err)
	}
	// Output:
	// run.start <nil>
	// tool.execute <nil>
}

// Checkpoints that were kept elsewhere are read back, and the ledger is held
// against all of them.
func ExampleReadAnchors() {
	l, receipts, remove := exampleLedger()
	defer remove()
	dir, err := os.MkdirTemp("", "elsewhere")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	elsewhere := &audit.FileAnchor{Path: filepath.Join(dir, "anchors.jsonl")}
	for _, r := range receipts {
		if err := elsewhere.Anchor(context.Background(), r.Checkpoint); err != nil {
			log.Fatal(err)
		}
	}
	kept, err := audit.ReadAnchors(elsewhere.Path)
	if err != nil {
		log.Fatal(err)
	}
	for _, k := range kept {
		p, err := l.ProveConsistency([]byte(k.Note))
		if err != nil {
			log.Fatal(err)
		}
		_, _, err = p.Check(l.VerifierKey())
		fmt.Println(filepath.Base(k.Source), err)
	}
	// Output:
	// anchors.jsonl:1 <nil>
	// anchors.jsonl:2 <nil>
}

// The key is changed while the ledger is closed. Whoever trusts the old key can
// follow to the new one.
func ExampleRotateKey() {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ledger := filepath.Join(dir, "audit")
	l, err := audit.Open(ledger, audit.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := l.Close(); err != nil {
		log.Fatal(err)
	}
	previous, vkey, err := audit.RotateKey(context.Background(), ledger, audit.Config{})
	if err != nil {
		log.Fatal(err)
	}
	report, err := audit.Verify(context.Background(), ledger, audit.VerifyConfig{Key: previous})
	fmt.Println(report.Key == vkey, report.Entries, err)
	// Output: true 1 <nil>
}
