package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/server/internal/s3test"
)

func TestMain(m *testing.M) { os.Exit(s3test.Main(m)) }

var prefixes atomic.Int64

// fresh is the configuration of a new ledger, below a prefix of one bucket.
var plainBucket = sync.OnceValue(func() *string { return new(string) })

func fresh(t testing.TB) Config {
	t.Helper()
	server := s3test.Start(t)
	bucket := plainBucket()
	if *bucket == "" {
		*bucket = server.Bucket(t, false)
	}
	return configOf(t, server, *bucket)
}

func configOf(t testing.TB, server *s3test.Server, bucket string) Config {
	return Config{
		Endpoint: server.Endpoint, Plaintext: true, Bucket: bucket, Prefix: fmt.Sprintf("ledger-%d/", prefixes.Add(1)),
		AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey,
		KeyFile: filepath.Join(t.TempDir(), "audit.key"), Origin: "example.org/s3", chunkLen: 8, fan: 8,
	}
}

func openFor(t testing.TB, cfg Config) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func entry(i int) audit.Entry {
	return audit.Entry{AgentID: fmt.Sprintf("agent-%d", i%5), Action: "tool.execute", Result: audit.Success, Details: map[string]any{"i": i}}
}

func fill(t testing.TB, l audit.Backend, batches, each int) {
	t.Helper()
	for b := range batches {
		var es []audit.Entry
		for i := range each {
			es = append(es, entry(b*each+i))
		}
		if _, err := l.AppendBatch(t.Context(), es); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConformance(t *testing.T) {
	kaizentest.TestLedger(t, func(t *testing.T) func() (audit.Backend, error) {
		cfg := fresh(t)
		return func() (audit.Backend, error) { return Open(context.Background(), cfg) }
	})
}

// TestConformanceParts has chunks that are read in parts of a batch or two.
func TestConformanceParts(t *testing.T) {
	kaizentest.TestLedger(t, func(t *testing.T) func() (audit.Backend, error) {
		cfg := fresh(t)
		cfg.partBytes = 2000
		return func() (audit.Backend, error) { return Open(context.Background(), cfg) }
	})
}

func TestOutward(t *testing.T) {
	kaizentest.TestOutward(t, func(t *testing.T) func(audit.OutwardConfig) (audit.Backend, error) {
		cfg := fresh(t)
		return func(o audit.OutwardConfig) (audit.Backend, error) {
			cfg.Outward = o
			return Open(context.Background(), cfg)
		}
	})
}

// TestManyWriters has processes race for the same batches.
func TestManyWriters(t *testing.T) {
	cfg := fresh(t)
	race(t, cfg, nil)
}

// race appends from three ledgers at once and checks that every entry that was
// acknowledged is where its receipt says.
func race(t *testing.T, cfg Config, transport func() http.RoundTripper) {
	t.Helper()
	const writers, each = 3, 10
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[string]int64{}
	for w := range writers {
		c := cfg
		c.RetryFor = 5 * time.Minute // however slow the machine is
		if transport != nil {
			c.Transport = transport()
		}
		l, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for i := range each {
				rs, err := l.AppendBatch(t.Context(), []audit.Entry{entry(i), entry(i + 1)})
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					break
				}
				mu.Lock()
				for _, r := range rs {
					if r.Duplicate {
						t.Errorf("entry %s was taken for a repetition", r.ID)
					}
					acked[r.ID] = r.Index
				}
				mu.Unlock()
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l := openFor(t, cfg)
	if err := kaizentest.CheckLedger(t.Context(), l); err != nil {
		t.Error(err)
	}
	if n := l.Size(); n != int64(len(acked)) || len(acked) != writers*each*2 {
		t.Errorf("%d entries, %d acknowledged, want %d", n, len(acked), writers*each*2)
	}
	for e, err := range l.Query(t.Context(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := acked[e.ID]; !ok || at != e.Index {
			t.Errorf("entry %s is at %d, acknowledged at %d (%t)", e.ID, e.Index, at, ok)
		}
	}
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Error(err)
	}
}

// faulty is a transport that misbehaves in turn: a request that is lost, one
// whose answer is lost after it was carried out, a 409, a 503.
type faulty struct {
	n     atomic.Int64
	every int64
	seen  [4]atomic.Int64
	owed  atomic.Bool // a 409 was due to a request that cannot get one: the next PUT does
}

var errLost = errors.New("connection reset")

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	n := f.n.Add(1)
	kind := n / f.every % 4
	switch {
	case r.Method == http.MethodPut && f.owed.CompareAndSwap(true, false):
		kind = 2
	case n%f.every != 0:
		return http.DefaultTransport.RoundTrip(r)
	case kind == 2 && r.Method != http.MethodPut:
		f.owed.Store(true)
		kind = 3
	}
	f.seen[kind].Add(1)
	switch kind {
	case 0:
		return nil, errLost
	case 1: // done, and nobody heard
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			err = resp.Body.Close()
		}
		return nil, errors.Join(errLost, err)
	case 2:
		return answer(r, http.StatusConflict, "ConditionalRequestConflict"), nil
	default:
		return answer(r, http.StatusServiceUnavailable, "SlowDown"), nil
	}
}

func answer(r *http.Request, code int, name string) *http.Response {
	body := "<Error><Code>" + name + "</Code><Message>injected</Message></Error>"
	return &http.Response{
		StatusCode: code, Status: fmt.Sprintf("%d %s", code, name), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Request: r,
	}
}

func TestFaults(t *testing.T) {
	for _, every := range []int64{3, 4, 7} {
		cfg := fresh(t)
		t.Run(fmt.Sprintf("every %d", every), func(t *testing.T) {
			t.Parallel() // it waits, mostly
			var all []*faulty
			race(t, cfg, func() http.RoundTripper {
				f := &faulty{every: every}
				all = append(all, f)
				return f
			})
			for kind, name := range []string{"lost", "carried out, answer lost", "409", "503"} {
				n := int64(0)
				for _, f := range all {
					n += f.seen[kind].Load()
				}
				if n == 0 {
					t.Errorf("no request was %s", name)
				}
			}
		})
	}
}

// down is a store that carries out what it gets, and answers nothing.
type down struct{ on atomic.Bool }

func (d *down) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if !d.on.Load() {
		return resp, err
	}
	if err == nil {
		err = resp.Body.Close()
	}
	return nil, errors.Join(errLost, err)
}

