package main

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/audit"
)

// TestReplacedKey is a thief of a ledger's first key, which was replaced. What
// they sign for more entries than there were then is called that by every
// command, and no fork; what the key signed before goes on to count.
func TestReplacedKey(t *testing.T) {
	dir := t.TempDir()
	at, copied := filepath.Join(dir, "audit"), filepath.Join(dir, "copy", "audit")
	key := filepath.Join(dir, "keys", "audit.key")
	l := openPeople(t, at, key)
	add := func(l audit.Backend, n int) {
		for range n {
			if _, err := l.Append(t.Context(), audit.Entry{AgentID: "a", Action: "x", Result: audit.Success}); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(l, 3)
	early := l.Checkpoint()
	closePeople(t, l)
	stolen, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{at: copied, filepath.Dir(key): filepath.Join(dir, "copy", "keys")} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := audit.RotateKey(t.Context(), at, audit.Config{}); err != nil {
		t.Fatal(err)
	}
	l = openPeople(t, at, key)
	add(l, 5)
	closePeople(t, l)

	s, err := note.NewSigner(strings.TrimSpace(string(stolen)))
	if err != nil {
		t.Fatal(err)
	}
	root := sha256.Sum256([]byte("other entries"))
	forged, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", s.Name(), 7, base64.StdEncoding.EncodeToString(root[:]))}, s)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{"early": early.Note, "forged": string(forged)}
	for name, text := range names {
		names[name] = filepath.Join(dir, name+".note")
		if err := os.WriteFile(names[name], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) error {
		cmd := &cobra.Command{SilenceUsage: true, SilenceErrors: true}
		cmd.AddCommand(newAuditConsistency(), newAuditVerify(), newAuditCompare())
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		return cmd.ExecuteContext(t.Context())
	}
	for name, want := range map[string]string{"early": "", "forged": "replaced"} {
		for _, args := range [][]string{
			{"consistency", names[name], "--data", at}, {"verify", at, "--checkpoint", names[name]}, {"verify", at, "--checkpoints", names[name]},
		} {
			err := run(args...)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v; want %q", args, err, want)
			}
		}
	}
	if err := run("compare", copied, at); err != nil {
		t.Errorf("compare with a copy from before the change: %v", err)
	}
	l = openPeople(t, copied, filepath.Join(dir, "copy", "keys", "audit.key"))
	for _, n := range []int{5, 5} { // shorter than the ledger, and then longer
		add(l, n)
		closePeople(t, l)
		for _, args := range [][]string{{"compare", copied, at}, {"compare", at, copied}} {
			if err := run(args...); !errors.Is(err, errReplaced) {
				t.Errorf("%s after the copy went on under the old key: %v, want %v", args, err, errReplaced)
			}
		}
		l = openPeople(t, copied, filepath.Join(dir, "copy", "keys", "audit.key"))
	}
	closePeople(t, l)
}
