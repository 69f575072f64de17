package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/server"
)

// step is a command of a runbook with what it is expected to print.
type step struct{ command, want string }

// stepsOf reads the ```sh blocks of a page and the ```text block after each.
func stepsOf(page string) (steps []step, err error) {
	parts := strings.Split(page, "\n```")
	for i := 1; i < len(parts); i += 2 {
		lang, body, _ := strings.Cut(parts[i], "\n")
		switch lang {
		case "sh":
			steps = append(steps, step{command: body})
		case "text":
			if len(steps) == 0 || steps[len(steps)-1].want != "" {
				return nil, fmt.Errorf("a text block without a command")
			}
			steps[len(steps)-1].want = body
		}
	}
	for _, s := range steps {
		if s.want == "" {
			return nil, fmt.Errorf("nothing is said of what %q prints", s.command)
		}
	}
	return steps, nil
}

// prints reports whether the lines of want are in got, in order; … stands for
// anything.
func prints(got, want string) bool {
	lines := strings.Split(want, "\n")
	for i, l := range lines {
		lines[i] = strings.ReplaceAll(regexp.QuoteMeta(l), "…", ".*")
	}
	return regexp.MustCompile("(?s)" + strings.Join(lines, ".*")).MatchString(got)
}

// TestRunbooks runs every command of every runbook against a server on which
// the demo has worked.
func TestRunbooks(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("curl is not here")
		}
		t.Skip("curl is not here")
	}
	data := filepath.Join(t.TempDir(), "data")
	srv, err := server.New(server.Config{DataDir: data, Listen: "127.0.0.1:0", OTLPHTTP: "127.0.0.1:0", OTLPGRPC: "127.0.0.1:0", ScrapeInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	env := append(os.Environ(), "KAIZEN_SERVER="+srv.UIURL(), "KAIZEN_DATA="+data)
	shell := func(t *testing.T, command string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", command)
		cmd.Env, cmd.Dir = env, t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%.1000s", command, err, out)
		}
		return string(out)
	}
	shell(t, `kaizen demo --server "$KAIZEN_SERVER"`)
	pages, err := filepath.Glob(filepath.Join("..", "..", "..", "docs", "runbooks", "*.md"))
	if err != nil || len(pages) < 38 {
		t.Fatalf("%d runbooks, %v", len(pages), err)
	}
	ran := map[string]string{} // many pages share a command: once is enough
	for _, path := range pages {
		name := strings.TrimSuffix(filepath.Base(path), ".md")
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			page := string(b)
			for _, l := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(page, -1) {
				if _, err := os.Stat(filepath.Join(filepath.Dir(path), l[1])); err != nil {
					t.Errorf("a link leads nowhere: %v", err)
				}
			}
			if name == "README" {
				return
			}
			for _, part := range []string{"**Symptom.**", "**Impact.**", "## Look", "## Mend", "## Escalate"} {
				if !strings.Contains(page, part) {
					t.Errorf("%s is missing", part)
				}
			}
			steps, err := stepsOf(page)
			if err != nil || len(steps) == 0 {
				t.Fatalf("%d commands, %v", len(steps), err)
			}
			for _, s := range steps {
				got, done := ran[s.command]
				if !done {
					got = shell(t, s.command)
					ran[s.command] = got
				}
				if !prints(got, s.want) {
					t.Errorf("%s\nprinted %.600s\nwant %s", s.command, got, s.want)
				}
			}
		})
	}
}
