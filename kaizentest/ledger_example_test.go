package kaizentest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
)

// The same look at every kind of ledger: TestLedger takes it after each step.
func ExampleCheckLedger() {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	l, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	_, err = l.Append(ctx, audit.Entry{AgentID: "planner", Action: "run", Result: audit.Success})
	fmt.Println(err)
	fmt.Println(kaizentest.CheckLedger(ctx, l))
	fmt.Println(l.Close())
	// Output:
	// <nil>
	// <nil>
	// <nil>
}
