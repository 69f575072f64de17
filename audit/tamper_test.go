package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// closedLedger makes a cleanly closed ledger of n entries in several segments.
func closedLedger(t testing.TB, n int) (dir string, receipts []Receipt) {
	t.Helper()
	dir = t.TempDir() + "/audit"
	cfg := small()
	cfg.segmentBytes = 700
	l := mustOpen(t, dir, cfg)
	receipts = appendN(t, l, 0, n)
	mustClose(t, l)
	checkClean(t, dir, int64(n))
	return dir, receipts
}

func filesOf(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		files[rel], err = os.ReadFile(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func writeFile(t testing.TB, dir, rel string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, rel), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// mustTamper verifies dir and wants the damage found, in that file if path is
// set and at that entry if index is not -2.
func mustTamper(t testing.TB, what, dir string, cfg VerifyConfig, path string, index int64) {
	t.Helper()
	_, err := Verify(context.Background(), dir, cfg)
	var damage *TamperError
	switch {
	case !errors.As(err, &damage):
		t.Errorf("%s: Verify = %v, want a TamperError", what, err)
	case path != "" && damage.Path != path, index != -2 && damage.Index != index:
		t.Errorf("%s: Verify = %v, want %s, entry %d", what, err, path, index)
	}
}

// TestEveryBitFlip flips each bit of each file of a closed ledger. Verify must
// see it and, for a flip in a line or in its hash, name file and entry; a
// reader and Open must refuse as well.
func TestEveryBitFlip(t *testing.T) {
	dir, _ := closedLedger(t, 4)
	files := filesOf(t, dir)
	if len(files) < 6 {
		t.Fatalf("only %d files: want several segments", len(files))
	}
	fsys := newMemFS()
	fsys.copyIn(t, filepath.Dir(dir), "/l")
	cfg := small()
	cfg.fsys = fsys
	flips := 0
	for rel, data := range files {
		name := filepath.Join("/l/audit", rel)
		for i := range data {
			index := int64(-1)
			if strings.HasPrefix(rel, segDir) {
				index = entryAt(t, rel, data, i)
			}
			for bit := range 8 {
				if raced && (bit != i%8 || i%5 > 0) {
					continue
				}
				bad := bytes.Clone(data)
				bad[i] ^= 1 << bit
				fsys.set(name, bad)
				_, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{})
				var damage *TamperError
				if !errors.As(err, &damage) || damage.Path != rel || damage.Index != index {
					t.Errorf("%s byte %d bit %d: Verify = %v, want damage in that file, entry %d", rel, i, bit, err, index)
				}
				flips++
				if bit != i%8 {
					continue // the other two cost more
				}
				if _, err := Open("/l/audit", cfg); !isTamper(err) {
					t.Errorf("%s byte %d bit %d: Open = %v, want a TamperError", rel, i, bit, err)
				}
				if rel == historyName {
					continue // a reader has no use for it
				}
				if _, err := openReader(fsys, "/l/audit"); !isTamper(err) {
					t.Errorf("%s byte %d bit %d: OpenReader = %v, want a TamperError", rel, i, bit, err)
				}
			}
		}
		fsys.set(name, data)
	}
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
		t.Error(err)
	}
	t.Logf("%d flips in %d files", flips, len(files))
}

// entryAt is the index of the entry that byte i of a segment file belongs to.
func entryAt(t testing.TB, rel string, data []byte, i int) int64 {
	t.Helper()
	var base int64
	if _, err := fmt.Sscanf(filepath.Base(rel), "%020d", &base); err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(rel, hashExt) {
		return base + int64(i/32)
	}
	return base + int64(bytes.Count(data[:i], []byte("\n")))
}

