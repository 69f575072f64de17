package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/audit"
)

// An index file that was lost is made again from the entries.
func ExampleRepair() {
	l, dir, done := tempLedger()
	defer done()
	ctx := context.Background()
	if err := l.Seal(ctx); err != nil {
		fmt.Println(err)
		return
	}
	if err := l.Close(); err != nil {
		fmt.Println(err)
		return
	}
	files, err := filepath.Glob(filepath.Join(dir, "seg", "*.idx"))
	for _, name := range files {
		err = os.Remove(name)
	}
	_, damage := audit.Verify(ctx, dir, audit.VerifyConfig{})
	repaired, repairErr := audit.Repair(ctx, dir)
	_, after := audit.Verify(ctx, dir, audit.VerifyConfig{})
	fmt.Println(err, damage != nil, len(repaired), repairErr, after)
	// Output: <nil> true 1 <nil> <nil>
}
