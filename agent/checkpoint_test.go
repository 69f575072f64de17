package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/price"
)

func openCheckpoints(t *testing.T, dir string, keep int) *agent.FileCheckpoints {
	t.Helper()
	s, err := agent.OpenFileCheckpoints(dir, agent.FileCheckpointsConfig{Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestFileCheckpoints(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openCheckpoints(t, dir, 3)
	if _, err := s.Latest(t.Context(), "a"); !errors.Is(err, agent.ErrNoCheckpoint) {
		t.Errorf("Latest of nothing = %v", err)
	}
	c := agent.Checkpoint{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), AgentID: "a", RunID: "01RUN", SessionID: "s", UserID: "u",
		Messages: []agent.Message{user("hi <b>"), wish("1"), result("1")}, Remembered: 1, Plan: []string{"look"},
		Spent: agent.Spent{Usage: price.Usage{Input: 3}, CostNanoUSD: 4, ModelCalls: 5, Duration: 6},
	}
	var ids []string
	for i := range 5 { // quicker than the clock's milliseconds
		c.Step = i
		id, size, err := s.Save(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if latest, err := s.Latest(t.Context(), "a"); err != nil || latest != id {
			t.Errorf("Latest = %s, %v, want %s", latest, err, id)
		}
		got, loaded, err := s.Load(t.Context(), id)
		want := c
		want.ID = id
		if diff := cmp.Diff(want, got); err != nil || diff != "" || loaded != size || size == 0 {
			t.Errorf("Load: %d of %d bytes, %v (-want +got)\n%s", loaded, size, err, diff)
		}
		if !strings.Contains(id, "01RUN") {
			t.Errorf("id %s does not name the run", id)
		}
		ids = append(ids, id)
	}
	other := c
	other.AgentID, other.RunID = "b", "../x"
	if _, _, err := s.Save(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if _, _, err := s.Load(t.Context(), id); errors.Is(err, agent.ErrNoCheckpoint) != (i < 2) {
			t.Errorf("Load of checkpoint %d = %v, want the last three only", i, err)
		}
	}
	for _, id := range []string{"", "../../etc/passwd", "kaizen.lock", ids[0] + "/../x"} {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, agent.ErrNoCheckpoint) {
			t.Errorf("Load(%q) = %v, want ErrNoCheckpoint", id, err)
		}
	}
	path := filepath.Join(dir, ids[4]+".json")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), `"step":4`, `"step":0`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	var corrupt *agent.CorruptError
	if _, _, err := s.Load(t.Context(), ids[4]); !errors.As(err, &corrupt) || corrupt.Path != path {
		t.Errorf("Load = %v, want a CorruptError", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Save(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("Save when cancelled = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Save(t.Context(), c); !errors.Is(err, agent.ErrClosed) {
		t.Errorf("Save after Close = %v", err)
	}
}

// TestCheckpointEachTurn: every turn is saved and announced, and a run that has
// answered cannot be resumed.
func TestCheckpointEachTurn(t *testing.T) {
	ctx, rec := observed(t)
	store := openCheckpoints(t, t.TempDir(), 0)
	a := newAgent(t, agent.Config{Checkpoints: store, Tools: []agent.Tool{weather(t)}, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){
		asks(call("", "weather", `{"city":"Lima"}`), call("", "weather", `{"city":"Oslo"}`)), says("done"),
	}}})
	res, err := a.Run(inSession(ctx, "s"), "x")
	if err != nil {
		t.Fatal(err)
	}
	saves := rec.of(hook.KindCheckpointSave)
	if len(saves) != 2 {
		t.Fatalf("%d saves, want one for each turn", len(saves))
	}
	for i, e := range saves {
		p := e.Payload.(*hook.CheckpointSave)
		c, size, err := store.Load(t.Context(), p.CheckpointID)
		if err != nil || p.Step != i+1 || c.Step != i+1 || size != p.SizeBytes || c.RunID != res.RunID || c.SessionID != "s" || c.Answered != (i == 1) {
			t.Errorf("save %+v, checkpoint %+v, %v", p, c, err)
		}
		if i == 0 && (len(c.Messages) != 3 || c.Messages[1].ToolCalls[0].ID == c.Messages[1].ToolCalls[1].ID) {
			t.Errorf("messages = %+v, want calls that can be told apart", c.Messages)
		}
	}
	if res.CheckpointID != saves[1].Payload.(*hook.CheckpointSave).CheckpointID {
		t.Errorf("result's checkpoint = %s", res.CheckpointID)
	}
	_, err = a.Resume(ctx, res.CheckpointID)
	var failed *agent.CheckpointError
	if !errors.Is(err, agent.ErrFinished) || !errors.As(err, &failed) || failed.Op != "resume" {
		t.Errorf("Resume of an answered run = %v", err)
	}
}

// TestResume: a run is cut off while two of its three tools have a result; what
// is resumed calls the third only, and has all ids and counts right.
func TestResume(t *testing.T) {
	ctx, rec := observed(t)
	ctx, cancel := context.WithCancel(ctx)
	store := openCheckpoints(t, t.TempDir(), 0)
	calledB := 0
	quick := func(name string) agent.Tool {
		return agent.Tool{Name: name, Call: func(context.Context, json.RawMessage) (string, error) { return name + " done", nil }}
	}
	first := make(chan struct{}, 2) // a and c end before the cut
	tools := []agent.Tool{quick("a"), quick("c"), {Name: "b", Call: func(ctx context.Context, _ json.RawMessage) (string, error) {
		calledB++
		if calledB > 1 {
			return "b done", nil
		}
		<-first
		<-first
		cancel()
		<-ctx.Done()
		return "", ctx.Err()
	}}}
	memory := agent.NewWindowMemory(agent.WindowConfig{})
	if err := memory.Save(t.Context(), "s", []agent.Message{user("before"), answer("yes")}); err != nil {
		t.Fatal(err)
	}
	reg := hook.From(ctx)
	if err := reg.Register(hook.Registration{Name: "w", Timeout: time.Minute, Kinds: []hook.Kind{hook.KindTool}, Phases: []hook.Phase{hook.End}, Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
		if n := e.Payload.Label(); n != "b" {
			first <- struct{}{}
		}
		return nil
	})}); err != nil {
		t.Fatal(err)
	}
	var given agent.Request
	a := newAgent(t, agent.Config{Checkpoints: store, Memory: memory, Tools: tools, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){
		asks(call("1", "a", `{}`), call("2", "b", `{}`), call("3", "c", `{}`)),
		func(r agent.Request) (*agent.Response, error) { given = r; return says("all done")(r) },
	}}})
	old, err := a.Run(inSession(ctx, "s"), "work")
	if !errors.Is(err, context.Canceled) || old.CheckpointID == "" {
		t.Fatalf("Run = %+v, %v", old, err)
	}
	c, _, err := store.Load(t.Context(), old.CheckpointID)
	if err != nil || c.Step != 0 || len(c.Messages) != 5 || len(c.Messages[4].ToolResults) != 2 || c.Remembered != 2 {
		t.Fatalf("checkpoint = %+v, %v", c, err)
	}

	reg.Unregister("w")
	ran := len(rec.of(hook.KindTool))
	res, err := a.Resume(hook.With(t.Context(), reg), old.CheckpointID)
	if err != nil {
		t.Fatal(err)
	}
	if res.RunID == old.RunID || res.ResumedFrom != old.RunID || res.Output != "all done" || res.Iterations != 2 || res.ModelCalls != 1 {
		t.Errorf("result = %+v", res)
	}
	if again := rec.of(hook.KindTool)[ran:]; len(again) != 1 || again[0].Payload.Label() != "b" || again[0].Run.SessionID != "s" {
		t.Errorf("tools called again = %+v, want b alone", again)
	}
	want := []agent.ToolResult{{ID: "1", Name: "a", Text: "a done"}, {ID: "2", Name: "b", Text: "b done"}, {ID: "3", Name: "c", Text: "c done"}}
	if diff := cmp.Diff(want, given.Messages[4].ToolResults); diff != "" {
		t.Errorf("results that the model was given (-want +got)\n%s", diff)
	}
	p := rec.of(hook.KindCheckpointLoad)[0].Payload.(*hook.CheckpointLoad)
	if p.CheckpointID != old.CheckpointID || p.SizeBytes == 0 || !strings.Contains(p.CheckpointID, old.RunID) {
		t.Errorf("load = %+v", p)
	}
	last, _, err := store.Load(t.Context(), res.CheckpointID)
	if err != nil || last.Spent.ModelCalls != 2 || last.Spent.Usage.Total() != 16 || last.Step != 2 {
		t.Errorf("last checkpoint = %+v, %v", last, err)
	}
	// What the memory held before is not saved twice.
	if kept, err := memory.Load(t.Context(), "s"); err != nil || len(kept) != 6 {
		t.Errorf("memory = %d messages, %v", len(kept), err)
	}
}

