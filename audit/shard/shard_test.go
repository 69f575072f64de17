package shard_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/shard"
)

func ledger(t *testing.T, dir, name string) *audit.Ledger {
	t.Helper()
	l, err := audit.Open(filepath.Join(dir, name), audit.Config{Origin: "example.org/" + name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // some tests close it themselves
	return l
}

// set makes a set of three shards, with their checkpoints recorded on demand.
func set(t *testing.T) (*shard.Set, *audit.Ledger, []audit.Backend) {
	t.Helper()
	dir := t.TempDir()
	super := ledger(t, dir, "super")
	var shards []audit.Backend
	for i := range 3 {
		shards = append(shards, ledger(t, dir, fmt.Sprintf("shard-%d", i)))
	}
	s, err := shard.New(t.Context(), shard.Config{Super: super, Shards: shards, Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s, super, shards
}

var t0 = time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC)

func entries(n int) []audit.Entry {
	es := make([]audit.Entry, n)
	for i := range es {
		es[i] = audit.Entry{AgentID: fmt.Sprintf("agent-%d", i%10), Action: "x", Result: audit.Success, Time: t0.Add(time.Duration(i) * time.Second)}
	}
	return es
}

func TestSet(t *testing.T) {
	s, super, shards := set(t)
	es := entries(300)
	receipts, err := s.AppendBatch(t.Context(), es)
	if err != nil {
		t.Fatal(err)
	}
	used := map[int]int{}
	for i, r := range receipts {
		if r.Shard != s.Of(es[i].AgentID) {
			t.Errorf("entry of %s went to shard %d", es[i].AgentID, r.Shard)
		}
		used[r.Shard]++
	}
	if len(used) != 3 {
		t.Errorf("300 entries of 10 agents are in %d shards", len(used))
	}
	if _, err := s.Prove(t.Context(), receipts[0].Shard, receipts[0].Index); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("Prove before Record = %v, want ErrNotFound", err)
	}
	for range 2 { // the second time there is nothing new
		if err := s.Record(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := super.Size(); n != 3 {
		t.Errorf("the super-ledger has %d entries, want one for each shard", n)
	}
	more, err := s.AppendBatch(t.Context(), entries(50))
	if err != nil {
		t.Fatal(err)
	}
	// The proofs of the first ones lead over checkpoints of two sizes.
	for _, r := range receipts[:40] {
		p, err := s.Prove(t.Context(), r.Shard, r.Index)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(super.VerifierKey()); err != nil {
			t.Error(err)
		}
		other := p
		other.Entry.Index++
		if err := other.Check(super.VerifierKey()); err == nil {
			t.Error("a proof of another index is taken")
		}
		other = p
		other.Consistency = nil
		if err := other.Check(super.VerifierKey()); err == nil {
			t.Error("a proof without consistency is taken")
		}
		if err := p.Check(shards[0].VerifierKey()); err == nil {
			t.Error("a proof under another key is taken")
		}
	}
	if err := s.Record(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prove(t.Context(), more[0].Shard, more[0].Index); err != nil {
		t.Error(err)
	}
	if err := shard.Verify(t.Context(), super, sources(shards)...); err != nil {
		t.Error(err)
	}
	if err := shard.Verify(t.Context(), super, sources(shards[:2])...); !errors.Is(err, shard.ErrFork) {
		t.Errorf("Verify without a shard = %v, want ErrFork", err)
	}
}

func sources(bs []audit.Backend) (out []audit.Source) {
	for _, b := range bs {
		out = append(out, b)
	}
	return out
}

func TestQuery(t *testing.T) {
	s, _, _ := set(t)
	if _, err := s.AppendBatch(t.Context(), entries(120)); err != nil {
		t.Fatal(err)
	}
	times := func(q audit.Query) (out []int) {
		for e, err := range s.Query(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Shard != s.Of(e.AgentID) {
				t.Errorf("entry of %s comes from shard %d", e.AgentID, e.Shard)
			}
			out = append(out, int(e.Time.Sub(t0)/time.Second))
		}
		return out
	}
	all := times(audit.Query{})
	for i, at := range all {
		if at != i {
			t.Fatalf("entry %d of the answer is of second %d", i, at)
		}
	}
	if len(all) != 120 {
		t.Errorf("%d entries, want 120", len(all))
	}
	if got := fmt.Sprint(times(audit.Query{Descending: true, Limit: 3})); got != "[119 118 117]" {
		t.Errorf("the newest three are of %s", got)
	}
	if got := len(times(audit.Query{AgentID: "agent-3"})); got != 12 {
		t.Errorf("%d entries of an agent, want 12", got)
	}
	for _, tt := range []struct {
		q    audit.Query
		want int64
	}{{audit.Query{}, 120}, {audit.Query{AgentID: "agent-3"}, 12}, {audit.Query{Since: t0.Add(100 * time.Second)}, 20}} {
		if n, err := s.Count(t.Context(), tt.q); err != nil || n != tt.want {
			t.Errorf("Count(%+v) = %d (%v), want %d", tt.q, n, err, tt.want)
		}
	}
}

// TestForkedShard puts a shard back to an older state, and lets it go on.
func TestForkedShard(t *testing.T) {
	dir := t.TempDir()
	super, one := ledger(t, dir, "super"), ledger(t, dir, "one")
	s, err := shard.New(t.Context(), shard.Config{Super: super, Shards: []audit.Backend{one}, Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	add := func(l audit.Backend, n int) {
		t.Helper()
		if _, err := l.AppendBatch(t.Context(), entries(n)); err != nil {
			t.Fatal(err)
		}
	}
	add(one, 5)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "two"), os.DirFS(filepath.Join(dir, "one"))); err != nil {
		t.Fatal(err)
	}
	reopen := func(name string) *audit.Ledger {
		t.Helper()
		l, err := audit.Open(filepath.Join(dir, name), audit.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	if err := os.Link(filepath.Join(dir, "keys", "one.key"), filepath.Join(dir, "keys", "two.key")); err != nil {
		t.Fatal(err)
	}
	one = reopen("one")
	add(one, 7)
	if err := s.Close(t.Context()); err == nil {
		t.Error("a shard that was closed under the set could be recorded")
	}
	s, err = shard.New(t.Context(), shard.Config{Super: super, Shards: []audit.Backend{one}, Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	two := reopen("two")
	again := func() error {
		_, err := shard.New(t.Context(), shard.Config{Super: super, Shards: []audit.Backend{two}})
		return err
	}
	if err := again(); !errors.Is(err, shard.ErrFork) {
		t.Errorf("New with a shard that was rolled back = %v, want ErrFork", err)
	}
	if err := shard.Verify(t.Context(), super, two); !errors.Is(err, shard.ErrFork) {
		t.Errorf("Verify of a shard that was rolled back = %v, want ErrFork", err)
	}
	add(two, 20)
	if err := again(); !errors.Is(err, shard.ErrFork) {
		t.Errorf("New with a forked shard = %v, want ErrFork", err)
	}
	if err := shard.Verify(t.Context(), super, two); !errors.Is(err, shard.ErrFork) {
		t.Errorf("Verify of a forked shard = %v, want ErrFork", err)
	}
	if err := shard.Verify(t.Context(), super, one); err != nil {
		t.Error(err)
	}
	// Over the network it is the same.
	r, err := shard.NewRecorder(t.Context(), super)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(shard.Handler(r, super))
	defer server.Close()
	if _, err := (&shard.Client{URL: server.URL}).Send(t.Context(), two); !errors.Is(err, shard.ErrFork) {
		t.Errorf("Send of a forked shard = %v, want ErrFork", err)
	}
}

// TestClient sends the checkpoints of a growing ledger to a server.
func TestClient(t *testing.T) {
	dir := t.TempDir()
	super, own := ledger(t, dir, "super"), ledger(t, dir, "own")
	r, err := shard.NewRecorder(t.Context(), super)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(shard.Handler(r, super))
	defer server.Close()
	c := &shard.Client{URL: server.URL}
	for i := range 5 {
		if _, err := own.AppendBatch(t.Context(), entries(10)); err != nil {
			t.Fatal(err)
		}
		got, err := c.Send(t.Context(), own)
		if err != nil {
			t.Fatal(err)
		}
		if got.Index != int64(i) || got.Size != int64(10*(i+1)) || got.Origin != own.Origin() {
			t.Errorf("recorded %+v, want entry %d about %d entries", got, i, 10*(i+1))
		}
		head, err := audit.ParseCheckpoint([]byte(got.Checkpoint), super.VerifierKey())
		if err != nil || head.Size <= got.Index {
			t.Errorf("the answer's checkpoint is of %d entries (%v)", head.Size, err)
		}
		if again, err := c.Send(t.Context(), own); err != nil || again.Index != -1 {
			t.Errorf("sent again: %+v, %v, want index -1", again, err)
		}
	}
	// A recorder that starts anew knows what was recorded.
	if r, err = shard.NewRecorder(t.Context(), super); err != nil {
		t.Fatal(err)
	}
	if head, key, ok := r.Last(own.Origin()); !ok || head.Size != 50 || key != own.VerifierKey() {
		t.Errorf("on record: %d entries under %s (%t)", head.Size, key, ok)
	}
	if err := shard.Verify(t.Context(), super, own); err != nil {
		t.Error(err)
	}
}

func TestRecorderRefuses(t *testing.T) {
	dir := t.TempDir()
	super, own := ledger(t, dir, "super"), ledger(t, dir, "own")
	impostor, err := audit.Open(filepath.Join(t.TempDir(), "own"), audit.Config{Origin: own.Origin()})
	if err != nil {
		t.Fatal(err)
	}
	defer impostor.Close()
	for _, l := range []*audit.Ledger{own, impostor} {
		if _, err := l.AppendBatch(t.Context(), entries(4)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := shard.NewRecorder(t.Context(), super)
	if err != nil {
		t.Fatal(err)
	}
	good := shard.Submission{Key: own.VerifierKey(), Note: own.Checkpoint().Note}
	if _, err := r.Record(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if _, err := own.AppendBatch(t.Context(), entries(4)); err != nil {
		t.Fatal(err)
	}
	note := own.Checkpoint().Note
	proof, err := own.Consistency(4, 8)
	if err != nil {
		t.Fatal(err)
	}
	broken := append([][32]byte(nil), proof...)
	broken[0][0] ^= 1
	for _, tt := range []struct {
		name string
		s    shard.Submission
		want error
	}{
		{"another key of the origin", shard.Submission{Key: impostor.VerifierKey(), Note: impostor.Checkpoint().Note}, shard.ErrKey},
		{"a note of another key", shard.Submission{Key: own.VerifierKey(), Note: impostor.Checkpoint().Note}, shard.ErrSignature},
		{"a changed note", shard.Submission{Key: own.VerifierKey(), Note: strings.Replace(note, "\n8\n", "\n9\n", 1)}, shard.ErrSignature},
		{"a key that is none", shard.Submission{Key: "x", Note: note}, shard.ErrSignature},
		{"from elsewhere", shard.Submission{Key: own.VerifierKey(), Note: note, From: 3}, shard.ErrStale},
		{"without proof", shard.Submission{Key: own.VerifierKey(), Note: note, From: 4}, shard.ErrFork},
		{"with a broken proof", shard.Submission{Key: own.VerifierKey(), Note: note, From: 4, Consistency: broken}, shard.ErrFork},
	} {
		if _, err := r.Record(t.Context(), tt.s); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if n := super.Size(); n != 1 {
		t.Errorf("%d entries were recorded, want 1", n)
	}
	if _, err := super.Append(t.Context(), audit.Entry{AgentID: "kaizen", Action: audit.ShardAction, Result: audit.Success}); err == nil {
		t.Error("a caller can append an entry about a shard")
	}
}

func FuzzSubmission(f *testing.F) {
	f.Add([]byte(`{"key":"k","note":"n","from":3,"consistency":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again shard.Submission
		if s.UnmarshalJSON(b) != nil {
			return
		}
		text, err := s.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalJSON(text); err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
			t.Fatalf("%+v came back as %+v (%v)", s, again, err)
		}
	})
}

// A shard changes its key: what both keys have signed takes the record over to
// the new one, and what the new key alone has signed does not.
func TestRotateShard(t *testing.T) {
	s, super, shards := set(t)
	receipts, err := s.AppendBatch(t.Context(), entries(30))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Record(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, vkey, err := shards[0].RotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := shard.NewRecorder(t.Context(), super)
	if err != nil {
		t.Fatal(err)
	}
	head := shards[0].Checkpoint()
	last, key, _ := recorder.Last(shards[0].Origin())
	if key != old {
		t.Fatalf("on record is the key %s, want %s", key, old)
	}
	proof, err := shards[0].Consistency(last.Size, head.Size)
	if err != nil {
		t.Fatal(err)
	}
	alone := head.Note[:strings.LastIndex(strings.TrimSuffix(head.Note, "\n"), "\n")+1]
	if _, err := recorder.Record(t.Context(), shard.Submission{Key: vkey, Note: alone, From: last.Size, Consistency: proof}); !errors.Is(err, shard.ErrKey) {
		t.Errorf("Record of what the new key alone has signed = %v, want ErrKey", err)
	}
	if _, err := s.AppendBatch(t.Context(), entries(30)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Record(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if recorder, err = shard.NewRecorder(t.Context(), super); err != nil {
		t.Fatal(err)
	}
	if _, key, _ := recorder.Last(shards[0].Origin()); key != vkey {
		t.Errorf("on record is the key %s, want %s", key, vkey)
	}
	for _, r := range receipts {
		if _, err := s.Prove(t.Context(), r.Shard, r.Index); err != nil {
			t.Errorf("Prove(%d, %d) = %v", r.Shard, r.Index, err)
		}
	}
}
