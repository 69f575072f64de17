package audit

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReaderFollows(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := mustOpen(t, dir, small())
	appendN(t, l, 0, 10)
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Size() != 0 {
		t.Errorf("size %d before anything is published, want 0", r.Size())
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for n := 10; n < 400; {
		to := n + rnd.IntN(40)
		appendN(t, l, n, to)
		n = to
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		old := r.Size()
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.Size() != int64(n) || r.Checkpoint() != l.Checkpoint() {
			t.Fatalf("after Refresh size %d, want %d", r.Size(), n)
		}
		for _, i := range []int64{0, old - 1, old, r.Size() - 1} {
			if i < 0 || i >= r.Size() {
				continue
			}
			a, errA := r.Get(t.Context(), i)
			b, errB := l.Get(t.Context(), i)
			if errA != nil || errB != nil || cmp.Diff(a, b) != "" {
				t.Fatalf("entry %d: reader %v, %v; ledger %v, %v", i, a, errA, b, errB)
			}
			p, err := r.Proof(i)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(r.VerifierKey()); err != nil {
				t.Fatal(err)
			}
		}
	}
	appendN(t, l, 1000, 1010) // not published: the reader stays where it is
	if err := r.Refresh(t.Context()); err != nil || r.Size() != l.Size()-10 {
		t.Errorf("Refresh without a new checkpoint: size %d, %v", r.Size(), err)
	}
	if e, err := r.Get(t.Context(), r.Size()-1); err != nil || e.Index != r.Size()-1 {
		t.Errorf("Get of the last entry = %v, %v", e, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Refresh after Close = %v, want ErrClosed", err)
	}
}

// TestVerifyBesideWriter verifies and reads again and again while a ledger
// appends, publishes, rotates and goes round its ring as fast as it can.
func TestVerifyBesideWriter(t *testing.T) {
	dir := t.TempDir() + "/audit"
	cfg := small()
	cfg.publishEvery = time.Millisecond
	stop := make(chan struct{})
	var wg sync.WaitGroup
	l := mustOpen(t, dir, cfg)
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if n%300 == 299 { // a clean close, and open again
				if err := l.Close(); err != nil {
					t.Error(err)
					return
				}
				var err error
				if l, err = Open(dir, cfg); err != nil {
					t.Error(err)
					return
				}
			}
			if _, err := l.Append(context.Background(), numbered(n)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var held []byte
	for range 60 {
		r, err := Verify(t.Context(), dir, VerifyConfig{Checkpoint: held})
		if err != nil {
			t.Error(err)
			break
		}
		held = []byte(r.Checkpoint.Note)
		rd, err := OpenReader(dir)
		if err != nil {
			t.Error(err)
			break
		}
		if rd.Size() < r.Entries {
			t.Errorf("a reader opened after Verify has %d entries, Verify had %d", rd.Size(), r.Entries)
		}
		rd.Close()
	}
	close(stop)
	wg.Wait()
	size := l.Size()
	mustClose(t, l)
	checkClean(t, dir, size)
}
