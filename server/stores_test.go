package server

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/s3"
	"github.com/kaizen-go/kaizen/server/internal/pgtest"
	"github.com/kaizen-go/kaizen/server/internal/s3test"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(thenS3{m})) }

type thenS3 struct{ m *testing.M }

func (w thenS3) Run() int { return s3test.Main(w.m) }

// stores are the places of a ledger, each for a server of its own.
func stores(t *testing.T) map[string]func(cfg *AuditConfig) {
	t.Helper()
	store := s3test.Start(t)
	bucket, dsn := store.Bucket(t, false), pgtest.DSN(t)
	n := 0
	return map[string]func(cfg *AuditConfig){
		AuditFiles: func(*AuditConfig) {},
		AuditPostgres: func(cfg *AuditConfig) {
			n++
			cfg.Backend, cfg.DSN, cfg.Schema = AuditPostgres, dsn, fmt.Sprintf("%s_%d", strings.ToLower(t.Name()), n)
		},
		AuditS3: func(cfg *AuditConfig) {
			n++
			cfg.Backend, cfg.S3 = AuditS3, bucketOf(store, bucket)
			cfg.S3.Prefix = fmt.Sprintf("%s-%d/", t.Name(), n)
		},
	}
}

func bucketOf(store *s3test.Server, bucket string) s3.Config {
	return s3.Config{Endpoint: store.Endpoint, Plaintext: true, Bucket: bucket, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey}
}

func appendOne(t *testing.T, s *Server) {
	t.Helper()
	code, _, text := call(t, http.MethodPost, s.UIURL()+"/api/audit", []byte(`{"agent_id":"a","action":"x","result":"success"}`), "Content-Type", "application/json")
	if code != http.StatusOK {
		t.Fatalf("append: %d %s", code, text)
	}
}

// Whatever keeps the ledger, its key can be changed while the server runs, and
// the metrics know its size and its oldest entry.
func TestEveryStore(t *testing.T) {
	for name, place := range stores(t) {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			place(&cfg.Audit)
			file := filepath.Join(t.TempDir(), "kept.jsonl")
			cfg.Audit.Outward.Anchors = []string{file}
			s := start(t, cfg)
			appendOne(t, s)
			code, _, text := call(t, http.MethodPost, s.UIURL()+"/api/audit/rotate-key", []byte(`{}`), "Content-Type", "application/json")
			if code != http.StatusOK || !strings.Contains(text, `"previous"`) {
				t.Fatalf("rotate-key: %d %s", code, text)
			}
			appendOne(t, s)
			if _, _, note := call(t, http.MethodGet, s.UIURL()+"/log/checkpoint", nil); strings.Count(note, "— ") != 2 || !strings.Contains(note, "\n3\n") {
				t.Errorf("the checkpoint after the change is\n%s", note)
			}
			_, _, page := call(t, http.MethodGet, s.UIURL()+"/metrics", nil)
			for _, bad := range []string{"kaizen_audit_ledger_bytes 0\n", "kaizen_audit_oldest_entry_timestamp_seconds NaN", `kaizen_server_store_bytes{place="disk",signal="audit"} 0`} {
				if strings.Contains(page, bad) {
					t.Errorf("/metrics says %s", bad)
				}
			}
			for _, want := range []string{"kaizen_audit_ledger_bytes ", "kaizen_audit_oldest_entry", "kaizen_audit_ledger_entries 3", `kaizen_audit_anchors_total{result="success",target="file"} `} {
				if !strings.Contains(page, want) {
					t.Errorf("/metrics has no %s", want)
				}
			}
			stop(t, s)
			kept, err := audit.ReadAnchors(file)
			if err != nil || len(kept) == 0 || !strings.Contains(kept[len(kept)-1].Note, "\n3\n") {
				t.Errorf("kept in the file: %+v, %v", kept, err)
			}
		})
	}
}

// TestAnchorS3 keeps checkpoints of ledgers elsewhere as locked objects in a
// bucket.
func TestAnchorS3(t *testing.T) {
	store := s3test.Start(t)
	bucket := store.Bucket(t, true)
	for name, place := range stores(t) {
		if name == AuditS3 {
			continue // it has a bucket of its own
		}
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			place(&cfg.Audit)
			cfg.Audit.S3 = bucketOf(store, bucket)
			cfg.Audit.S3.Prefix, cfg.Audit.S3.Retain = name+"/", time.Hour
			cfg.Audit.Outward.AnchorS3 = true
			s := start(t, cfg)
			appendOne(t, s)
			origin := s.parts.ledger.Origin()
			key := s.parts.ledger.VerifierKey()
			if _, _, page := call(t, http.MethodGet, s.UIURL()+"/metrics", nil); !strings.Contains(page, `kaizen_audit_anchors_total{result="failure",target="s3"} 0`) {
				t.Error("/metrics does not count anchors in S3 from zero")
			}
			stop(t, s)
			a, err := s3.OpenAnchor(t.Context(), cfg.Audit.S3)
			if err != nil {
				t.Fatal(err)
			}
			notes, err := a.Checkpoints(t.Context(), origin)
			if err != nil || len(notes) == 0 {
				t.Fatalf("anchored: %q, %v", notes, err)
			}
			if c, err := audit.ParseCheckpoint([]byte(notes[len(notes)-1]), key); err != nil || c.Size != 1 {
				t.Errorf("the newest anchored checkpoint is %+v, %v", c, err)
			}
			locked(t, store, bucket, name+"/")
		})
	}
	// A bucket without object lock is refused when the server starts.
	cfg := testConfig(t)
	cfg.Audit.S3 = bucketOf(store, store.Bucket(t, false))
	cfg.Audit.S3.Retain, cfg.Audit.Outward.AnchorS3 = time.Hour, true
	if s, err := New(cfg); err == nil {
		stop(t, s)
		t.Error("a server takes a bucket without object lock to lock anchors in")
	} else if !strings.Contains(err.Error(), "no object lock") {
		t.Errorf("New = %v, want one that names the lock", err)
	}
}

// locked checks that nobody can remove the objects below prefix.
func locked(t *testing.T, store *s3test.Server, bucket, prefix string) {
	t.Helper()
	client, n := store.Client(t), 0
	for o := range client.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		n++
		mode, until, err := client.GetObjectRetention(t.Context(), bucket, o.Key, o.VersionID)
		if err != nil || *mode != minio.Compliance || time.Until(*until) <= 0 {
			t.Errorf("%s: retention %v until %v, %v", o.Key, mode, until, err)
		}
		if err := client.RemoveObject(t.Context(), bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID}); err == nil {
			t.Errorf("%s could be removed", o.Key)
		}
	}
	if n == 0 {
		t.Error("there is no object")
	}
}

// stop shuts a server down, which closes its ledger.
func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}
