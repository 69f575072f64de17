package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/server/internal/store"
	"github.com/kaizen-go/kaizen/server/internal/wal"
)

// What a part answers decides whether it counts as failed.
func TestFailuresShow(t *testing.T) {
	disk := errors.New("no space left on device")
	ledger := []struct {
		name           string
		err            error
		failed, counts bool
	}{
		{"bad entry", &audit.EntryError{Field: "action", Reason: "missing"}, false, false},
		{"closed", fmt.Errorf("audit: append: %w", audit.ErrClosed), false, false},
		{"caller gave up", fmt.Errorf("audit: append: %w", audit.ErrUnconfirmed), false, true},
		{"disk", fmt.Errorf("audit: append: %w: %w", audit.ErrFailed, disk), true, true},
	}
	for _, tt := range ledger {
		t.Run("ledger: "+tt.name, func(t *testing.T) {
			m, err := metrics.New(metrics.Config{NoRuntime: true})
			if err != nil {
				t.Fatal(err)
			}
			f := &failure{}
			watchedLedger{metrics: m, failed: f}.watch(tt.err)
			if got := f.check() != nil; got != tt.failed {
				t.Errorf("failed = %v, want %v", f.check(), tt.failed)
			}
			want := ""
			if tt.counts {
				want = "# HELP kaizen_audit_append_failures_total Audit entries that could not be made durable.\n" +
					"# TYPE kaizen_audit_append_failures_total counter\nkaizen_audit_append_failures_total 1\n"
			}
			if tt.counts {
				if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(want), "kaizen_audit_append_failures_total"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	telemetry := []struct {
		name   string
		err    error
		failed bool
	}{
		{"nothing", nil, false},
		{"full", store.ErrFull, false},
		{"disk", fmt.Errorf("store: append: %w: %w", wal.ErrBroken, disk), true},
	}
	for _, tt := range telemetry {
		t.Run("telemetry: "+tt.name, func(t *testing.T) {
			f := &failure{}
			watchedStore{failed: f}.watch(tt.err)
			if got := f.check() != nil; got != tt.failed {
				t.Errorf("failed = %v, want %v", f.check(), tt.failed)
			}
		})
	}
	f := &failure{}
	f.note(disk)
	f.note(errors.New("later"))
	if !errors.Is(f.check(), disk) {
		t.Errorf("failure = %v, want the first", f.check())
	}
}
