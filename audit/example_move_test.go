package audit_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/audit"
)

// secondHome makes an empty ledger under the same name and key as the one in
// dir: where it is to be copied to.
func secondHome(dir string) (*audit.Ledger, func()) {
	tmp, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "keys", "audit.key"))
	if err != nil {
		log.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(tmp, "keys"), 0o700); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "keys", "audit.key"), key, 0o600); err != nil {
		log.Fatal(err)
	}
	l, err := audit.Open(filepath.Join(tmp, "audit"), audit.Config{})
	if err != nil {
		log.Fatal(err)
	}
	return l, func() {
		if err := l.Close(); err != nil {
			log.Fatal(err)
		}
		if err := os.RemoveAll(tmp); err != nil {
			log.Fatal(err)
		}
	}
}

// A ledger moves with every index and every proof.
func ExampleCopy() {
	src, dir, done := tempLedger()
	defer done()
	if err := src.Flush(context.Background()); err != nil {
		fmt.Println(err)
	}
	proof, err := src.Proof(1) // made before the move
	if err != nil {
		fmt.Println(err)
		return
	}
	dst, gone := secondHome(dir)
	defer gone()
	fmt.Println(audit.Copy(context.Background(), dst, src, nil))
	e, err := dst.Get(context.Background(), 1)
	fmt.Println(dst.Size(), e.Details["tool"], err)
	fmt.Println(proof.Check(dst.VerifierKey()))
	// Output:
	// <nil>
	// 3 shell <nil>
	// <nil>
}

// Sealed segments are copied to where they are kept for longer; the archive is
// verified like a ledger.
func ExampleArchiveDir() {
	l, dir, done := tempLedger()
	defer done()
	ctx := context.Background()
	if err := l.Seal(ctx); err != nil {
		fmt.Println(err)
		return
	}
	archive := filepath.Join(filepath.Dir(dir), "archive")
	if _, err := l.Archive(ctx, audit.ArchiveDir(archive)); err != nil {
		fmt.Println(err)
		return
	}
	report, err := audit.Verify(ctx, archive, audit.VerifyConfig{Key: l.VerifierKey()})
	fmt.Println(report.Entries >= 3, err)
	// Output: true <nil>
}

// The checkpoint of one ledger becomes an entry of another.
func ExampleShardEntry() {
	l, _, done := tempLedger()
	defer done()
	e, err := audit.ShardEntry(audit.ShardCheckpoint{Key: l.VerifierKey(), Note: l.Checkpoint().Note})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Action)
	_, checkpoint, err := audit.ParseShardEntry(e)
	fmt.Println(checkpoint.Size, err)
	// Output:
	// ledger.shard_checkpoint
	// 3 <nil>
}
