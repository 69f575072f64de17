package server

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/s3"
)

// Signed checkpoints go to a file and to a log collector, and /metrics says how
// both answered.
func TestAnchors(t *testing.T) {
	got := make(chan string, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		select {
		case got <- string(b):
		default:
		}
	}))
	defer collector.Close()
	cfg := testConfig(t)
	file := filepath.Join(t.TempDir(), "kept.jsonl")
	cfg.Audit.Outward = AuditOutwardConfig{
		Anchors: []string{file, filepath.Join(t.TempDir(), "no", "such", "directory")}, AnchorOTLP: collector.URL + "/v1/logs", AnchorEvery: 20 * time.Millisecond,
	}
	s := start(t, cfg)
	for range 2 { // when the second comes, the first has been counted
		code, _, text := call(t, "POST", s.UIURL()+"/api/audit", []byte(`{"agent_id":"a","action":"x","result":"success"}`), "Content-Type", "application/json")
		if code != 200 {
			t.Fatalf("append: %d %s", code, text)
		}
		if body := <-got; !strings.Contains(body, "kaizen.audit.checkpoint") {
			t.Errorf("the collector got %s", body)
		}
	}
	_, _, page := call(t, "GET", s.UIURL()+"/metrics", nil)
	for _, want := range []string{
		`kaizen_audit_anchors_total{result="success",target="otlp"} 1`, `kaizen_audit_anchors_total{result="success",target="file"} 1`,
	} {
		if !strings.Contains(page, want[:len(want)-1]) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if strings.Contains(page, `kaizen_audit_anchors_total{result="failure",target="file"} 0`) {
		t.Error("/metrics counts no failure of the file that cannot be made")
	}
	kept, err := audit.ReadAnchors(file)
	if err != nil || len(kept) == 0 {
		t.Errorf("kept in the file: %+v, %v", kept, err)
	}
}

func TestAnchorSettings(t *testing.T) {
	for name, c := range map[string]AuditConfig{
		"S3 without a bucket": {Outward: AuditOutwardConfig{AnchorS3: true}},
		"no URL":              {Outward: AuditOutwardConfig{AnchorOTLP: "collector:4318"}},
		"no PostgreSQL URL":   {Backend: AuditPostgres, DSN: "x", Outward: AuditOutwardConfig{AnchorOTLP: "collector:4318"}},
		"its own bucket":      {Backend: AuditS3, S3: s3.Config{Endpoint: "x", Bucket: "y"}, Outward: AuditOutwardConfig{AnchorS3: true}},
		"segments elsewhere":  {Backend: AuditPostgres, DSN: "x", Files: AuditFilesConfig{SegmentBytes: 1 << 20}},
	} {
		if _, err := (Config{Audit: c}).settle(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: settle = %v, want ErrConfig", name, err)
		}
	}
}
