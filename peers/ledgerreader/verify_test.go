package ledgerreader

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// read runs verify.py on a ledger.
func read(t *testing.T, dir string) (intact bool, text string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "python3", "verify.py", dir).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 && strings.HasPrefix(string(out), "tampered: ") {
		return false, string(out)
	}
	if err != nil {
		t.Fatalf("verify.py %s: %v\n%s", dir, err, out)
	}
	return true, string(out)
}

func needPrograms(t *testing.T) {
	t.Helper()
	for _, name := range []string{"python3", "zstdcat"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not here: the ledger is not read by a program of another language", name)
		}
	}
}

// agree fails unless both programs call the ledger intact, with one root.
func agree(t *testing.T, dir string) audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Indexes: true})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("intact: %d entries, %d of them removed by retention, root %x\n", r.Entries, r.Pruned, r.Checkpoint.Root)
	if intact, got := read(t, dir); !intact || got != want {
		t.Fatalf("verify.py says %q, want %q", got, want)
	}
	return r
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "audit")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestVersion1 reads what the first version wrote, and the document's vector.
func TestVersion1(t *testing.T) {
	needPrograms(t)
	data := filepath.Join("..", "..", "audit", "testdata")
	agree(t, copyDir(t, filepath.Join(data, "v1", "closed", "audit")))
	if intact, got := read(t, filepath.Join(data, "v1", "crashed", "audit")); !intact {
		t.Errorf("the crashed ledger: %s", got)
	}
	agree(t, vector(t, filepath.Join(data, "vector")))
}

