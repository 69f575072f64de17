package kaizen_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/audit"
)

type cosigner struct{ err error }

func (c cosigner) Cosign(_ context.Context, cp audit.Checkpoint, _ func(from int64) ([][32]byte, error)) (string, error) {
	return cp.Note, c.err
}

// Anchors and witness of the program's own ledger get its last checkpoint when
// it ends, and how they answered is counted.
func TestAnchorsOfTheSDK(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "kept")
	registry := prometheus.NewRegistry()
	o, err := kaizen.Start(t.Context(), kaizen.Config{
		AuditDir: filepath.Join(dir, "audit"), Registry: registry,
		AuditAnchors: []audit.Anchor{
			&audit.FileAnchor{Path: file},
			audit.AnchorFunc(func(context.Context, audit.Checkpoint) error { return errors.New("away") }),
		},
		AuditWitness: cosigner{errors.New("unwilling")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Audit().Record(t.Context(), audit.Entry{AgentID: "a", Action: "x", Result: audit.Success}); err != nil {
		t.Fatal(err)
	}
	if err := o.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept, err := audit.ReadAnchors(file)
	if err != nil || len(kept) == 0 {
		t.Fatalf("kept is %+v, %v", kept, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			if m.Counter != nil {
				got[name] = m.Counter.GetValue()
			}
		}
	}
	for _, want := range []string{
		"kaizen_audit_anchors_total success file", "kaizen_audit_anchors_total failure other", "kaizen_audit_witnessings_total failure",
	} {
		if got[want] < 1 {
			t.Errorf("%s = %v, want 1 or more", want, got[want])
		}
	}
	if problems, err := testutil.GatherAndLint(registry, "kaizen_audit_anchors_total", "kaizen_audit_witnessings_total"); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