func TestResumeRefuses(t *testing.T) {
	store := openCheckpoints(t, t.TempDir(), 0)
	save := func(c agent.Checkpoint) string {
		id, _, err := store.Save(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	model := &scripted{}
	a := newAgent(t, agent.Config{Model: model, Checkpoints: store})
	tests := []struct {
		name  string
		agent *agent.Agent
		id    string
		want  error
	}{
		{"no checkpoints", newAgent(t, agent.Config{Model: model}), "x", agent.ErrNoCheckpoint},
		{"no such checkpoint", a, "x", agent.ErrNoCheckpoint},
		{"another agent's", a, save(agent.Checkpoint{AgentID: "other", Messages: []agent.Message{user("x")}}), agent.ErrOtherAgent},
		{"answered", a, save(agent.Checkpoint{AgentID: "helper", Answered: true}), agent.ErrFinished},
		{"empty", a, save(agent.Checkpoint{AgentID: "helper"}), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, rec := observed(t)
			res, err := tt.agent.Resume(ctx, tt.id)
			var failed *agent.CheckpointError
			if !errors.As(err, &failed) || failed.ID != tt.id || tt.want != nil && !errors.Is(err, tt.want) || res == nil {
				t.Errorf("Resume = %+v, %v, want %v", res, err, tt.want)
			}
			if e := rec.of(hook.KindRun)[0]; e.Status != hook.Failed {
				t.Errorf("run status = %s", e.Status)
			}
		})
	}
}

// fullDisk is a store that cannot save.
type fullDisk struct{ agent.Checkpoints }

var errFull = errors.New("disk full")

func (fullDisk) Save(context.Context, agent.Checkpoint) (string, int64, error) {
	return "", 0, errFull
}

func TestCheckpointFails(t *testing.T) {
	ctx, rec := observed(t)
	a := newAgent(t, agent.Config{Checkpoints: fullDisk{}, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){says("hi")}}})
	res, err := a.Run(ctx, "x")
	var failed *agent.CheckpointError
	if !errors.As(err, &failed) || failed.Op != "save" || !errors.Is(err, errFull) || res.Output != "hi" {
		t.Errorf("Run = %+v, %v", res, err)
	}
	if e := rec.of(hook.KindCheckpointSave)[0]; e.Status != hook.Failed {
		t.Errorf("event = %+v", e)
	}
}

func ExampleAgent_Resume() {
	dir, err := os.MkdirTemp("", "checkpoints")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := agent.OpenFileCheckpoints(dir, agent.FileCheckpointsConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	var a *agent.Agent
	look := agent.Tool{Name: "look", Call: func(context.Context, json.RawMessage) (string, error) {
		a.Interrupt(agent.Graceful, "operator", "the office closes")
		return "seen", nil
	}}
	model := &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(call("1", "look", `{}`)), says("I have seen it.")}}
	a, err = agent.New(agent.Config{Name: "scout", Model: model, Tools: []agent.Tool{look}, Checkpoints: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	_, err = a.Run(ctx, "Look around.")
	var stopped *agent.InterruptedError
	if errors.As(err, &stopped) {
		fmt.Println(stopped)
		res, err := a.Resume(ctx, stopped.CheckpointID)
		fmt.Println(res.Output, err)
	}
	// Output:
	// interrupted by operator (graceful): the office closes
	// I have seen it. <nil>
}