// vector is a ledger of the document, whose one binary file is kept as text.
func vector(t *testing.T, from string) (dir string) {
	t.Helper()
	dir = copyDir(t, filepath.Join(from, "audit"))
	text, err := os.ReadFile(filepath.Join(from, "l0.txt"))
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "seg", "00000000000000000000.l0"), hashes, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestRotatedVector has verify.py follow the document's change of the key from
// the old key, and find every way of breaking history and change.
func TestRotatedVector(t *testing.T) {
	needPrograms(t)
	from := filepath.Join("..", "..", "audit", "testdata", "rotated")
	dir := vector(t, from)
	agree(t, dir)
	keys, err := os.ReadFile(filepath.Join(dir, "keys.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	_, previous, _ := strings.Cut(string(keys), `"previous":"`)
	previous, _, _ = strings.Cut(previous, `"`)
	trusted := filepath.Join(t.TempDir(), "old.vkey")
	if err := os.WriteFile(trusted, []byte(previous+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "python3", "verify.py", dir, "--key", trusted).CombinedOutput(); err != nil {
		t.Errorf("with the old key: %v\n%s", err, out)
	}
	history, err := os.ReadFile(filepath.Join(dir, "checkpoints.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(history), "\n")
	for what, change := range map[string]struct{ file, text string }{
		"the change removed":         {"keys.jsonl", ""},
		"another entry in it":        {"keys.jsonl", strings.Replace(string(keys), "15:00:00", "15:00:01", 1)},
		"another size in it":         {"keys.jsonl", strings.Replace(string(keys), `"from":3`, `"from":2`, 1)},
		"no history":                 {"checkpoints.jsonl", ""},
		"its first line removed":     {"checkpoints.jsonl", strings.Join(lines[1:], "")},
		"a line in it removed":       {"checkpoints.jsonl", lines[0] + strings.Join(lines[2:], "")},
		"its last line removed":      {"checkpoints.jsonl", lines[0] + lines[1]},
		"its last line without a LF": {"checkpoints.jsonl", strings.TrimSuffix(string(history), "\n")},
	} {
		broken := vector(t, from)
		path := filepath.Join(broken, change.file)
		if change.text == "" {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, []byte(change.text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if intact, text := read(t, broken); intact || !strings.Contains(text, change.file) && !strings.Contains(text, "keys.jsonl") && !strings.Contains(text, "checkpoints.jsonl") {
			t.Errorf("%s: verify.py says %q", what, text)
		}
		if _, err := audit.Verify(t.Context(), broken, audit.VerifyConfig{}); err == nil {
			t.Errorf("%s: our own check misses it", what)
		}
	}
}

// numbers are those whose spelling differs between languages.
var numbers = []any{
	0.1, 1e21, 123456789012345680000.0, 1e-6, 1e-7, 5e-324, 1.7976931348623157e308, -0.5, 100.0, 2.5e-5, 1 << 53, uint64(1<<64 - 1),
	int64(-1 << 63), 4.35, 0.000001234, 1e20, 333333333.33333329, 295147905179352830000.0,
}

// TestVersion2 goes through what a ledger can become: sealed, archived, held,
// erased, pruned, with another key.
func TestVersion2(t *testing.T) {
	needPrograms(t)
	dir := filepath.Join(t.TempDir(), "audit")
	archive := filepath.Join(t.TempDir(), "archive")
	cfg := audit.Config{UsersAreSubjects: true, SealAfter: audit.NoAge}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	session := func(n int, then func(l *audit.Ledger)) {
		t.Helper()
		l, err := audit.Open(dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			e := audit.Entry{
				Time: at, AgentID: fmt.Sprint("agent-", i%7), Action: "tool.execute", Result: audit.Success,
				Details: map[string]any{"n": numbers[i%len(numbers)], "text": "tab\t \u0001 \u2028 é 😀 " + strings.Repeat("x", i%90), "\U0001F600": 1, "\uFB33": 2},
			}
			if i%5 == 0 {
				e.UserID = fmt.Sprint("person-", i%3)
			}
			at = at.Add(time.Minute)
			if _, err := l.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		then(l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		agree(t, dir)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	session(0, func(*audit.Ledger) {})
	session(3, func(*audit.Ledger) {})
	session(600, func(l *audit.Ledger) { must(l.Seal(t.Context())) })
	session(300, func(l *audit.Ledger) {
		must(l.Seal(t.Context()))
		_, err := l.Archive(t.Context(), audit.ArchiveDir(archive))
		must(err)
	})
	agree(t, archive)
	session(10, func(l *audit.Ledger) {
		_, _, err := l.Hold(t.Context(), audit.Hold{ID: "case-1", AgentID: "agent-1"})
		must(err)
		_, err = l.Release(t.Context(), audit.Release{ID: "case-1"})
		must(err)
		_, err = l.Erase(t.Context(), audit.Erasure{Subject: "person-1"})
		must(err)
		p, err := l.Prune(t.Context(), audit.PruneOptions{Retention: audit.Retention{MaxAge: time.Hour}})
		must(err)
		if len(p.Removed) == 0 {
			t.Fatal("nothing was removed")
		}
		must(l.Seal(t.Context()))
	})
	_, _, err := audit.RotateKey(t.Context(), dir, cfg)
	must(err)
	session(5, func(l *audit.Ledger) { must(l.Seal(t.Context())) })

	// What we call tampered, it calls tampered.
	flips := 1
	if os.Getenv("KAIZEN_LONG") != "" {
		flips = 20
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var files []string
	must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if info, _ := d.Info(); err == nil && d.Type().IsRegular() && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	}))
	for _, path := range files {
		whole, err := os.ReadFile(path)
		must(err)
		for range flips {
			changed := append([]byte(nil), whole...)
			i := rnd.IntN(len(changed))
			changed[i] ^= 1 << rnd.IntN(8)
			must(os.WriteFile(path, changed, 0o600))
			if _, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{}); err == nil {
				t.Errorf("%s: our own check misses a bit of byte %d", path, i)
			}
			if intact, _ := read(t, dir); intact {
				t.Errorf("%s: verify.py misses a bit of byte %d: %q", path, i, whole[max(0, i-20):min(len(whole), i+20)])
			}
		}
		must(os.WriteFile(path, whole, 0o600))
	}
	agree(t, dir)
}
