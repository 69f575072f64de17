package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/kaizen-go/kaizen/audit"
)

// gauge notes the largest answer to a GET of a chunk and of a batch.
type gauge struct {
	mu   sync.Mutex // guards most
	most map[string]int64
}

func (g *gauge) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet || answer.StatusCode >= 300 {
		return answer, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, kind := range []string{chunkPrefix, batchPrefix} {
		if strings.Contains(r.URL.Path, "/"+kind) {
			g.most[kind] = max(g.most[kind], answer.ContentLength)
		}
	}
	return answer, nil
}

// large makes a ledger with a chunk of 8 batches of some 60 KB, and a few entries
// after it, and returns what it appended.
func large(t *testing.T, cfg Config) (ids []string) {
	t.Helper()
	l := openFor(t, cfg)
	for b := range 9 {
		es := make([]audit.Entry, 30)
		for i := range es {
			es[i] = entry(b*len(es) + i)
			es[i].Details = map[string]any{"text": strings.Repeat(fmt.Sprint(b%10), 2000)}
		}
		rs, err := l.AppendBatch(t.Context(), es)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			ids = append(ids, r.ID)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestParts reads a chunk of half a megabyte in parts of at most 150 KB: with the
// object of the chunk, and from the batches when that is gone.
func TestParts(t *testing.T) {
	const bound = 150_000
	cfg := fresh(t)
	ids := large(t, cfg)
	for _, gone := range []bool{false, true} {
		g := &gauge{most: map[string]int64{}}
		with := cfg
		with.partBytes, with.Transport = bound, g
		l := openFor(t, with)
		if gone {
			if err := l.bucket.client.RemoveObject(t.Context(), cfg.Bucket, cfg.Prefix+numbered(chunkPrefix, 0), minio.RemoveObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		refs := l.state.view().refs
		list, err := l.partsOf(t.Context(), &refs[0][0])
		if err != nil || len(list) != 4 {
			t.Fatalf("%d parts, %v, want 4", len(list), err)
		}
		for _, descending := range []bool{false, true} {
			want := len(ids) - 1
			for e, err := range l.Query(t.Context(), audit.Query{Descending: descending}) {
				if err != nil {
					t.Fatal(err)
				}
				index := int64(want)
				if !descending {
					index = int64(len(ids) - 1 - want)
				}
				if e.Index != index || e.ID != ids[index] || e.Details["text"].(string)[:1] != fmt.Sprint(index/30) {
					t.Fatalf("gone %t, descending %t: entry %d with id %s, want %d with %s", gone, descending, e.Index, e.ID, index, ids[index])
				}
				want--
			}
			if want != -1 {
				t.Errorf("gone %t, descending %t: %d entries were not found", gone, descending, want+1)
			}
		}
		for _, i := range []int64{0, 59, 60, 239, 240} {
			again := entry(0)
			again.ID = ids[i]
			if r, err := l.Append(t.Context(), again); err != nil || !r.Duplicate || r.Index != i {
				t.Errorf("gone %t: id of entry %d again: %+v, %v", gone, i, r, err)
			}
			if p, err := l.Proof(i); err != nil || p.Check(l.VerifierKey()) != nil {
				t.Errorf("gone %t: proof of entry %d: %v", gone, i, err)
			}
		}
		if most := g.most[chunkPrefix]; most > bound || gone == (most != 0) {
			t.Errorf("gone %t: %d bytes of a chunk were read at once, want at most %d", gone, most, bound)
		}
		if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
			t.Errorf("gone %t: Verify = %v", gone, err)
		}
		if most := g.most[batchPrefix]; most > bound {
			t.Errorf("gone %t: a batch has %d bytes", gone, most)
		}
	}
}

// TestPartsDamaged changes a byte in each part of a chunk, and cuts it: reading
// what is in that part says so, and the others are read.
func TestPartsDamaged(t *testing.T) {
	cfg := fresh(t)
	cfg.partBytes = 150_000
	large(t, cfg)
	whole := openFor(t, cfg)
	name := numbered(chunkPrefix, 0)
	good, err := whole.bucket.get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	refs := whole.state.view().refs
	list, err := whole.partsOf(t.Context(), &refs[0][0])
	if err != nil {
		t.Fatal(err)
	}
	store := func(body []byte) {
		t.Helper()
		if err := whole.bucket.put(context.Background(), name, body, func(*minio.PutObjectOptions) {}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range list {
		flipped := append([]byte(nil), good...)
		flipped[list[n].at+list[n].Stored/2] ^= 1
		for what, body := range map[string][]byte{"flipped": flipped, "cut": good[:list[n].at], "cut within": good[:list[n].at+9]} {
			if len(body) == 0 {
				continue // a store answers with an object of no bytes as it likes
			}
			store(body)
			l := openFor(t, cfg)
			for k := range list {
				_, err := l.Get(t.Context(), list[k].Base)
				damage, bad := errors.AsType[*audit.TamperError](err)
				want := k == n || what != "flipped" && k > n
				if bad != want || bad && damage.Path != name || !bad && err != nil {
					t.Errorf("part %d %s: Get in part %d = %v, want damage %t", n, what, k, err, want)
				}
			}
			if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err == nil {
				t.Errorf("part %d %s: Verify found nothing", n, what)
			}
		}
	}
	store(good)
}
