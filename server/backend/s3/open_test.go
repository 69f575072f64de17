package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
	"github.com/kaizen-go/kaizen/server/backend/internal/grouptest"
	"github.com/kaizen-go/kaizen/server/internal/s3test"
)

func TestRotation(t *testing.T) {
	cfg := fresh(t)
	grouptest.Rotation(t, cfg.KeyFile, func(keyFile string) grouptest.Ledger {
		cfg.KeyFile = keyFile
		return openFor(t, cfg)
	})
}

// counter counts requests by what they are for.
type counter struct {
	prefix string
	mu     sync.Mutex
	seen   map[string]int
	all    int
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := r.Method + " "
	if _, name, ok := strings.Cut(r.URL.Path, c.prefix); ok && name != "" {
		kind += strings.TrimRight(strings.Split(name, "/")[0], "0123456789")
	} else {
		kind += "list"
	}
	c.mu.Lock()
	c.seen[kind]++
	c.all++
	c.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

// openCounted opens a ledger and says what that took.
func openCounted(t *testing.T, cfg Config) (*Ledger, *counter) {
	t.Helper()
	c := &counter{prefix: cfg.Prefix, seen: map[string]int{}}
	cfg.Transport = c
	l := openFor(t, cfg)
	l.background.Wait()
	return l, c
}

// TestOpenCost: opening takes the same requests whatever the ledger's size is.
// Chunks have 8 batches here, so the largest has pages.
func TestOpenCost(t *testing.T) {
	cfg := fresh(t)
	var want string
	for _, batches := range []int{8 + 3, 3*8 + 3, cfg.fan*8 + 5*8 + 3} {
		l := openFor(t, cfg)
		fill(t, l, batches-int(l.state.next), 2)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, c := openCounted(t, cfg)
		if l.Size() != int64(2*batches) || l.state.tail.Batch != int64(batches)-3 || len(l.state.tail.entries) != 6 {
			t.Fatalf("%d batches: %d entries, of which %d are in memory, from batch %d on", batches, l.Size(), len(l.state.tail.entries), l.state.tail.Batch)
		}
		got := fmt.Sprint(c.seen)
		if want == "" {
			want = got
		}
		// The store asks where the bucket is, and the three batches are read.
		if got != want || c.seen["GET batch"] > 3+2 || c.all > 20 {
			t.Errorf("%d batches: opening took the requests %s, want %s", batches, got, want)
		}
		if err := kaizentest.CheckLedger(t.Context(), l); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOldEntries reads, proves and finds what is in chunks and pages alone, with
// what is derived, and after all of it was removed.
func TestOldEntries(t *testing.T) {
	cfg := fresh(t)
	batches, each := cfg.fan*8+11, 10
	first := openFor(t, cfg)
	old := entry(0)
	old.ID = "01HZY3V9T5XKQ2M4N6P8R0S1T2" // of long ago
	if _, err := first.Append(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	fill(t, first, batches, each)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		l := openFor(t, cfg)
		if len(l.state.refs) != 2 || len(l.state.refs[1]) != 1 {
			t.Fatalf("%d levels of chunks, want a page", len(l.state.refs))
		}
		if r, err := l.Append(t.Context(), old); err != nil || !r.Duplicate || r.Index != 0 {
			t.Errorf("an id of long ago: %+v, %v, want a duplicate", r, err)
		}
		size := int64(batches*each + 1)
		for _, i := range []int64{0, 1, 255, 256, 511, 512, size - 1} {
			p, err := l.Proof(i)
			if err != nil || p.Check(l.VerifierKey()) != nil {
				t.Errorf("proof of entry %d: %v", i, err)
			}
			if e, err := l.Get(t.Context(), i); err != nil || e.Index != i {
				t.Errorf("Get(%d) = %+v, %v", i, e, err)
			}
		}
		for _, agent := range []string{"agent-1", "agent-4"} {
			var up, down []int64
			for _, order := range []bool{false, true} {
				for e, err := range l.Query(t.Context(), audit.Query{AgentID: agent, Descending: order}) {
					if err != nil {
						t.Fatal(err)
					}
					if order {
						down = append([]int64{e.Index}, down...)
					} else {
						up = append(up, e.Index)
					}
				}
			}
			n, err := l.Count(t.Context(), audit.Query{AgentID: agent})
			if err != nil || len(up) != int(n) || fmt.Sprint(up) != fmt.Sprint(down) || int(n) < batches*each/5-1 {
				t.Errorf("%s has %d entries, %d upwards and %d downwards, %v", agent, n, len(up), len(down), err)
			}
		}
		if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
			t.Error(err)
		}
		l.background.Wait()
	}
	check()
	removed := removeDerived(t, cfg)
	if removed < 16 {
		t.Errorf("%d derived objects, want a state and a chunk for each 8 batches", removed)
	}
	check() // they are made again
	if again := removeDerived(t, cfg); again == 0 {
		t.Error("opening has not stored a state again")
	}
}

// removeDerived removes what follows from the batches, as if its writer had
// ended before it stored that.
func removeDerived(t *testing.T, cfg Config) (n int) {
	t.Helper()
	client := s3test.Start(t).Client(t)
	for _, prefix := range []string{chunkPrefix, statePrefix, pagePrefix, tilePrefix} {
		for o := range client.ListObjects(t.Context(), cfg.Bucket, minio.ListObjectsOptions{Prefix: cfg.Prefix + prefix, Recursive: true}) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			if err := client.RemoveObject(t.Context(), cfg.Bucket, o.Key, minio.RemoveObjectOptions{}); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	return n
}

// A state that was changed is not used, and Verify names it.
func TestDamagedState(t *testing.T) {
	cfg := fresh(t)
	l := openFor(t, cfg)
	fill(t, l, 3*8+1, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	client := s3test.Start(t).Client(t)
	name := numbered(statePrefix, 3)
	for what, change := range map[string]func(ctx context.Context) error{
		"a range": func(ctx context.Context) error { return edit(ctx, client, cfg, name, `"min_id":`, `"min_id":9`) },
		"nothing": func(ctx context.Context) error { return store(ctx, client, cfg, name, nil) },
		"another": func(ctx context.Context) error {
			return copyOver(ctx, client, cfg, numbered(statePrefix, 2), name)
		},
	} {
		if err := change(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := openFor(t, cfg)
		if l.state.tail.Batch != 24 || l.Size() != 50 || len(l.state.refs[0]) != 3 {
			t.Errorf("%s: %d entries, the tail begins at batch %d", what, l.Size(), l.state.tail.Batch)
		}
		if err := kaizentest.CheckLedger(t.Context(), l); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: Verify = %v, want damage at %s", what, err, name)
		}
		l.background.Wait()
	}
}

// A ledger without ledger.json is damaged, not new: a key that took over would be
// written down as the first one, in an object that perhaps nobody can remove.
func TestIdentityMissing(t *testing.T) {
	cfg := fresh(t)
	l := openFor(t, cfg)
	fill(t, l, 3, 2)
	if _, _, err := l.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := s3test.Start(t).Client(t)
	body, err := l.bucket.get(t.Context(), ledgerName)
	if err != nil {
		t.Fatal(err)
	}
	if err := remove(t.Context(), client, cfg, ledgerName); err != nil {
		t.Fatal(err)
	}
	missing := func(what string, err error) {
		t.Helper()
		if damage, ok := errors.AsType[*audit.TamperError](err); !ok || damage.Path != ledgerName {
			t.Errorf("%s = %v, want damage at %s", what, err, ledgerName)
		}
	}
	_, err = l.Verify(t.Context(), audit.VerifyConfig{})
	missing("Verify", err)
	_, err = Open(t.Context(), cfg)
	missing("Open", err)
	if err := store(t.Context(), client, cfg, ledgerName, body); err != nil {
		t.Fatal(err)
	}
	if _, err := openFor(t, cfg).Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Errorf("Verify after ledger.json came back = %v", err)
	}
}

// A process that only reads makes pages as it follows the writer, and lets go of
// them when they are stored.
func TestReaderKeepsNoPages(t *testing.T) {
	cfg := fresh(t)
	writer, reader := openFor(t, cfg), openFor(t, cfg)
	for range 2 {
		fill(t, writer, cfg.fan*8, 1)
		writer.background.Wait()
		if err := reader.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(reader.pending.list); n != 0 || reader.Size() != writer.Size() {
			t.Errorf("%d entries of %d, %d objects are held", reader.Size(), writer.Size(), n)
		}
	}
	if err := kaizentest.CheckLedger(t.Context(), reader); err != nil {
		t.Error(err)
	}
}

// Somebody who makes a derived object before the ledger does cannot have it hold
// all that come after.
func TestForeignDerived(t *testing.T) {
	cfg := fresh(t)
	client := s3test.Start(t).Client(t)
	name := leveled(pagePrefix, 1, 0)
	if err := store(t.Context(), client, cfg, name, []byte("[]")); err != nil {
		t.Fatal(err)
	}
	l := openFor(t, cfg)
	fill(t, l, cfg.fan*8+8, 1)
	l.background.Wait()
	if n := len(l.pending.list); n != 0 {
		t.Errorf("%d objects are held", n)
	}
	if _, err := l.bucket.get(t.Context(), numbered(statePrefix, int64(cfg.fan)+1)); err != nil {
		t.Errorf("the state after it: %v", err)
	}
	_, err := l.Verify(t.Context(), audit.VerifyConfig{})
	if damage, ok := errors.AsType[*audit.TamperError](err); !ok || damage.Path != name {
		t.Errorf("Verify = %v, want damage at %s", err, name)
	}
}

// Somebody who has a key that was replaced can seal a state under it, of a ledger
// that never changed its key: a process with the present key does not go on from
// there.
func TestStateUnderOldKey(t *testing.T) {
	cfg := fresh(t)
	l := openFor(t, cfg)
	fill(t, l, 8, 1)
	l.background.Wait()
	state, err := l.bucket.get(t.Context(), numbered(statePrefix, 1))
	if err != nil {
		t.Fatal(err)
	}
	old, err := l.keys.Signer()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// One chunk further than the ledger is, with entries that were never appended.
	line, _, _ := bytes.Cut(state, []byte("\n"))
	var s snapshot
	if err := json.Unmarshal(line, &s); err != nil {
		t.Fatal(err)
	}
	again := s.Refs[0][0]
	again.Batch, again.Base = again.Batches, again.Count
	s.Refs[0] = append(s.Refs[0], again)
	s.Batches, s.Size = 2*s.Batches, 2*s.Size
	e, leaf := edge(nil), tlog.RecordHash([]byte("x"))
	tree := group.Tree{}
	for i := range s.Size {
		e, _ = e.add(i, leaf)
		tree.Append(leaf, nil)
	}
	s.Edge = [][]byte{tileBytes(e[0])}
	c, err := old.Sign(s.Size, tree.Root())
	if err != nil {
		t.Fatal(err)
	}
	s.Note = c.Note
	body, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	body = append(body, '\n')
	seal, err := old.Seal(sealed(2), sha256.Sum256(body))
	if err != nil {
		t.Fatal(err)
	}
	body = append(body, seal...)
	if _, _, err := openSnapshot(body, 2, 8, old.VerifierKey()); err != nil {
		t.Fatalf("the state is not well-formed: %v", err)
	}
	if err := store(t.Context(), s3test.Start(t).Client(t), cfg, numbered(statePrefix, 2), body); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrKey) {
		t.Errorf("Open = %v, want ErrKey", err)
	}
}