// TestUnconfirmed repeats an append whose outcome nobody knew.
func TestUnconfirmed(t *testing.T) {
	cfg := fresh(t)
	d := &down{}
	cfg.Transport, cfg.RetryFor = d, 200*time.Millisecond
	l := openFor(t, cfg)
	e := entry(1)
	e.ID = "01HZY3V9T5XKQ2M4N6P8R0S1T2"
	d.on.Store(true)
	if _, err := l.Append(t.Context(), e); !errors.Is(err, audit.ErrUnconfirmed) {
		t.Fatalf("Append = %v, want ErrUnconfirmed", err)
	}
	d.on.Store(false)
	r, err := l.Append(t.Context(), e)
	if err != nil || r.Index != 0 {
		t.Errorf("repeated: %+v, %v, want index 0", r, err)
	}
	if err := kaizentest.CheckLedger(t.Context(), l); err != nil || l.Size() != 1 {
		t.Errorf("%d entries, %v", l.Size(), err)
	}
}

// staleList leaves out of every listing what was stored since it was made.
type staleList struct{}

func (staleList) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2" {
		empty := `<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>`
		resp := answer(r, http.StatusOK, "")
		resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(empty)), int64(len(empty))
		return resp, nil
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestStaleListings(t *testing.T) {
	cfg := fresh(t)
	fill(t, openFor(t, cfg), 11, 2)
	cfg.Transport = staleList{}
	l := openFor(t, cfg)
	if l.Size() != 22 {
		t.Errorf("with stale listings %d entries, want 22", l.Size())
	}
	fill(t, l, 2, 2)
	if err := kaizentest.CheckLedger(t.Context(), l); err != nil {
		t.Error(err)
	}
}

