package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/hook"
)

func user(text string) agent.Message { return agent.Message{Role: agent.User, Text: text} }
func answer(text string) agent.Message {
	return agent.Message{Role: agent.Assistant, Text: text}
}
func wish(id string) agent.Message {
	return agent.Message{Role: agent.Assistant, ToolCalls: []agent.ToolCall{call(id, "t", `{"a":1}`)}}
}
func result(id string) agent.Message {
	return agent.Message{Role: agent.ToolRole, ToolResults: []agent.ToolResult{{ID: id, Name: "t", Text: "r" + id}}}
}

func inSession(ctx context.Context, session string) context.Context {
	return kaizen.WithRun(ctx, kaizen.Run{SessionID: session, UserID: "u"})
}

// memories are all memories, each with the same bounds.
func memories(t *testing.T, cfg agent.WindowConfig) map[string]agent.Memory {
	t.Helper()
	file, err := agent.OpenFileMemory(filepath.Join(t.TempDir(), "memory"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	return map[string]agent.Memory{"window": agent.NewWindowMemory(cfg), "file": file}
}

func TestMemoryWindow(t *testing.T) {
	long := strings.Repeat("x", 100)
	tests := []struct {
		name  string
		cfg   agent.WindowConfig
		saved [][]agent.Message
		want  []agent.Message
	}{
		{"nothing", agent.WindowConfig{}, nil, nil},
		{"all fits", agent.WindowConfig{Messages: 4}, [][]agent.Message{{user("1"), answer("2")}, {user("3"), answer("4")}}, []agent.Message{user("1"), answer("2"), user("3"), answer("4")}},
		{"oldest goes", agent.WindowConfig{Messages: 2}, [][]agent.Message{{user("1"), answer("2")}, {user("3"), answer("4")}}, []agent.Message{user("3"), answer("4")}},
		{"begins with the user", agent.WindowConfig{Messages: 3}, [][]agent.Message{{user("1"), answer("2")}, {user("3"), answer("4")}}, []agent.Message{user("3"), answer("4")}},
		{"result without its call", agent.WindowConfig{Messages: 2}, [][]agent.Message{{user("1"), wish("a"), result("a"), answer("2")}}, []agent.Message{answer("2")}},
		{"call with its result", agent.WindowConfig{Messages: 3}, [][]agent.Message{{user("1"), wish("a"), result("a"), answer("2")}}, []agent.Message{wish("a"), result("a"), answer("2")}},
		{"only a result is left", agent.WindowConfig{Messages: 1}, [][]agent.Message{{user("1"), wish("a"), result("a")}}, nil},
		{"too many bytes", agent.WindowConfig{Bytes: 110}, [][]agent.Message{{user(long), answer("2")}, {user(long), answer("4")}}, []agent.Message{user(long), answer("4")}},
		{"one is too large", agent.WindowConfig{Bytes: 50}, [][]agent.Message{{user("1"), answer(long)}}, nil},
		{"arguments that are no JSON", agent.WindowConfig{}, [][]agent.Message{{user("1"), {Role: agent.Assistant, ToolCalls: []agent.ToolCall{call("a", "t", `"{"`)}}, result("a")}}, []agent.Message{user("1"), {Role: agent.Assistant, ToolCalls: []agent.ToolCall{call("a", "t", `"{"`)}}, result("a")}},
	}
	for _, tt := range tests {
		for name, m := range memories(t, tt.cfg) {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				for _, ms := range tt.saved {
					if err := m.Save(t.Context(), "s", ms); err != nil {
						t.Fatal(err)
					}
				}
				got, err := m.Load(t.Context(), "s")
				if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
					t.Errorf("Load: %v (-want +got)\n%s", err, diff)
				}
				if other, err := m.Load(t.Context(), "S"); err != nil || len(other) != 0 {
					t.Errorf("Load of another session = %v, %v", other, err)
				}
			})
		}
	}
}

