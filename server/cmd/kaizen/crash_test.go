package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

// TestAcknowledgedSurvivesKill is the promise of the server: what it answered
// 200 to is on disk. A real server is killed again and again while traces, logs
// and audit entries are sent to it; each time it comes back, everything that
// was acknowledged is there once, and what it did not answer to is there at
// most once, also after it was sent again.
func TestAcknowledgedSurvivesKill(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			rounds := 5
			if testing.Short() {
				rounds = 2
			}
			testKill(t, rand.New(rand.NewPCG(seed, 0)), rounds)
		})
	}
}

func testKill(t *testing.T, rng *rand.Rand, rounds int) {
	dir := filepath.Join(t.TempDir(), "data")
	senders := []*sender{
		{name: "spans", path: "/v1/traces", make: spanBatch},
		{name: "logs", path: "/v1/logs", make: logBatch},
		{name: "audit", path: "/api/audit", make: auditBatch},
	}
	for _, s := range senders {
		s.acked, s.unknown = map[string]bool{}, map[string]bool{}
		s.rng = rand.New(rand.NewPCG(rng.Uint64(), 1))
	}
	for round := range rounds {
		child := startChild(t, dir)
		checkSenders(t, child.ready, senders)
		acks := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		var sending sync.WaitGroup
		for _, s := range senders {
			sending.Go(func() { s.send(ctx, child.ready.UI, acks) })
		}
		for range 10 + rng.IntN(80) {
			<-acks
		}
		child.kill(t)
		cancel() // releases those whose acknowledgement nobody takes
		sending.Wait()
		for _, s := range senders {
			t.Logf("round %d: %s: %d acknowledged, %d unknown", round, s.name, len(s.acked), len(s.unknown))
		}
	}
	child := startChild(t, dir)
	checkSenders(t, child.ready, senders)
	for _, s := range senders {
		s.repeat(t, child.ready.UI)
	}
	checkSenders(t, child.ready, senders)
	child.stop(t)
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"audit", "verify", dir}, nil, &out, &errs); code != exitGood {
		t.Errorf("audit verify = %d: %s%s", code, out.String(), errs.String())
	}
}

// child is a server in a process of its own.
type child struct {
	cmd   *exec.Cmd
	ready ready
	log   *bytes.Buffer
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	c := &child{log: &bytes.Buffer{}}
	c.cmd = exec.Command("kaizen", "serve", "--json", "--data", dir,
		"--listen", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0")
	c.cmd.Stderr = c.log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() }) // it has ended, in a test that passes
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v\n%s", c.cmd.Wait(), c.log)
	}
	if err := json.Unmarshal(line, &c.ready); err != nil {
		t.Fatalf("ready line %q: %v", line, err)
	}
	return c
}

func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait() // says that it was killed
}

func (c *child) stop(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("stop: %v\n%s", err, c.log)
	}
}

// sender sends batches of one kind and remembers what became of each item.
type sender struct {
	name, path string
	make       func(rng *rand.Rand) (body []byte, ids []string)
	rng        *rand.Rand

	// Written by send, read when it has returned.
	acked, unknown map[string]bool
	pending        []batch
}

type batch struct {
	body []byte
	ids  []string
}