// TestTampering changes a closed ledger in all the larger ways.
func TestTampering(t *testing.T) {
	first := filepath.Join(segDir, segStem(0)+lineExt)
	lines := func(b []byte) [][]byte { return bytes.SplitAfter(b, []byte("\n"))[:bytes.Count(b, []byte("\n"))] }
	tests := []struct {
		name  string
		do    func(t *testing.T, dir string, files map[string][]byte, last string)
		path  string // "last" for the last segment
		index int64
	}{
		{"delete the last line", func(t *testing.T, dir string, f map[string][]byte, last string) {
			l := lines(f[last])
			writeFile(t, dir, last, bytes.Join(l[:len(l)-1], nil))
		}, "last", 19},
		{"delete the last line and its hash", func(t *testing.T, dir string, f map[string][]byte, last string) {
			l := lines(f[last])
			writeFile(t, dir, last, bytes.Join(l[:len(l)-1], nil))
			h := strings.TrimSuffix(last, lineExt) + hashExt
			writeFile(t, dir, h, f[h][:len(f[h])-32])
		}, "last", 19},
		{"delete a line in the middle", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			writeFile(t, dir, first, bytes.Join(slices.Delete(lines(f[first]), 1, 2), nil))
		}, first, 1},
		{"swap two lines", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			l := lines(f[first])
			l[0], l[1] = l[1], l[0]
			writeFile(t, dir, first, bytes.Join(l, nil))
		}, first, 0},
		{"swap two lines and their hashes", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			l := lines(f[first])
			l[0], l[1] = l[1], l[0]
			writeFile(t, dir, first, bytes.Join(l, nil))
			h := strings.TrimSuffix(first, lineExt) + hashExt
			writeFile(t, dir, h, slices.Concat(f[h][32:64], f[h][:32], f[h][64:]))
		}, checkpointName, -1},
		{"insert a line", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			l := lines(f[first])
			writeFile(t, dir, first, bytes.Join(slices.Insert(l, 1, l[0]), nil))
		}, first, 1},
		{"append a line", func(t *testing.T, dir string, f map[string][]byte, last string) {
			writeFile(t, dir, last, append(bytes.Clone(f[last]), lines(f[first])[0]...))
		}, "last", 20},
		{"append a byte", func(t *testing.T, dir string, f map[string][]byte, last string) {
			writeFile(t, dir, last, append(bytes.Clone(f[last]), 0))
		}, "last", 20},
		{"cut the last newline", func(t *testing.T, dir string, f map[string][]byte, last string) {
			writeFile(t, dir, last, f[last][:len(f[last])-1])
		}, "last", 19},
		{"one line too long to be one", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			writeFile(t, dir, first, bytes.Repeat([]byte("x"), 200_000))
		}, first, 0},
		{"empty segment", func(t *testing.T, dir string, f map[string][]byte, last string) {
			writeFile(t, dir, last, nil)
		}, "last", -2},
		{"remove the last segment", func(t *testing.T, dir string, f map[string][]byte, last string) {
			remove(t, dir, last, strings.TrimSuffix(last, lineExt)+hashExt)
		}, "", -2},
		{"remove the first segment", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			remove(t, dir, first, strings.TrimSuffix(first, lineExt)+hashExt)
		}, first, 0},
		{"cut the beginning of a hash file", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			h := strings.TrimSuffix(first, lineExt) + hashExt
			writeFile(t, dir, h, f[h][32:])
		}, strings.TrimSuffix(first, lineExt) + hashExt, 0},
		{"cut the first bytes of a hash file", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			h := strings.TrimSuffix(first, lineExt) + hashExt
			writeFile(t, dir, h, f[h][5:])
		}, strings.TrimSuffix(first, lineExt) + hashExt, 0},
		{"remove a hash file", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			remove(t, dir, strings.TrimSuffix(first, lineExt)+hashExt)
		}, strings.TrimSuffix(first, lineExt) + hashExt, 0},
		{"append to a hash file", func(t *testing.T, dir string, f map[string][]byte, last string) {
			h := strings.TrimSuffix(last, lineExt) + hashExt
			writeFile(t, dir, h, append(bytes.Clone(f[h]), 0))
		}, "", 20},
		{"remove the checkpoint", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			remove(t, dir, checkpointName)
		}, checkpointName, -1},
		{"append to the checkpoint", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			writeFile(t, dir, checkpointName, append(bytes.Clone(f[checkpointName]), "— other AAAAAAAA\n"...))
		}, checkpointName, -1},
		{"remove ledger.json", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			remove(t, dir, ledgerName)
		}, ledgerName, -1},
		{"add a file", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			writeFile(t, dir, "notes.txt", nil)
		}, "notes.txt", -1},
		{"add a segment", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			writeFile(t, dir, filepath.Join(segDir, segStem(77)+lineExt), nil)
		}, "", -2},
		{"add a hash file", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			writeFile(t, dir, filepath.Join(segDir, segStem(77)+hashExt), nil)
		}, filepath.Join(segDir, segStem(77)+hashExt), -1},
		{"write into LOCK", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			writeFile(t, dir, lockName, []byte("x"))
		}, lockName, -1},
		{"a ring of noise", func(t *testing.T, dir string, f map[string][]byte, _ string) {
			writeFile(t, dir, ringName, bytes.Repeat([]byte("ring"), 5000))
		}, ringName, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, _ := closedLedger(t, 20)
			files := filesOf(t, dir)
			last := first
			for rel := range files {
				if strings.HasSuffix(rel, lineExt) {
					last = max(last, rel)
				}
			}
			tt.do(t, dir, files, last)
			path := tt.path
			if path == "last" {
				path = last
			}
			mustTamper(t, tt.name, dir, VerifyConfig{}, path, tt.index)
		})
	}
}

func remove(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRollback puts back an older copy: only somebody who holds a newer
// checkpoint can tell, and does.
func TestRollback(t *testing.T) {
	dir, _ := closedLedger(t, 5)
	old := t.TempDir() + "/audit"
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, dir, small())
	held := appendN(t, l, 5, 9)[3].Checkpoint
	mustClose(t, l)
	for size, note := range map[int64]string{held.Size: held.Note, 5: string(filesOf(t, old)[checkpointName])} {
		if r, err := Verify(t.Context(), dir, VerifyConfig{Checkpoint: []byte(note), Key: l.VerifierKey()}); err != nil || r.Entries != 9 {
			t.Errorf("Verify with the checkpoint of %d = %+v, %v", size, r, err)
		}
	}
	if _, err := Verify(t.Context(), old, VerifyConfig{}); err != nil {
		t.Errorf("Verify of the old copy with nothing to compare = %v", err)
	}
	mustTamper(t, "older copy", old, VerifyConfig{Checkpoint: []byte(held.Note)}, checkpointName, 5)
}

