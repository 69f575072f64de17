package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kaizen-go/kaizen/internal/durable"
)

// faulty is a file system whose nth change fails: either before it had an
// effect or after.
type faulty struct {
	durable.OS
	n    int // counts down; the change that makes it 0 fails
	kept bool
}

var errFault = errors.New("injected fault")

func (f *faulty) change(do func() error) error {
	if f.n--; f.n != 0 {
		return do()
	}
	if f.kept {
		if err := do(); err != nil {
			return err
		}
	}
	return errFault
}

func (f *faulty) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	file, err := f.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f}, nil
}
func (f *faulty) Rename(a, b string) error {
	return f.change(func() error { return f.OS.Rename(a, b) })
}
func (f *faulty) Remove(name string) error {
	return f.change(func() error { return f.OS.Remove(name) })
}
func (f *faulty) SyncDir(name string) error {
	return f.change(func() error { return f.OS.SyncDir(name) })
}
func (f *faulty) Lock(name string) (io.Closer, error) { return f.OS.Lock(name) }

type faultyFile struct {
	durable.File
	fs *faulty
}

func (f *faultyFile) Write(b []byte) (n int, err error) {
	err = f.fs.change(func() (err error) { n, err = f.File.Write(b); return err })
	return n, err
}
func (f *faultyFile) Sync() error { return f.fs.change(f.File.Sync) }

// sweep calls step with a file system whose 1st, 2nd, … change fails, until a
// step needs fewer changes than that.
func sweep(t *testing.T, step func(t *testing.T, fsys *faulty) (failed bool)) {
	for _, kept := range []bool{false, true} {
		n := 1
		for step(t, &faulty{n: n, kept: kept}) {
			if n++; n > 100 {
				t.Fatal("it never succeeds")
			}
		}
		if n < 4 {
			t.Errorf("only %d changes could fail", n-1)
		}
	}
}

// TestFileMemoryFaults: whatever fails, what is read afterwards is the
// conversation before or after, whole.
func TestFileMemoryFaults(t *testing.T) {
	first, second := []Message{{Role: User, Text: "1"}}, []Message{{Role: Assistant, Text: "2"}}
	sweep(t, func(t *testing.T, fsys *faulty) bool {
		dir := t.TempDir()
		at := fsys.n
		fsys.n = 0 // nothing fails yet
		m, err := openFileMemory(fsys, dir, WindowConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Save(t.Context(), "s", first); err != nil {
			t.Fatal(err)
		}
		fsys.n = at
		saved := m.Save(t.Context(), "s", second)
		fsys.n = 0
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := OpenFileMemory(dir, WindowConfig{})
		if err != nil {
			t.Fatalf("fault %d: reopen: %v", at, err)
		}
		defer again.Close()
		got, err := again.Load(t.Context(), "s")
		if err != nil {
			t.Fatalf("fault %d: Load: %v", at, err)
		}
		before, after := cmp.Equal(got, first), cmp.Equal(got, append(first[:1:1], second...))
		if saved == nil && !after || !before && !after {
			t.Errorf("fault %d: Save = %v, then Load = %v", at, saved, got)
		}
		if saved != nil && !errors.Is(saved, errFault) {
			t.Errorf("fault %d: Save = %v", at, saved)
		}
		return saved != nil
	})
}

// FuzzSealed: what was sealed is read back; one changed byte is noticed; and
// what is taken has one spelling.
func FuzzSealed(f *testing.F) {
	f.Add("s", []byte("{\"role\":\"user\",\"text\":\"hi\"}\n"), 10, byte(1))
	f.Add("\xff", []byte{}, 0, byte(0x20))
	f.Add("日本", []byte("\n\n"), 70, byte(0))
	f.Fuzz(func(t *testing.T, key string, body []byte, at int, change byte) {
		sealed, err := seal("f/1", key, body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unseal(sealed, "f/1", key)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("unseal = %q, %v, want %q", got, err, body)
		}
		if at < 0 || change == 0 {
			return
		}
		sealed[at%len(sealed)] ^= change
		if _, err := unseal(sealed, "f/1", key); err == nil {
			t.Fatalf("byte %d was changed by %x unnoticed", at%len(sealed), change)
		}
	})
}

// FuzzMessages: what is decoded is encoded to the same messages.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"role":"user","text":"hi"}` + "\n" + `{"role":"assistant","tool_calls":[{"id":"1","name":"t","arguments":{"a":[1]}}]}` + "\n"))
	f.Add([]byte(`{"role":"tool","tool_results":[{"id":"1","name":"t","text":"x","is_error":true}]}` + "\n"))
	f.Add([]byte("null\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := decodeMessages(body)
		if err != nil {
			return
		}
		encoded, err := encodeMessages(messages)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeMessages(encoded)
		if err != nil || len(again) != len(messages) {
			t.Fatalf("%d messages, then %d, %v", len(messages), len(again), err)
		}
		twice, err := encodeMessages(again)
		if err != nil || !bytes.Equal(encoded, twice) {
			t.Fatalf("two spellings, %v:\n%s\n%s", err, encoded, twice)
		}
	})
}