// TestMemoryCopies: what a caller does to what it gave or got changes nothing.
func TestMemoryCopies(t *testing.T) {
	for name, m := range memories(t, agent.WindowConfig{}) {
		t.Run(name, func(t *testing.T) {
			given := []agent.Message{user("1"), wish("a"), result("a")}
			if err := m.Save(t.Context(), "s", given); err != nil {
				t.Fatal(err)
			}
			spoil := func(ms []agent.Message) {
				ms[0].Text, ms[1].ToolCalls[0].Name, ms[1].ToolCalls[0].Arguments[1], ms[2].ToolResults[0].Text = "x", "x", 'x', "x"
			}
			spoil(given)
			got, err := m.Load(t.Context(), "s")
			if err != nil {
				t.Fatal(err)
			}
			spoil(got)
			got, err = m.Load(t.Context(), "s")
			if diff := cmp.Diff([]agent.Message{user("1"), wish("a"), result("a")}, got); err != nil || diff != "" {
				t.Errorf("Load: %v (-want +got)\n%s", err, diff)
			}
		})
	}
}

// TestMemoryAtOnce: runs of one session at the same moment lose nothing.
func TestMemoryAtOnce(t *testing.T) {
	const runs = 20
	for name, m := range memories(t, agent.WindowConfig{}) {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			for i := range runs {
				wg.Go(func() {
					if err := m.Save(t.Context(), "s", []agent.Message{user(fmt.Sprint(i)), answer("ok")}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			got, err := m.Load(t.Context(), "s")
			if err != nil || len(got) != 2*runs {
				t.Errorf("Load = %d messages, %v, want %d", len(got), err, 2*runs)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			gone := errors.New("gone")
			cancel(gone)
			if _, err := m.Load(ctx, "s"); !errors.Is(err, gone) {
				t.Errorf("Load when cancelled = %v", err)
			}
			if err := m.Save(ctx, "s", nil); !errors.Is(err, gone) {
				t.Errorf("Save when cancelled = %v", err)
			}
		})
	}
}

func TestWindowMemorySessions(t *testing.T) {
	m := agent.NewWindowMemory(agent.WindowConfig{Sessions: 2})
	for _, s := range []string{"a", "b", "a", "c"} { // b was not used for the longest time
		if err := m.Save(t.Context(), s, []agent.Message{user(s)}); err != nil {
			t.Fatal(err)
		}
	}
	for s, want := range map[string]int{"a": 2, "b": 0, "c": 1} {
		if got, err := m.Load(t.Context(), s); err != nil || len(got) != want {
			t.Errorf("Load(%s) = %d messages, %v, want %d", s, len(got), err, want)
		}
	}
	if m.Evicted() != 1 {
		t.Errorf("evicted = %d, want 1", m.Evicted())
	}
}

func TestFileMemory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	open := func() *agent.FileMemory {
		t.Helper()
		m, err := agent.OpenFileMemory(dir, agent.WindowConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := open()
	if _, err := agent.OpenFileMemory(dir, agent.WindowConfig{}); err == nil {
		t.Error("a second memory in the same directory was opened")
	}
	// Names that are hostile, alike but for case, too long, or no text.
	sessions := []string{"../../etc/passwd", "a/b", "A", "a", "", ".", "con", "nul\x00", "\xff", "\xfe", strings.Repeat("long", 200), "日本"}
	for _, s := range sessions {
		if err := m.Save(t.Context(), s, []agent.Message{user("I am " + s)}); err != nil {
			t.Fatalf("Save(%q): %v", s, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	if _, err := m.Load(t.Context(), "a"); !errors.Is(err, agent.ErrClosed) {
		t.Errorf("Load after Close = %v, want ErrClosed", err)
	}
	m = open()
	defer m.Close()
	for _, s := range sessions {
		got, err := m.Load(t.Context(), s)
		if err != nil || len(got) != 1 || got[0].Text != strings.ToValidUTF8("I am "+s, "\uFFFD") {
			t.Errorf("Load(%q) = %v, %v", s, got, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(sessions)+1 {
		t.Errorf("%d files, %v, want one for each session and the lock", len(entries), err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v, want the owner's alone", e.Name(), info.Mode(), err)
		}
	}
	if err := m.Forget(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := m.Forget(t.Context(), "never seen"); err != nil {
		t.Error(err)
	}
	if got, err := m.Load(t.Context(), "a"); err != nil || got != nil {
		t.Errorf("Load of a forgotten session = %v, %v", got, err)
	}
}

func TestFileMemoryCorrupt(t *testing.T) {
	tests := []struct {
		name   string
		change func([]byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"cut at a line", func(b []byte) []byte { return b[:strings.LastIndexByte(string(b[:len(b)-1]), '\n')+1] }},
		{"cut within a line", func(b []byte) []byte { return b[:len(b)-3] }},
		{"a letter changed", func(b []byte) []byte { return []byte(strings.Replace(string(b), "hello", "hullo", 1)) }},
		{"a line more", func(b []byte) []byte { return append(b, `{"role":"user","text":"x"}`+"\n"...) }},
		{"another session's", func(b []byte) []byte { return []byte(strings.Replace(string(b), `"key":"s"`, `"key":"t"`, 1)) }},
		{"another format", func(b []byte) []byte { return []byte(strings.Replace(string(b), "memory/1", "memory/2", 1)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			m, err := agent.OpenFileMemory(dir, agent.WindowConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := m.Save(t.Context(), "s", []agent.Message{user("hello"), answer("hi")}); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			b, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files[0], tt.change(b), 0o600); err != nil {
				t.Fatal(err)
			}
			var corrupt *agent.CorruptError
			if _, err := m.Load(t.Context(), "s"); !errors.As(err, &corrupt) || corrupt.Path != files[0] {
				t.Errorf("Load = %v, want a CorruptError", err)
			}
			if err := m.Save(t.Context(), "s", []agent.Message{user("x")}); !errors.As(err, &corrupt) {
				t.Errorf("Save = %v, want a CorruptError", err)
			}
		})
	}
}

// TestRunRemembers: a run of a session goes on where the last one ended, and is
// announced.
func TestRunRemembers(t *testing.T) {
	for name, m := range memories(t, agent.WindowConfig{}) {
		t.Run(name, func(t *testing.T) {
			ctx, rec := observed(t)
			var seen []int
			count := func(req agent.Request) { seen = append(seen, len(req.Messages)) }
			a := newAgent(t, agent.Config{Memory: m, Tools: []agent.Tool{weather(t)}, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){
				func(r agent.Request) (*agent.Response, error) {
					count(r)
					return asks(call("1", "weather", `{"city":"Lima"}`))(r)
				},
				func(r agent.Request) (*agent.Response, error) { count(r); return says("sunny")(r) },
				func(r agent.Request) (*agent.Response, error) { count(r); return says("you asked for Lima")(r) },
				func(r agent.Request) (*agent.Response, error) { count(r); return nil, errors.New("down") },
				func(r agent.Request) (*agent.Response, error) { count(r); return says("still")(r) },
				func(r agent.Request) (*agent.Response, error) { count(r); return says("who?")(r) },
			}}})
			s := inSession(ctx, "s")
			for i, c := range []context.Context{s, s, s, s, ctx} {
				res, err := a.Run(c, "question")
				if (err != nil) != (i == 2) || res == nil {
					t.Fatalf("run %d = %v, %v", i, res, err)
				}
			}
			// A run that failed is not remembered, nor is one without a session.
			if diff := cmp.Diff([]int{1, 3, 5, 7, 7, 1}, seen); diff != "" {
				t.Errorf("messages that the model was given (-want +got)\n%s", diff)
			}
			loads, saves := rec.of(hook.KindMemoryLoad), rec.of(hook.KindMemorySave)
			if len(loads) != 4 || len(saves) != 3 {
				t.Fatalf("%d loads and %d saves, want 4 and 3", len(loads), len(saves))
			}
			if p := loads[1].Payload.(*hook.MemoryLoad); p.Store != name || p.Records != 4 || loads[1].Run.SessionID != "s" {
				t.Errorf("load = %+v of %+v", p, loads[1].Run)
			}
			if p := saves[0].Payload.(*hook.MemorySave); p.Store != name || p.Records != 4 {
				t.Errorf("save = %+v", p)
			}
		})
	}
}

// brokenMemory fails to load or to save.
type brokenMemory struct{ load, save error }

func (m brokenMemory) Load(context.Context, string) ([]agent.Message, error) { return nil, m.load }
func (m brokenMemory) Save(context.Context, string, []agent.Message) error   { return m.save }

func TestRunWithBrokenMemory(t *testing.T) {
	disk := errors.New("no disk")
	for _, tt := range []struct {
		op     string
		memory brokenMemory
		output string
		kind   hook.Kind
	}{
		{"load", brokenMemory{load: disk}, "", hook.KindMemoryLoad},
		{"save", brokenMemory{save: disk}, "hi", hook.KindMemorySave},
	} {
		t.Run(tt.op, func(t *testing.T) {
			ctx, rec := observed(t)
			a := newAgent(t, agent.Config{Memory: tt.memory, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){says("hi")}}})
			res, err := a.Run(inSession(ctx, "s"), "x")
			var failed *agent.MemoryError
			if !errors.As(err, &failed) || failed.Op != tt.op || failed.Session != "s" || !errors.Is(err, disk) {
				t.Errorf("Run = %v, want a MemoryError", err)
			}
			if res.Output != tt.output {
				t.Errorf("output = %q, want %q beside the error", res.Output, tt.output)
			}
			if e := rec.of(tt.kind)[0]; e.Status != hook.Failed || !errors.Is(e.Err, disk) {
				t.Errorf("event = %+v", e)
			}
			if e := rec.of(hook.KindRun)[0]; e.Status != hook.Failed {
				t.Errorf("run status = %s", e.Status)
			}
		})
	}
}

// TestAnswerIsRemembered though the caller is gone by then.
func TestAnswerIsRemembered(t *testing.T) {
	m := agent.NewWindowMemory(agent.WindowConfig{})
	ctx, cancel := context.WithCancel(inSession(t.Context(), "s"))
	a := newAgent(t, agent.Config{Memory: m, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){
		func(r agent.Request) (*agent.Response, error) { cancel(); return says("hi")(r) },
	}}})
	if _, err := a.Run(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Load(t.Context(), "s"); err != nil || len(got) != 2 {
		t.Errorf("Load = %v, %v", got, err)
	}
}

func ExampleWindowMemory() {
	model := &scripted{turns: []func(agent.Request) (*agent.Response, error){
		says("Nice to meet you, Ada."), says("Your name is Ada."),
	}}
	a, err := agent.New(agent.Config{Name: "helper", Model: model, Memory: agent.NewWindowMemory(agent.WindowConfig{Messages: 20})})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := kaizen.WithRun(context.Background(), kaizen.Run{SessionID: "chat-1"})
	for _, input := range []string{"I am Ada.", "Who am I?"} {
		res, err := a.Run(ctx, input)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(len(res.Messages), res.Output)
	}
	// Output:
	// 2 Nice to meet you, Ada.
	// 4 Your name is Ada.
}

func ExampleOpenFileMemory() {
	dir, err := os.MkdirTemp("", "memory")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	m, err := agent.OpenFileMemory(dir, agent.WindowConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	ctx := context.Background()
	if err := m.Save(ctx, "chat-1", []agent.Message{{Role: agent.User, Text: "I am Ada."}}); err != nil {
		fmt.Println(err)
		return
	}
	messages, err := m.Load(ctx, "chat-1")
	fmt.Println(len(messages), messages[0].Text, err)
	// Output: 1 I am Ada. <nil>
}
