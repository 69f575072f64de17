package witness_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/witness"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// A witness of one deployment watches the ledger of another one.
func Example() {
	dir := must(os.MkdirTemp("", "witness"))
	defer os.RemoveAll(dir)
	l := must(audit.Open(filepath.Join(dir, "audit"), audit.Config{Origin: "example.org/ledger"}))
	defer l.Close()

	// Over there: a key, a directory, and the public key of who is watched.
	private, public, err := witness.GenerateKey("witness.example/w1")
	if err != nil {
		log.Fatal(err)
	}
	server := must(witness.Open(filepath.Join(dir, "witness"), witness.Config{
		Signer: must(witness.NewSigner(private)),
		Logs:   []string{l.VerifierKey()},
	}))
	defer server.Close()
	web := httptest.NewServer(server)
	defer web.Close()

	// Here: the checkpoint is cosigned. A ledger does that by itself when its
	// Config names the group.
	group := &witness.Group{Peers: []witness.Peer{{URL: web.URL, Key: public}}}
	must(l.Append(context.Background(), audit.Entry{AgentID: "planner", Action: "run.start", Result: audit.Success}))
	c := l.Checkpoint()
	note := must(group.Cosign(context.Background(), c, func(from int64) ([][32]byte, error) { return l.Consistency(from, c.Size) }))

	// Anybody with both public keys can check it.
	fmt.Println(witness.CheckQuorum(note, 1, public))
	for _, c := range must(witness.Cosignatures(note, public)) {
		fmt.Println(c.Witness)
	}
	verifier := must(witness.NewVerifier(public))
	fmt.Println(verifier.Name())
	// Output:
	// <nil>
	// witness.example/w1
	// witness.example/w1
}