// send sends new batches until one is not answered.
func (s *sender) send(ctx context.Context, base string, acks chan<- struct{}) {
	for {
		b := batch{}
		b.body, b.ids = s.make(s.rng)
		status, _, err := post(context.WithoutCancel(ctx), base+s.path, b.body)
		if err != nil || status != http.StatusOK {
			s.pending = append(s.pending, b)
			for _, id := range b.ids {
				s.unknown[id] = true
			}
			return
		}
		for _, id := range b.ids {
			s.acked[id] = true
		}
		select {
		case acks <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// repeat sends again what was not answered, as an exporter does.
func (s *sender) repeat(t *testing.T, base string) {
	t.Helper()
	for _, b := range s.pending {
		status, text, err := post(t.Context(), base+s.path, b.body)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s again = %d, %v: %s", s.name, status, err, text)
		}
		for _, id := range b.ids {
			delete(s.unknown, id)
			s.acked[id] = true
		}
	}
	s.pending = nil
}

func post(ctx context.Context, url string, body []byte) (int, []byte, error) {
	return ask(ctx, http.MethodPost, url, body, http.Header{"Content-Type": {"application/json"}})
}

// checkSenders compares what the server has with what it acknowledged.
func checkSenders(t *testing.T, r ready, senders []*sender) {
	t.Helper()
	c, err := newClient(r.UI)
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]map[string]int{
		"spans": listIDs(t, c, "/api/spans", "spans", "span_id"),
		"logs":  listIDs(t, c, "/api/logs", "logs", "message"),
		"audit": listIDs(t, c, "/api/audit", "entries", "id"),
	}
	for _, s := range senders {
		for id := range s.acked {
			if n := held[s.name][id]; n != 1 {
				t.Errorf("%s %s was acknowledged and is there %d times", s.name, id, n)
			}
		}
		for id, n := range held[s.name] {
			if !s.acked[id] && !s.unknown[id] {
				t.Errorf("%s %s was never sent", s.name, id)
			}
			if n != 1 {
				t.Errorf("%s %s is there %d times", s.name, id, n)
			}
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// listIDs counts the values of field among all items at path.
func listIDs(t *testing.T, c *client, path, list, field string) map[string]int {
	t.Helper()
	found := map[string]int{}
	err := c.list(t.Context(), path, list, map[string][]string{}, 0, func(raw json.RawMessage) error {
		var item map[string]any
		if err := json.Unmarshal(raw, &item); err != nil {
			return err
		}
		if item["agent_id"] == "kaizen" {
			return nil // what the ledger says of itself (that it was recovered) nobody has sent
		}
		id, ok := item[field].(string)
		if !ok {
			return fmt.Errorf("item without %s: %s", field, raw)
		}
		found[id]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

type object = map[string]any

func attribute(key, value string) object {
	return object{"key": key, "value": object{"stringValue": value}}
}

func nano(t time.Time) string { return fmt.Sprint(t.UnixNano()) }

func spanBatch(rng *rand.Rand) ([]byte, []string) {
	now := time.Now()
	trace := fmt.Sprintf("%016x%016x", rng.Uint64()|1, rng.Uint64())
	var spans []object
	var ids []string
	for range 1 + rng.IntN(20) {
		id := fmt.Sprintf("%016x", rng.Uint64()|1)
		ids = append(ids, id)
		spans = append(spans, object{"traceId": trace, "spanId": id, "name": "work", "kind": 1,
			"startTimeUnixNano": nano(now), "endTimeUnixNano": nano(now.Add(time.Millisecond))})
	}
	return encode(object{"resourceSpans": []object{{
		"resource":   object{"attributes": []object{attribute("service.name", "crash")}},
		"scopeSpans": []object{{"scope": object{"name": "crash"}, "spans": spans}},
	}}}), ids
}

func logBatch(rng *rand.Rand) ([]byte, []string) {
	var records []object
	var ids []string
	for range 1 + rng.IntN(20) {
		id := newULID(rng)
		ids = append(ids, id)
		records = append(records, object{"timeUnixNano": nano(time.Now()), "severityNumber": 9,
			"body": object{"stringValue": id}, "attributes": []object{attribute("log.record.uid", id)}})
	}
	return encode(object{"resourceLogs": []object{{
		"resource":  object{"attributes": []object{attribute("service.name", "crash")}},
		"scopeLogs": []object{{"scope": object{"name": "crash"}, "logRecords": records}},
	}}}), ids
}

func auditBatch(rng *rand.Rand) ([]byte, []string) {
	var entries []object
	var ids []string
	for range 1 + rng.IntN(5) {
		id := newULID(rng)
		ids = append(ids, id)
		entries = append(entries, object{"id": id, "time": time.Now().UTC().Format(time.RFC3339Nano), "agent_id": "crash",
			"action": "work", "result": "success", "details": object{"n": rng.IntN(1000)}})
	}
	return encode(entries), ids
}

func newULID(rng *rand.Rand) string {
	var random [10]byte
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	return ulid.MustNew(ulid.Now(), bytes.NewReader(random[:])).String()
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // made of maps and strings above
	}
	return b
}
