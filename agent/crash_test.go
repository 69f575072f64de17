package agent_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/agent"
)

// told is a store that says on standard output what it has acknowledged.
type told struct{ agent.Checkpoints }

func (s told) Save(ctx context.Context, c agent.Checkpoint) (string, int64, error) {
	id, size, err := s.Checkpoints.Save(ctx, c)
	fmt.Println("saved", c.Step, id, err)
	return id, size, err
}

const crashDir = "KAIZEN_TEST_CRASH_DIR"

// TestCrash kills a process in the middle of a run. Another one goes on with it
// from the last turn that was acknowledged, or a later one.
func TestCrash(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		runUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$")
	child.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for lines := bufio.NewScanner(out); acknowledged < 5 && lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "saved "); ok {
			if !strings.HasSuffix(rest, "<nil>") {
				t.Errorf("child: %s", rest)
			}
			acknowledged++
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil || acknowledged != 5 {
		t.Fatalf("the child ended with %v after %d turns, before it was killed", err, acknowledged)
	}

	store := openCheckpoints(t, dir, 0)
	id, err := store.Latest(t.Context(), "helper")
	if err != nil {
		t.Fatal(err)
	}
	turns := 0
	a := newAgent(t, agent.Config{Checkpoints: store, MaxIterations: 1 << 30, Model: model(func(r agent.Request) (*agent.Response, error) {
		for i, m := range r.Messages { // the user, then calls and results in turn
			switch {
			case i > 0 && i%2 == 0 && (len(m.ToolResults) != 1 || m.ToolResults[0].Text != "sunny in Lima"):
				t.Errorf("message %d = %+v, want a result", i, m)
			case i%2 == 1:
				turns++
			}
		}
		return says("done")(r)
	})})
	res, err := a.Resume(t.Context(), id)
	if err != nil || res.Output != "done" || res.ModelCalls != 1 || turns < acknowledged {
		t.Errorf("Resume = %+v, %v, with %d turns, want %d or more", res, err, turns, acknowledged)
	}
}

func runUntilKilled(t *testing.T, dir string) {
	store := openCheckpoints(t, dir, 3)
	a := newAgent(t, agent.Config{Checkpoints: told{store}, MaxIterations: 1 << 30, Tools: []agent.Tool{weather(t)}, Model: model(func(agent.Request) (*agent.Response, error) {
		return asks(call("", "weather", `{"city":"Lima"}`))(agent.Request{})
	})})
	_, err := a.Run(t.Context(), "x")
	t.Fatalf("Run = %v, before it was killed", err)
}