// TestFork continues two copies of one ledger differently.
func TestFork(t *testing.T) {
	dir, _ := closedLedger(t, 5)
	fork := filepath.Join(t.TempDir(), "audit")
	if err := os.CopyFS(fork, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, dir, small())
	held := appendN(t, l, 5, 7)[1].Checkpoint
	mustClose(t, l)
	cfg := small()
	cfg.KeyDir = filepath.Join(filepath.Dir(dir), "keys")
	if f, err := Open(fork, cfg); !isTamper(err) {
		t.Fatalf("Open of a copy that is older than its key knows = %v, %v, want a TamperError", f, err)
	}
	// Whoever has the key can do without its memory.
	if err := os.Remove(memoryPath(fork, cfg.KeyDir)); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, fork, cfg)
	appendN(t, f, 100, 110)
	mustClose(t, f)
	checkClean(t, fork, 15)
	mustTamper(t, "fork", fork, VerifyConfig{Checkpoint: []byte(held.Note)}, checkpointName, -1)
}

// TestOtherKey replaces a ledger by one signed with another key.
func TestOtherKey(t *testing.T) {
	dir, receipts := closedLedger(t, 5)
	r := checkClean(t, dir, 5)
	forged := t.TempDir() + "/audit"
	l := mustOpen(t, forged, Config{Origin: r.Origin})
	appendN(t, l, 0, 5)
	mustClose(t, l)
	checkClean(t, forged, 5)
	mustTamper(t, "other key, key held", forged, VerifyConfig{Key: r.Key}, ledgerName, -1)
	mustTamper(t, "other key, checkpoint held", forged, VerifyConfig{Checkpoint: []byte(receipts[2].Checkpoint.Note)}, ledgerName, -1)
	mustTamper(t, "checkpoint that is none", dir, VerifyConfig{Checkpoint: []byte("x")}, ledgerName, -1)
}

func TestVerifyErrors(t *testing.T) {
	if _, err := Verify(t.Context(), t.TempDir()+"/none", VerifyConfig{}); !errors.Is(err, fs.ErrNotExist) || isTamper(err) {
		t.Errorf("Verify of no directory = %v, want ErrNotExist", err)
	}
	if _, err := OpenReader(t.TempDir() + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenReader of no directory = %v, want ErrNotExist", err)
	}
	dir, _ := closedLedger(t, 5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, dir, VerifyConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify with an ended context = %v", err)
	}
	var steps []int64
	if _, err := Verify(t.Context(), dir, VerifyConfig{Progress: func(done, total int64) { steps = append(steps, done, total) }}); err != nil {
		t.Error(err)
	}
	if !slices.Equal(steps, []int64{0, 5, 5, 5}) {
		t.Errorf("Progress was called with %v", steps)
	}
}

func TestProof(t *testing.T) {
	dir, _ := closedLedger(t, 21)
	l := mustOpen(t, dir, small())
	for i := range l.Size() {
		p, err := l.Proof(i)
		if err != nil {
			t.Fatal(err)
		}
		text := p.Marshal()
		back, err := ParseProof(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := back.Check(l.VerifierKey()); err != nil {
			t.Errorf("Check(%d) = %v", i, err)
		}
		e, err := back.Entry()
		if err != nil || e.Index != i || e.ID != numbered(int(i)).ID {
			t.Errorf("Entry = %+v, %v", e, err)
		}
		if c, err := back.Checkpoint(l.VerifierKey()); err != nil || c.Size != 21 {
			t.Errorf("Checkpoint = %+v, %v", c, err)
		}
		// Every bit counts.
		for at := range 8 * len(text) {
			if (i%10 > 0 || raced) && at/8%8 != at%8 || raced && i%10 > 0 && at/8%5 > 0 {
				continue // all bits of some proofs, and one of each byte of the others
			}
			bad := bytes.Clone(text)
			bad[at/8] ^= 1 << (at % 8)
			p, err := ParseProof(bad)
			if err == nil {
				err = p.Check(l.VerifierKey())
			}
			if !errors.Is(err, ErrProof) {
				t.Fatalf("proof %d with bit %d flipped: %v, want ErrProof", i, at, err)
			}
		}
	}
	p, err := l.Proof(3)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := note.GenerateKey(rand.Reader, l.Origin())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{other, "", "x"} {
		if err := p.Check(key); !errors.Is(err, ErrProof) {
			t.Errorf("Check with key %q = %v, want ErrProof", key, err)
		}
	}
	// A witness may sign as well.
	p.Note += "— witness.example " + strings.Repeat("A", 96) + "\n"
	if back, err := ParseProof(p.Marshal()); err != nil || back.Check(l.VerifierKey()) != nil {
		t.Errorf("a cosigned proof: %v, %v", err, back.Check(l.VerifierKey()))
	}
}
