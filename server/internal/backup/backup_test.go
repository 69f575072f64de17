package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/kaizen-go/kaizen/audit"
)

// archive is a backup of a data directory with two files.
func archive(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	parts := []Part{textPart("audit/checkpoint", []byte("one")), textPart("telemetry/1.wal", bytes.Repeat([]byte("two"), 5000))}
	if err := Write(t.Context(), &b, Manifest{Created: time.Unix(1, 0).UTC()}, parts, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRestore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	m, err := Restore(t.Context(), bytes.NewReader(archive(t)), dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "audit/checkpoint")); err != nil || string(b) != "one" || len(m.Files) != 2 {
		t.Errorf("restored %q, %v, manifest %+v", b, err, m)
	}
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, walkErr error) error {
		if walkErr != nil {
			return walkErr
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v: others can read it", name, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(archive(t)), dir, nil, nil); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("restore over a directory with data: %v, want ErrNotEmpty", err)
	}
}

// checkNothingLeft fails if a refused archive left something in or beside dir.
func checkNothingLeft(t *testing.T, parent string) {
	t.Helper()
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestRestoreRefuses cuts and changes an archive everywhere, and gives ones that
// would write outside.
func TestRestoreRefuses(t *testing.T) {
	good := archive(t)
	refuse := func(t *testing.T, b []byte) error {
		t.Helper()
		parent := t.TempDir()
		_, err := Restore(t.Context(), bytes.NewReader(b), filepath.Join(parent, "data"), nil, nil)
		if _, ok := errors.AsType[*CorruptError](err); !ok {
			t.Errorf("Restore: %v, want a CorruptError", err)
		}
		checkNothingLeft(t, parent)
		return err
	}
	t.Run("cut", func(t *testing.T) {
		for n := range len(good) {
			if _, err := Check(t.Context(), bytes.NewReader(good[:n])); err == nil {
				t.Fatalf("cut at %d: no error", n)
			}
		}
		for n := 0; n < len(good); n += 101 {
			refuse(t, good[:n])
		}
	})
	t.Run("changed", func(t *testing.T) {
		plain := unpack(t, good)
		for n := 0; n < len(plain); n += 61 {
			b := bytes.Clone(plain)
			b[n] ^= 1
			m, err := Check(t.Context(), bytes.NewReader(pack(t, b)))
			// What neither the sums nor the format cover changes nothing: the
			// manifest's words about itself, and the times of files.
			if err == nil && len(m.Files) != 2 {
				t.Fatalf("byte %d changed: another manifest was taken", n)
			}
			if at := bytes.Index(plain, []byte("twotwo")); n >= at && n < at+15000 && err == nil {
				t.Fatalf("byte %d of a file changed: no error", n)
			}
		}
	})
	for name, h := range map[string]tar.Header{
		"up":           {Name: "audit/../../x", Typeflag: tar.TypeReg},
		"absolute":     {Name: "/etc/x", Typeflag: tar.TypeReg},
		"link":         {Name: "audit/x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		"hard link":    {Name: "audit/x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"},
		"other folder": {Name: "bin/x", Typeflag: tar.TypeReg},
		"no folder":    {Name: "audit", Typeflag: tar.TypeReg},
		"device":       {Name: "audit/x", Typeflag: tar.TypeChar},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			if err := errors.Join(w.WriteHeader(&h), w.Close()); err != nil {
				t.Fatal(err)
			}
			err := refuse(t, pack(t, b.Bytes()))
			if c, ok := errors.AsType[*CorruptError](err); ok && c.Path != h.Name {
				t.Errorf("the error names %q, want %q", c.Path, h.Name)
			}
		})
	}
	t.Run("check says no", func(t *testing.T) {
		parent, no := t.TempDir(), errors.New("no")
		_, err := Restore(t.Context(), bytes.NewReader(good), filepath.Join(parent, "data"), func(string) error { return no }, nil)
		if !errors.Is(err, no) {
			t.Errorf("Restore = %v, want the check's error", err)
		}
		checkNothingLeft(t, parent)
	})
}

