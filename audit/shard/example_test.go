package shard_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/shard"
)

// ledgers opens n ledgers of their own names and keys.
func ledgers(n int) (all []*audit.Ledger, done func()) {
	tmp, err := os.MkdirTemp("", "shards")
	if err != nil {
		log.Fatal(err)
	}
	for i := range n {
		l, err := audit.Open(filepath.Join(tmp, fmt.Sprint(i), "audit"), audit.Config{Origin: fmt.Sprintf("example.org/shard-%d", i)})
		if err != nil {
			log.Fatal(err)
		}
		all = append(all, l)
	}
	return all, func() {
		for _, l := range all {
			if err := l.Close(); err != nil {
				log.Fatal(err)
			}
		}
		if err := os.RemoveAll(tmp); err != nil {
			log.Fatal(err)
		}
	}
}

// One signature covers the entries of all shards.
func ExampleNew() {
	ctx := context.Background()
	all, done := ledgers(3)
	defer done()
	super, shards := all[0], all[1:]
	set, err := shard.New(ctx, shard.Config{Super: super, Shards: []audit.Backend{shards[0], shards[1]}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, agent := range []string{"planner", "coder", "reviewer"} {
		if _, err := set.Append(ctx, audit.Entry{AgentID: agent, Action: "run", Result: audit.Success}); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(set.Close(ctx)) // records what is not on record yet
	fmt.Println(shard.Verify(ctx, super, shards[0], shards[1]))
	// Output:
	// <nil>
	// <nil>
}

// A process keeps a ledger of its own, and has a server record its checkpoints.
func ExampleClient_Send() {
	ctx := context.Background()
	all, done := ledgers(2)
	defer done()
	super, local := all[0], all[1]
	recorder, err := shard.NewRecorder(ctx, super)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(shard.Handler(recorder, super))
	defer server.Close()
	if _, err := local.Append(ctx, audit.Entry{AgentID: "planner", Action: "run", Result: audit.Success}); err != nil {
		fmt.Println(err)
	}
	client := shard.Client{URL: server.URL}
	recorded, err := client.Send(ctx, local)
	fmt.Println(recorded.Origin, recorded.Size, err)
	// Output: example.org/shard-1 1 <nil>
}
