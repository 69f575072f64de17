package s3

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/s3test"
)

// TestArchive copies the sealed segments of a ledger in files to a bucket with
// object lock, and takes what is there for a ledger.
func TestArchive(t *testing.T) {
	server := s3test.Start(t)
	cfg := configOf(t, server, server.Bucket(t, true))
	cfg.Retain = time.Hour
	target, err := OpenArchive(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := audit.Open(dir, audit.Config{Origin: "example.org/archived"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for round := range 2 {
		fill(t, l, 2, 300)
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		sealed := l.Size() - 1 // all before the entry about the sealing
		r, err := l.Archive(t.Context(), target)
		if err != nil || r.Segments != 1 || r.Bytes == 0 || r.Entries < 600*int64(round+1) || r.Entries > sealed+1 {
			t.Fatalf("round %d: %+v, %v", round, r, err)
		}
		again, err := l.Archive(t.Context(), target)
		if err != nil || again.Segments != 0 || again.Entries != r.Entries {
			t.Errorf("round %d, again: %+v, %v", round, again, err)
		}
		copied := download(t, target)
		report, err := audit.Verify(t.Context(), copied, audit.VerifyConfig{Key: l.VerifierKey()})
		if err != nil || report.Checkpoint.Size != r.Entries {
			t.Errorf("round %d: the archive verifies as %d entries, %v, want %d", round, report.Checkpoint.Size, err, r.Entries)
		}
	}
	found := 0
	for e, err := range l.Query(t.Context(), audit.Query{Action: "ledger.archived"}) {
		if err != nil {
			t.Fatal(err)
		}
		if found++; e.Details["target"] != target.String() {
			t.Errorf("entry %d names %v, want %s", e.Index, e.Details["target"], target)
		}
	}
	if found != 2 {
		t.Errorf("%d entries about copies, want 2", found)
	}
}

// download puts an archive's objects into a directory.
func download(t *testing.T, a *Archive) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	objects, err := a.bucket.list(t.Context(), "", "")
	if err != nil || len(objects) == 0 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	for _, o := range objects {
		body, err := a.bucket.get(t.Context(), o.name)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(o.name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestArchiveRefuses has the bytes change on their way to the store.
func TestArchiveRefuses(t *testing.T) {
	cfg := fresh(t)
	target, err := OpenArchive(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("what was sealed")
	sum := sha256.Sum256(body)
	changed := bytes.ToUpper(body)
	if err := target.Put(t.Context(), "seg/1", bytes.NewReader(changed), int64(len(body)), sum); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("Put of other bytes = %v", err)
	}
	if err := target.Put(t.Context(), "seg/1", bytes.NewReader(body[:4]), int64(len(body)), sum); err == nil {
		t.Error("Put of fewer bytes = nil")
	}
	if err := target.Put(t.Context(), "seg/1", bytes.NewReader(body), int64(len(body)), sum); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		name string
		size int64
		sum  [32]byte
		want bool
	}{
		{"seg/1", int64(len(body)), sum, true}, {"seg/1", int64(len(body)) + 1, sum, false},
		{"seg/1", int64(len(body)), sha256.Sum256(changed), false}, {"seg/2", int64(len(body)), sum, false},
	} {
		if has, err := target.Has(t.Context(), tt.name, tt.size, tt.sum); err != nil || has != tt.want {
			t.Errorf("Has(%s, %d, %x…) = %t, %v, want %t", tt.name, tt.size, tt.sum[:4], has, err, tt.want)
		}
	}
}