// TestTamper changes objects as the bucket's administrator can.
func TestTamper(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t, true) // with versions, without a lock on the objects
	client := server.Client(t)
	ctx := t.Context()
	for _, tt := range []struct {
		name   string
		change func(cfg Config) error
		path   string
	}{
		{"a line", func(cfg Config) error {
			return edit(ctx, client, cfg, numbered(batchPrefix, 5), "tool.execute", "tool.Execute")
		}, numbered(batchPrefix, 5)},
		{"a note", func(cfg Config) error { return edit(ctx, client, cfg, numbered(batchPrefix, 5), `\n12\n`, `\n13\n`) }, numbered(batchPrefix, 5)},
		{"a removed batch", func(cfg Config) error { return remove(ctx, client, cfg, numbered(batchPrefix, 5)) }, numbered(batchPrefix, 5)},
		{"the last batch removed", func(cfg Config) error { return remove(ctx, client, cfg, numbered(batchPrefix, 19)) }, ""},
		{"a batch copied over another", func(cfg Config) error {
			return copyOver(ctx, client, cfg, numbered(batchPrefix, 4), numbered(batchPrefix, 5))
		}, numbered(batchPrefix, 5)},
		{"a batch replaced by itself", func(cfg Config) error {
			return copyOver(ctx, client, cfg, numbered(batchPrefix, 5), numbered(batchPrefix, 5))
		}, numbered(batchPrefix, 5)},
		{"a chunk", func(cfg Config) error {
			return edit(ctx, client, cfg, numbered(chunkPrefix, 1), "tool.execute", "tool.Execute")
		}, numbered(chunkPrefix, 1)},
		{"a state", func(cfg Config) error {
			return edit(ctx, client, cfg, numbered(statePrefix, 1), `"oldest":1`, `"oldest":2`)
		}, numbered(statePrefix, 1)},
		{"the seal of a state", func(cfg Config) error {
			return edit(ctx, client, cfg, numbered(statePrefix, 2), "derived state 2", "derived state 3")
		}, numbered(statePrefix, 2)},
		{"a state under another name", func(cfg Config) error {
			return copyOver(ctx, client, cfg, numbered(statePrefix, 1), numbered(statePrefix, 2))
		}, numbered(statePrefix, 2)},
		{"a checkpoint", func(cfg Config) error { return edit(ctx, client, cfg, numbered(checkpointPrefix, 2), "\n2\n", "\n3\n") }, numbered(checkpointPrefix, 2)},
		{"ledger.json removed", func(cfg Config) error { return remove(ctx, client, cfg, ledgerName) }, ledgerName},
		{"a removed checkpoint", func(cfg Config) error { return remove(ctx, client, cfg, numbered(checkpointPrefix, 2)) }, numbered(checkpointPrefix, 2)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := configOf(t, server, bucket)
			l, err := Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			fill(t, l, 20, 2)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openFor(t, cfg)
			if _, err := l.Verify(ctx, audit.VerifyConfig{}); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			if err := tt.change(cfg); err != nil {
				t.Fatal(err)
			}
			_, err = l.Verify(ctx, audit.VerifyConfig{})
			tamper, ok := errors.AsType[*audit.TamperError](err)
			if !ok || tt.path != "" && tamper.Path != tt.path {
				t.Errorf("Verify = %v, want a *TamperError at %s", err, tt.path)
			}
		})
	}
}

