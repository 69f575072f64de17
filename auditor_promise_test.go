package kaizen_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/audit"
)

// TestPromiseIsKept: when a promise is kept, the entry is in the ledger under its receipt.
func TestPromiseIsKept(t *testing.T) {
	o := observe(t, kaizen.Config{})
	ledger := o.obs.Audit().Ledger()
	var promises []*kaizen.Promise
	for i := range 50 {
		promises = append(promises, o.obs.Audit().Promise(kaizen.WithRun(t.Context(), testRun), audit.Entry{
			Action: fmt.Sprint("step-", i), Result: audit.Success,
		}))
	}
	for i, p := range promises {
		r, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e, err := ledger.Get(t.Context(), r.Index)
		if err != nil || e.Action != fmt.Sprint("step-", i) || e.RunID != testRun.RunID {
			t.Errorf("entry %d = %+v, %v", r.Index, e, err)
		}
		<-p.Done()
	}
}

// TestPromiseIsBroken: what cannot become durable says so, and is counted.
func TestPromiseIsBroken(t *testing.T) {
	entry := audit.Entry{Action: "step", Result: audit.Success}
	t.Run("a bad entry among good ones", func(t *testing.T) {
		o := observe(t, kaizen.Config{})
		good := o.obs.Audit().Promise(t.Context(), entry)
		bad := o.obs.Audit().Promise(t.Context(), audit.Entry{Action: "step", Result: "no result"})
		also := o.obs.Audit().Promise(t.Context(), entry)
		_, err := bad.Wait(t.Context())
		if _, ok := errors.AsType[*audit.EntryError](err); !ok {
			t.Errorf("bad entry: %v", err)
		}
		for _, p := range []*kaizen.Promise{good, also} {
			if _, err := p.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if n := o.obs.Health().AuditDropped; n != 1 {
			t.Errorf("%d counted as lost, want 1", n)
		}
	})
	t.Run("after the end", func(t *testing.T) {
		o := observe(t, kaizen.Config{})
		if err := o.obs.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := o.obs.Audit().Promise(t.Context(), entry).Wait(t.Context()); err == nil {
			t.Error("no error")
		}
	})
	t.Run("no ledger", func(t *testing.T) {
		o := observe(t, kaizen.Config{Off: kaizen.Audit})
		if _, err := o.obs.Audit().Promise(t.Context(), entry).Wait(t.Context()); !errors.Is(err, kaizen.ErrNoLedger) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("a server that refuses, and one that never answers", func(t *testing.T) {
		asked, release := make(chan struct{}, 2), make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/api/audit" {
				return
			}
			asked <- struct{}{}
			if len(asked) > 1 {
				<-release
			}
			http.Error(w, "no", http.StatusForbidden)
		}))
		defer server.Close()
		defer close(release)
		t.Setenv("KAIZEN_SERVER", "")
		obs, err := kaizen.Start(t.Context(), kaizen.Config{Server: server.URL, LogWriter: io.Discard, SpoolDir: kaizen.NoSpool, Off: kaizen.Metrics | kaizen.Traces})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := obs.Audit().Promise(t.Context(), entry).Wait(t.Context()); err == nil {
			t.Error("no error of a server that refuses")
		}
		p := obs.Audit().Promise(t.Context(), entry)
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Wait(done); !errors.Is(err, audit.ErrUnconfirmed) {
			t.Errorf("a wait that ends: %v", err)
		}
		_ = obs.Shutdown(done) // does not wait beyond its context
		if _, err := p.Wait(t.Context()); err == nil {
			t.Error("no error of a server that never answers")
		}
	})
}

func ExampleAuditor_Promise() {
	dir, err := os.MkdirTemp("", "kaizen-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	obs, err := kaizen.Start(ctx, kaizen.Config{AuditDir: filepath.Join(dir, "audit"), LogWriter: io.Discard})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer obs.Shutdown(ctx)

	promise := obs.Audit().Promise(ctx, audit.Entry{Action: "payment", Result: audit.Success})
	// The agent goes on, and asks for the receipt when it has to be sure.
	receipt, err := promise.Wait(ctx)
	fmt.Println(receipt.Index, err)
	// Output: 0 <nil>
}
