package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestScriptsCoverAudit wants a script that runs each subcommand of kaizen audit,
// with each of its flags.
func TestScriptsCoverAudit(t *testing.T) {
	run := map[string]bool{} // "verify", "verify --key"
	call := regexp.MustCompile(`\bkaizen audit ([a-z-]+)(.*)`)
	flag := regexp.MustCompile(`(?:^|\s)'?(--?[a-z][a-z0-9-]*)`)
	scripts, err := filepath.Glob(filepath.Join("testdata", "*", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			m := call.FindStringSubmatch(line)
			if m == nil || strings.HasPrefix(line, "#") {
				continue
			}
			run[m[1]] = true
			for _, f := range flag.FindAllStringSubmatch(m[2], -1) {
				run[m[1]+" "+f[1]] = true
			}
		}
	}
	commands := newAudit().Commands()
	if len(commands) < 20 {
		t.Fatalf("%d subcommands: is the tree another one?", len(commands))
	}
	for _, c := range commands {
		if !run[c.Name()] {
			t.Errorf("no script runs kaizen audit %s", c.Name())
			continue
		}
		eachFlag(c, func(f *pflag.Flag) {
			if f.Name != "help" && !run[c.Name()+" --"+f.Name] && (f.Shorthand == "" || !run[c.Name()+" -"+f.Shorthand]) {
				t.Errorf("no script runs kaizen audit %s with --%s", c.Name(), f.Name)
			}
		})
	}
}

func eachFlag(c *cobra.Command, do func(*pflag.Flag)) { c.LocalFlags().VisitAll(do) }

// scriptFollow is "follow TEXT COMMAND...": runs a command that does not end,
// interrupts it when it has printed a line with TEXT, and makes what it printed
// the standard output.
func scriptFollow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: follow TEXT COMMAND...")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[1], args[2:]...)
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, args[1]); isFile(path) {
			cmd = exec.CommandContext(ctx, path, args[2:]...)
			break
		}
	}
	cmd.Dir, cmd.Env = ts.MkAbs("."), []string{}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "WORK", "KAIZEN_DATA", "KAIZEN_SERVER", "KAIZEN_API_KEY"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Stderr = ts.Stderr()
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	found := false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		_, err := ts.Stdout().Write(append(lines.Bytes(), '\n'))
		ts.Check(err)
		if !found && strings.Contains(lines.Text(), args[0]) {
			found = true
			ts.Check(cmd.Process.Signal(os.Interrupt))
		}
	}
	err = cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		ts.Check(err)
	}
	if !found {
		ts.Fatalf("%s ended without having printed %q", strings.Join(args[1:], " "), args[0])
	}
}
