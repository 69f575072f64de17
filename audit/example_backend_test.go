package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/audit"
)

// published is a ledger whose checkpoints are to be shown to others.
type published struct{ *audit.Ledger }

func (p published) Publish(ctx context.Context) error { return p.Flush(ctx) }
func (p published) Published() audit.Checkpoint       { return p.Checkpoint() }
func (p published) Keep(context.Context, string)      {}

// A backend of one's own has its checkpoints anchored in the background, and the
// last one when it is closed.
func ExampleStartOutward() {
	tmp, err := os.MkdirTemp("", "outward")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	l, err := audit.Open(filepath.Join(tmp, "audit"), audit.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	if _, err := l.Append(context.Background(), audit.Entry{AgentID: "planner", Action: "run.start", Result: audit.Success}); err != nil {
		fmt.Println(err)
		return
	}
	out := audit.StartOutward(published{l}, audit.OutwardConfig{Anchors: []audit.Anchor{
		audit.AnchorFunc(func(_ context.Context, c audit.Checkpoint) error {
			fmt.Println("kept elsewhere:", c.Size, "entry")
			return nil
		}),
	}}, nil)
	out.Close()
	fmt.Println("every anchor has", out.Stats().Anchored)
	// Output:
	// kept elsewhere: 1 entry
	// every anchor has 1
}

// A change of the key can be followed by whoever trusts the key before.
func ExampleParseKeyChange() {
	tmp, err := os.MkdirTemp("", "keychange")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "audit")
	l, err := audit.Open(dir, audit.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	trusted, _, err := l.RotateKey(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	line, err := os.ReadFile(filepath.Join(dir, "keys.jsonl"))
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := audit.ParseKeyChange(line)
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := audit.DecodeLine(c.Entry)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Previous == trusted, c.Key == l.VerifierKey(), "from", c.From)
	fmt.Println(e.Action == audit.KeyChangeEntry(c.Previous, c.Key).Action, e.Action)
	// Output:
	// true true from 1
	// true ledger.key_rotation
}

// A copy of a ledger goes on under the same key.
func ExampleCopyKey() {
	tmp, err := os.MkdirTemp("", "key")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	l, err := audit.Open(filepath.Join(tmp, "audit"), audit.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	if err := audit.CopyKey(filepath.Join(tmp, "keys", "audit.key"), filepath.Join(tmp, "there", "keys", "audit.key")); err != nil {
		fmt.Println(err)
	}
	twin, err := audit.Open(filepath.Join(tmp, "there", "audit"), audit.Config{ForImport: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer twin.Close()
	fmt.Println(twin.VerifierKey() == l.VerifierKey())
	// Output: true
}

// The keys of people go where the copy of their ledger is.
func ExampleMoveKeyStore() {
	tmp, err := os.MkdirTemp("", "keystore")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	l, err := audit.Open(filepath.Join(tmp, "audit"), audit.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := l.Append(context.Background(), audit.Entry{AgentID: "planner", Action: "run.start", Result: audit.Success, Subject: "maria"}); err != nil {
		fmt.Println(err)
	}
	if err := l.Close(); err != nil {
		fmt.Println(err)
	}
	moved, err := audit.MoveKeyStore(audit.KeyStoreMove{
		From: filepath.Join(tmp, "keys", "audit.key"), To: filepath.Join(tmp, "there", "keys", "audit.key"), Remove: true,
	})
	fmt.Println(moved, err)
	// Output: true <nil>
}