func unpack(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out, err := z.DecodeAll(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func pack(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(b, nil)
}

// TestWriteShort: a file that has become shorter is an error, not a shorter file.
func TestWriteShort(t *testing.T) {
	p := textPart("audit/x", []byte("abc"))
	p.Bytes = 4
	if err := Write(t.Context(), &bytes.Buffer{}, Manifest{}, []Part{p}, nil); err == nil {
		t.Error("no error")
	}
}

// TestLedgerWhileWriting backs a ledger up again and again while it is written
// to, rotated and sealed: each copy verifies as a closed ledger, and has all
// that was acknowledged before.
func TestLedgerWhileWriting(t *testing.T) {
	dir := t.TempDir()
	ledger := filepath.Join(dir, "audit")
	l, err := audit.Open(ledger, audit.Config{KeyDir: filepath.Join(dir, "keys"), SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var acked atomic.Int64
	text := strings.Repeat("long ", 1000) // so that segments are soon full
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_, err := l.Append(context.WithoutCancel(ctx), audit.Entry{AgentID: "a", Action: "step", Result: audit.Success, RunID: fmt.Sprintf("run-%d-%d", w, i), Details: map[string]any{"text": text}})
				if err != nil {
					t.Error(err)
					return
				}
				acked.Add(1)
			}
		})
	}
	sealed := func() bool {
		files, err := filepath.Glob(filepath.Join(ledger, "seg", "*.zst"))
		return err == nil && len(files) > 1
	}
	for round := 0; round < 4 || round < 500 && !sealed(); round++ {
		before := acked.Load()
		checkCopy(t, ledger, func() error { return l.Flush(t.Context()) }, before)
	}
	stop()
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkCopy(t, ledger, nil, acked.Load())
	if !sealed() {
		t.Error("no segment was sealed meanwhile")
	}
}

func checkCopy(t *testing.T, ledger string, flush func() error, atLeast int64) {
	t.Helper()
	parts, info, err := Ledger(ledger, flush)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(t.Context(), &b, Manifest{Ledger: info}, parts, nil); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "data")
	if _, err := Restore(t.Context(), &b, to, nil, nil); err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(t.Context(), filepath.Join(to, "audit"), audit.VerifyConfig{})
	if err != nil || !report.Clean || report.Unsigned != 0 {
		t.Fatalf("Verify(copy at %d): clean %v, %d unsigned, %v", info.Size, report.Clean, report.Unsigned, err)
	}
	if info.Size < atLeast || report.Checkpoint.Size != info.Size {
		t.Fatalf("the copy has %d entries (%d in its manifest), want %d or more", report.Checkpoint.Size, info.Size, atLeast)
	}
}

// FuzzCheck: what is taken is what the manifest says, byte for byte, and lies
// where a data directory has files.
func FuzzCheck(f *testing.F) {
	var b bytes.Buffer
	if err := Write(f.Context(), &b, Manifest{}, []Part{textPart("audit/x", []byte("one")), textPart("keys/y", nil)}, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(unpack(f, b.Bytes()))
	f.Fuzz(func(t *testing.T, plain []byte) {
		got := map[string]string{}
		m, err := readTar(bytes.NewReader(plain), func(name string, size int64, in io.Reader) error {
			if !fs.ValidPath(name) || !filepath.IsLocal(name) || !slices.Contains(folders, strings.Split(name, "/")[0]) {
				t.Errorf("%q is taken", name)
			}
			h := sha256.New()
			n, err := io.Copy(h, in)
			if _, twice := got[name]; twice || err == nil && n != size {
				t.Errorf("%q: twice: %v, %d bytes, want %d", name, twice, n, size)
			}
			got[name] = hex.EncodeToString(h.Sum(nil))
			return err
		})
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if got[file.Path] != file.SHA256 {
				t.Errorf("%s is not what the manifest says", file.Path)
			}
		}
		if len(m.Files) != len(got) {
			t.Errorf("%d files, %d in the manifest", len(got), len(m.Files))
		}
	})
}
