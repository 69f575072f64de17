package server

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/metrics"
)

// The checks find an intact ledger intact, in full and in part, and one whose
// file was changed underneath it not.
func TestAuditChecks(t *testing.T) {
	dir := t.TempDir()
	l, err := audit.Open(dir, audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it may refuse: the file is broken
	add := func(n int) {
		for range n {
			if _, err := l.Append(t.Context(), audit.Entry{AgentID: "a", Action: "tool_execute", Result: audit.Success, UserID: "u-1"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	add(5)
	m, err := metrics.New(metrics.Config{NoRuntime: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &auditChecker{ledger: l, dir: dir, metrics: m, logger: slog.New(slog.DiscardHandler)}
	now := time.Now()
	c.check(t.Context(), now)
	if c.fullAt.IsZero() || c.checked != 5 || len(c.held) == 0 {
		t.Errorf("after the full check: at %v, %d entries, checkpoint %q", c.fullAt, c.checked, c.held)
	}
	add(7)
	c.check(t.Context(), now.Add(time.Minute))
	if c.checked != 12 {
		t.Errorf("after the quick check %d entries are checked, want 12", c.checked)
	}
	counted := func(result string) float64 {
		return testutil.ToFloat64(pick{m, result})
	}
	if got := counted(checkIntact); got != 2 {
		t.Errorf("intact checks = %v, want 2", got)
	}
	damage(t, dir)
	c.check(t.Context(), now.Add(2*fullCheckEvery))
	if tamperedN, errorN := counted(checkTampered), counted(checkError); tamperedN != 1 || errorN != 0 {
		t.Errorf("after the file was changed: %v tampered, %v errors, want 1, 0", tamperedN, errorN)
	}
	if tampered(errors.New("read: permission denied")) {
		t.Error("an unreadable ledger counts as tampered")
	}
}

// damage changes one letter of a stored line.
func damage(t *testing.T, dir string) {
	t.Helper()
	var done bool
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || done {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if at := bytes.Index(b, []byte("tool_execute")); at >= 0 && filepath.Base(filepath.Dir(path)) == "seg" {
			b[at] = 'T'
			done = true
			return os.WriteFile(path, b, 0o600)
		}
		return nil
	})
	if err != nil || !done {
		t.Fatalf("damage: %v, %v", done, err)
	}
}

func TestActiveUsers(t *testing.T) {
	now := time.Now()
	u := &activeUsers{last: map[string]time.Time{}}
	u.saw("", now)
	u.saw("a", now.Add(-2*time.Hour))
	u.saw("b", now.Add(-30*time.Minute))
	u.saw("b", now.Add(-40*time.Minute))
	u.saw("c", now)
	if got := u.count(now); got != 2 {
		t.Errorf("active users = %d, want 2", got)
	}
	if got := u.count(now.Add(31 * time.Minute)); got != 1 {
		t.Errorf("half an hour later = %d, want 1", got)
	}
}

// pick is a collector of the checks with one result alone.
type pick struct {
	m      *metrics.Metrics
	result string
}

func (pick) Describe(chan<- *prometheus.Desc) {}

func (p pick) Collect(ch chan<- prometheus.Metric) {
	families, err := p.m.Gatherer().Gather()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("x", "x", nil, nil), err)
		return
	}
	n := 0.0
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "kaizen_audit_checks_total" && m.Label[0].GetValue() == p.result {
				n = m.Counter.GetValue()
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("x", "x", nil, nil), prometheus.GaugeValue, n)
}