func edit(ctx context.Context, c *minio.Client, cfg Config, name, old, with string) error {
	o, err := c.GetObject(ctx, cfg.Bucket, cfg.Prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	b, err := io.ReadAll(o)
	if err != nil {
		return err
	}
	changed := bytes.Replace(b, []byte(old), []byte(with), 1)
	if bytes.Equal(changed, b) {
		return fmt.Errorf("%s has no %q: %s", name, old, b)
	}
	return store(ctx, c, cfg, name, changed)
}

func store(ctx context.Context, c *minio.Client, cfg Config, name string, b []byte) error {
	_, err := c.PutObject(ctx, cfg.Bucket, cfg.Prefix+name, bytes.NewReader(b), int64(len(b)), minio.PutObjectOptions{})
	return err
}

func copyOver(ctx context.Context, c *minio.Client, cfg Config, from, to string) error {
	o, err := c.GetObject(ctx, cfg.Bucket, cfg.Prefix+from, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	b, err := io.ReadAll(o)
	if err != nil {
		return err
	}
	return store(ctx, c, cfg, to, b)
}

// remove leaves a delete marker, as removing without a version does.
func remove(ctx context.Context, c *minio.Client, cfg Config, name string) error {
	return c.RemoveObject(ctx, cfg.Bucket, cfg.Prefix+name, minio.RemoveObjectOptions{})
}

// TestLock checks that the store refuses to remove locked objects for good.
func TestLock(t *testing.T) {
	server := s3test.Start(t)
	cfg := configOf(t, server, server.Bucket(t, true))
	cfg.Retain, cfg.LegalHold = time.Hour, true
	l := openFor(t, cfg)
	fill(t, l, 2, 1)
	client := server.Client(t)
	name := cfg.Prefix + numbered(batchPrefix, 0)
	info, err := client.StatObject(t.Context(), cfg.Bucket, name, minio.StatObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = client.RemoveObject(t.Context(), cfg.Bucket, name, minio.RemoveObjectOptions{VersionID: info.VersionID})
	if err == nil {
		t.Error("a locked batch could be removed")
	}
	mode, until, err := client.GetObjectRetention(t.Context(), cfg.Bucket, name, info.VersionID)
	if err != nil || *mode != minio.Compliance || time.Until(*until) < 50*time.Minute {
		t.Errorf("retention %v until %v (%v), want COMPLIANCE for an hour", mode, until, err)
	}
	hold, err := client.GetObjectLegalHold(t.Context(), cfg.Bucket, name, minio.GetObjectLegalHoldOptions{})
	if err != nil || *hold != minio.LegalHoldEnabled {
		t.Errorf("legal hold %v (%v), want ON", hold, err)
	}
	plain := fresh(t)
	plain.Retain = time.Hour
	if _, err := Open(t.Context(), plain); err == nil {
		t.Error("Open took a bucket without object lock")
	}
}

func TestAnchor(t *testing.T) {
	server := s3test.Start(t)
	cfg := configOf(t, server, server.Bucket(t, true))
	cfg.Retain = time.Hour
	a, err := OpenAnchor(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(filepath.Join(t.TempDir(), "audit"), audit.Config{Origin: "example.org/anchored"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var want []string
	for i := range 3 {
		if _, err := l.Append(t.Context(), entry(i)); err != nil {
			t.Fatal(err)
		}
		c := l.Checkpoint()
		want = append(want, c.Note)
		for range 2 { // the same again is no error
			if err := a.Anchor(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := a.Checkpoints(t.Context(), l.Origin())
	if err != nil || strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("anchored %q (%v), want %q", got, err, want)
	}
	fork := l.Checkpoint()
	fork.Note = strings.Replace(fork.Note, "\n3\n", "\n3\nA", 1)
	if _, ok := errors.AsType[*audit.TamperError](a.Anchor(t.Context(), fork)); !ok {
		t.Error("a fork was anchored")
	}
}

func TestMove(t *testing.T) {
	cfg := fresh(t)
	dir := t.TempDir()
	cfg.KeyFile = filepath.Join(dir, "keys", "audit.key")
	files, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{Origin: cfg.Origin})
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	fill(t, files, 5, 700)
	proof, err := files.Proof(77)
	if err != nil {
		t.Fatal(err)
	}
	l := openFor(t, cfg)
	if err := audit.Copy(t.Context(), l, files, nil); err != nil {
		t.Fatal(err)
	}
	held := files.Checkpoint()
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{Checkpoint: []byte(held.Note)}); err != nil {
		t.Error(err)
	}
	if err := proof.Check(l.VerifierKey()); err != nil {
		t.Error(err)
	}
	other := cfg
	other.KeyFile = filepath.Join(t.TempDir(), "audit.key")
	if _, err := Open(t.Context(), other); !errors.Is(err, ErrKey) {
		t.Errorf("Open with another key = %v, want ErrKey", err)
	}
}

func FuzzCutBatch(f *testing.F) {
	f.Add([]byte("{\"batch\":0,\"base\":0,\"count\":1,\"bytes\":3,\"note\":\"x\"}\n{}\nrest"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, lines, rest, err := cutBatch(b)
		if err != nil {
			return
		}
		if int64(len(lines)) != h.Bytes || int64(bytes.Count(lines, []byte("\n"))) != h.Count || !bytes.HasSuffix(b, append(lines, rest...)) {
			t.Fatalf("cut %q into %+v, %q, %q", b, h, lines, rest)
		}
	})
}
