package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// tempLedger makes a ledger with three entries, for the examples.
func tempLedger() (l *audit.Ledger, dir string, done func()) {
	tmp, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	dir = filepath.Join(tmp, "audit")
	if l, err = audit.Open(dir, audit.Config{Origin: "example.org/agents"}); err != nil {
		log.Fatal(err)
	}
	start := time.Date(2026, 3, 9, 14, 5, 0, 0, time.UTC)
	for i, tool := range []string{"search", "shell", "search"} {
		_, err := l.Append(context.Background(), audit.Entry{
			ID:      fmt.Sprintf("01HZY3V9T5XKQ2M4N6P8R0S1T%d", i),
			Time:    start.Add(time.Duration(i) * time.Minute),
			AgentID: "planner",
			Action:  "tool.execute",
			Result:  []audit.Result{audit.Success, audit.Denied, audit.Success}[i],
			Details: map[string]any{"tool": tool},
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	return l, dir, func() {
		if err := l.Close(); err != nil {
			log.Fatal(err)
		}
		if err := os.RemoveAll(tmp); err != nil {
			log.Fatal(err)
		}
	}
}

func ExampleOpen() {
	tmp, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(tmp)

	l, err := audit.Open(filepath.Join(tmp, "audit"), audit.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	receipt, err := l.Append(context.Background(), audit.Entry{
		AgentID: "planner",
		Action:  "tool.execute",
		Result:  audit.Success,
		Details: map[string]any{"tool": "search", "hits": 4},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("entry", receipt.Index, "is under a checkpoint of", receipt.Checkpoint.Size)
	// Output: entry 0 is under a checkpoint of 1
}

func ExampleLedger_AppendBatch() {
	l, _, done := tempLedger()
	defer done()
	receipts, err := l.AppendBatch(context.Background(), []audit.Entry{
		{ID: "01HZY3V9T5XKQ2M4N6P8R0S1T1", AgentID: "planner", Action: "tool.execute", Result: audit.Denied}, // a retry
		{AgentID: "planner", Action: "run.end", Result: audit.Success},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range receipts {
		fmt.Println(r.Index, r.Duplicate)
	}
	// Output:
	// 1 true
	// 3 false
}

func ExampleLedger_Query() {
	l, _, done := tempLedger()
	defer done()
	for e, err := range l.Query(context.Background(), audit.Query{AgentID: "planner", Result: audit.Denied}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Index, e.Time.Format(time.TimeOnly), e.Action, e.Details["tool"])
	}
	// Output: 1 14:06:00 tool.execute shell
}

func ExampleOpenReader() {
	l, dir, done := tempLedger()
	defer done()
	if err := l.Flush(context.Background()); err != nil {
		log.Fatal(err)
	}
	r, err := audit.OpenReader(dir) // the ledger is open beside it
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	n, err := r.Count(context.Background(), audit.Query{Action: "tool.execute"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "of", r.Size(), "in", r.Origin())
	// Output: 3 of 3 in example.org/agents
}

func ExampleVerify() {
	l, dir, done := tempLedger()
	defer done()
	held, key := l.Checkpoint(), l.VerifierKey() // what an auditor keeps elsewhere
	if err := l.Close(); err != nil {
		log.Fatal(err)
	}

	report, err := audit.Verify(context.Background(), dir, audit.VerifyConfig{Key: key, Checkpoint: []byte(held.Note)})
	fmt.Println(report.Entries, "entries, clean:", report.Clean, err)

	// Somebody makes a denied action look like a success.
	name := filepath.Join(dir, "seg", "00000000000000000000.jsonl")
	lines, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	copy(lines[len(lines)/2:], "success")
	if err := os.WriteFile(name, lines, 0o600); err != nil {
		log.Fatal(err)
	}
	_, err = audit.Verify(context.Background(), dir, audit.VerifyConfig{Key: key})
	var damage *audit.TamperError
	if errors.As(err, &damage) {
		fmt.Println(damage.Path, "entry", damage.Index)
	}
	// Output:
	// 3 entries, clean: true <nil>
	// seg/00000000000000000000.jsonl entry 1
}

func ExampleProof_Check() {
	l, _, done := tempLedger()
	defer done()
	proof, err := l.Proof(1)
	if err != nil {
		log.Fatal(err)
	}
	file := proof.Marshal() // to be sent to whoever wants to know

	received, err := audit.ParseProof(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("valid:", received.Check(l.VerifierKey()) == nil)
	e, err := received.Entry()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.Index, e.Action, e.Result)

	received.Line[60] ^= 1
	fmt.Println("changed:", received.Check(l.VerifierKey()) == nil)
	// Output:
	// valid: true
	// 1 tool.execute denied
	// changed: false
}

func ExampleEncodeLine() {
	line, err := audit.EncodeLine(nil, audit.Entry{
		ID:      "01HZY3V9T5XKQ2M4N6P8R0S1T2",
		Time:    time.Date(2026, 3, 9, 14, 5, 6, 0, time.UTC),
		AgentID: "planner",
		Action:  "run.start",
		Result:  audit.Success,
		Details: map[string]any{"b": 1.50, "a": "x\ty"},
	})
	fmt.Println(string(line), err)
	// Output: {"id":"01HZY3V9T5XKQ2M4N6P8R0S1T2","time":"2026-03-09T14:05:06.000000000Z","agent_id":"planner","action":"run.start","result":"success","details":{"a":"x\ty","b":1.5}} <nil>
}

func ExampleDecodeLine() {
	line := `{"id":"01HZY3V9T5XKQ2M4N6P8R0S1T2","time":"2026-03-09T14:05:06.000000000Z","agent_id":"planner","action":"run.start","result":"success","details":{}}`
	e, err := audit.DecodeLine([]byte(line))
	fmt.Println(e.AgentID, e.Action, e.Time.Format(time.TimeOnly), err)
	_, err = audit.DecodeLine([]byte(line[:len(line)-1] + ` }`)) // another spelling
	fmt.Println(err != nil)
	// Output:
	// planner run.start 14:05:06 <nil>
	// true
}