func TestOpenFolderFails(t *testing.T) {
	if _, err := openFileMemory(&faulty{n: 1}, t.TempDir(), WindowConfig{}); !errors.Is(err, errFault) {
		t.Errorf("open = %v", err)
	}
	f, err := openFolder(durable.OS{}, t.TempDir(), memoryName)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if err := f.do(context.Background(), func() error { return errFault }); !errors.Is(err, errFault) {
		t.Errorf("do = %v", err)
	}
}

// TestFileCheckpointsFaults: whatever fails, the last checkpoint that is found
// afterwards is the one before or the new one, whole.
func TestFileCheckpointsFaults(t *testing.T) {
	sweep(t, func(t *testing.T, fsys *faulty) bool {
		dir := t.TempDir()
		at := fsys.n
		fsys.n = 0 // nothing fails yet
		s, err := openFileCheckpoints(fsys, dir, FileCheckpointsConfig{Keep: 2})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if _, _, err := s.Save(t.Context(), Checkpoint{AgentID: "a", RunID: "r", Step: i}); err != nil {
				t.Fatal(err)
			}
		}
		fsys.n = at
		_, _, saved := s.Save(t.Context(), Checkpoint{AgentID: "a", RunID: "r", Step: 2})
		fsys.n = 0
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := OpenFileCheckpoints(dir, FileCheckpointsConfig{})
		if err != nil {
			t.Fatalf("fault %d: reopen: %v", at, err)
		}
		defer again.Close()
		id, err := again.Latest(t.Context(), "a")
		if err != nil {
			t.Fatalf("fault %d: Latest: %v", at, err)
		}
		c, _, err := again.Load(t.Context(), id)
		if err != nil || c.Step != 2 && (saved == nil || c.Step != 1) {
			t.Errorf("fault %d: Save = %v, then Load = step %d, %v", at, saved, c.Step, err)
		}
		if saved != nil && !errors.Is(saved, errFault) {
			t.Errorf("fault %d: Save = %v", at, saved)
		}
		return saved != nil
	})
}

// TestOpenTidiesUp: what a crash left half-written goes, what others keep in the
// directory stays.
func TestOpenTidiesUp(t *testing.T) {
	id := agentKey("a") + "-" + after(nil).String() + "-01RUN-3"
	for _, tt := range []struct {
		name string
		open func(dir string) (io.Closer, error)
		ours []string
	}{
		{"memory", func(dir string) (io.Closer, error) { return OpenFileMemory(dir, WindowConfig{}) }, []string{memoryFile("s"), memoryFile("../日本"), memoryFile("")}},
		{"checkpoints", func(dir string) (io.Closer, error) { return OpenFileCheckpoints(dir, FileCheckpointsConfig{}) }, []string{id + checkpointExt}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			foreign := []string{"notes.tmp", "data.json.tmp", "x.jsonl.tmp"}
			for _, name := range foreign {
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range tt.ours {
				if err := os.WriteFile(filepath.Join(dir, name+".tmp"), []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s, err := tt.open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, name := range foreign {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Errorf("a file of somebody else: %v", err)
				}
			}
			for _, name := range tt.ours {
				if _, err := os.Stat(filepath.Join(dir, name+".tmp")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s.tmp is still there: %v", name, err)
				}
			}
		})
	}
}
