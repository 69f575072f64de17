//go:build unix

package hook_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/price"
)

// TestMain makes the test binary its own handler program: an argument, as there
// is no environment, says which one it is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if name, ok := strings.CutPrefix(os.Args[1], "program:"); ok {
			// Not os.Exit: under the race detector that waits a second.
			syscall.Exit(program(name, os.Args[2:]))
		}
	}
	code := m.Run()
	if cfg, err := self(); err == nil {
		_ = os.RemoveAll(filepath.Dir(cfg.Path))
	}
	os.Exit(code)
}

func program(name string, args []string) int {
	switch name {
	case "silent":
	case "allow":
		fmt.Println(`{"decision":"allow"}`)
	case "echo": // denies with what it read as the reason
		in, err := io.ReadAll(os.Stdin)
		if err != nil {
			return 9
		}
		deny(string(in))
	case "surroundings":
		dir, _ := os.Getwd()
		deny(fmt.Sprintf("%v %v %s", os.Args[2:], os.Environ(), dir))
	case "garbage":
		fmt.Println(`yes`)
	case "crash":
		fmt.Println(`{"decision":"deny","reason":"crashed"}`)
		fmt.Fprintln(os.Stderr, strings.Repeat("noise ", 1000)+"disk on fire")
		return 3
	case "panic":
		panic("oh no")
	case "flood":
		for {
			if _, err := os.Stdout.Write(make([]byte, 4096)); err != nil {
				return 1
			}
		}
	case "flood stderr":
		for range 1000 {
			_, _ = os.Stderr.Write(make([]byte, 4096))
		}
	case "hang":
		alive(args[0])
		hang()
	case "hang with child", "leave a child":
		cmd := exec.Command(args[1], "program:hang", args[0])
		cmd.Stdout = os.Stdout // the child holds the pipe open
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 9
		}
		if name == "hang with child" {
			hang()
		}
	}
	return 0
}

func deny(reason string) {
	_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"decision": "deny", "reason": reason})
}

// alive opens the named pipe for writing until this process ends.
func alive(fifo string) {
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err == nil {
		_, _ = f.WriteString("alive\n")
		kept = f
	}
}

var kept *os.File // a file that is not referred to would be closed

func hang() {
	r, w, _ := os.Pipe()
	_, _ = r.Read(make([]byte, 1))
	_ = w.Close()
}

// self returns the configuration of a copy of the test binary, which itself may
// be writable by its group: that depends on who builds it.
var self = sync.OnceValues(func() (cfg hook.ProgramConfig, err error) {
	path, err := os.Executable()
	if err != nil {
		return cfg, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return cfg, err
	}
	dir, err := os.MkdirTemp("", "kaizen-hook-test-")
	if err != nil {
		return cfg, err
	}
	cfg.Path = filepath.Join(dir, "handler")
	if err := os.WriteFile(cfg.Path, b, 0o700); err != nil {
		return cfg, err
	}
	cfg.SHA256, err = hashFile(cfg.Path)
	cfg.Timeout = time.Minute
	return cfg, err
})

func hashFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}

func selfConfig(t testing.TB, args ...string) hook.ProgramConfig {
	t.Helper()
	cfg, err := self()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Args = append([]string{"program:" + args[0]}, args[1:]...)
	return cfg
}

func newProgram(t testing.TB, cfg hook.ProgramConfig) *hook.Program {
	t.Helper()
	p, err := hook.NewProgram(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func toolStart() hook.Event {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return hook.Event{Op: 7, Parent: 6, Phase: hook.Start, Time: now, Start: now, Payload: &hook.Tool{Name: "shell", Arguments: `{"cmd":"ls"}`}}
}

func TestProgramAnswers(t *testing.T) {
	tests := []struct {
		name, program string
		deny, err     string // what the reason or the error contains
	}{
		{"silent", "silent", "", ""},
		{"allow", "allow", "", ""},
		{"deny", "echo", `"kind":"tool"`, ""},
		{"not JSON", "garbage", "", `its answer "yes\n"`},
		{"exit code", "crash", "", "exit status 3: it wrote"},
		{"panic", "panic", "", "oh no"},
		{"huge output", "flood", "", "too much output: more than 65536 bytes"},
		{"huge error output", "flood stderr", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := newProgram(t, selfConfig(t, tt.program)).Handle(t.Context(), toolStart())
			denied, ok := errors.AsType[*hook.DeniedError](err)
			switch {
			case tt.deny != "":
				if !ok || !strings.Contains(denied.Reason, tt.deny) || denied.Name != "shell" {
					t.Errorf("Handle = %v, want a denial with %q", err, tt.deny)
				}
			case tt.err != "":
				if ok || err == nil || !strings.Contains(err.Error(), tt.err) || len(err.Error()) > 2500 {
					t.Errorf("Handle = %v, want a short error with %q", err, tt.err)
				}
			case err != nil:
				t.Errorf("Handle = %v, want nil", err)
			}
		})
	}
}

// TestProgramErrorQuotesEnd: the last words tell most.
func TestProgramErrorQuotesEnd(t *testing.T) {
	err := newProgram(t, selfConfig(t, "crash")).Handle(t.Context(), toolStart())
	if err == nil || !strings.HasSuffix(err.Error(), `disk on fire"`) {
		t.Errorf("Handle = %v, want the end of the standard error", err)
	}
}

// TestProgramReadsNothing: a program need not read its input, however long.
func TestProgramReadsNothing(t *testing.T) {
	e := toolStart()
	e.Payload = &hook.Tool{Name: "x", Arguments: strings.Repeat("x", 1<<20)}
	if err := newProgram(t, selfConfig(t, "allow")).Handle(t.Context(), e); err != nil {
		t.Error(err)
	}
}

func TestProgramInput(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.FixedZone("", 3600))
	temperature := 0.5
	run := hook.Run{RunID: "r", ParentRunID: "p", AgentID: "a", AgentName: "A", SessionID: "s", UserID: "u"}
	tests := []struct {
		name string
		e    hook.Event
		want string
	}{
		{"start of a tool", toolStart(), `{"version":1,"op":7,"parent":6,"phase":"start","kind":"tool","time":"2026-01-02T03:04:05Z",` +
			`"payload":{"name":"shell","arguments":"{\"cmd\":\"ls\"}"}}`},
		{"end of a model call", hook.Event{Op: 1, Phase: hook.End, Start: at, Time: at.Add(1500 * time.Microsecond), Run: run,
			Status: hook.Failed, Err: errors.New("no <answer>"),
			Payload: &hook.ModelCall{Provider: "openai", Model: "m", Temperature: &temperature, FinishReasons: []string{"stop"},
				Usage: price.Usage{Input: 3}, HasUsage: true, FirstChunk: 250 * time.Microsecond, CostNanoUSD: 12, Priced: true,
				Input: json.RawMessage(`[1]`)}},
			`{"version":1,"op":1,"phase":"end","kind":"model","time":"2026-01-02T02:04:05.0075Z","duration_ms":1.5,"status":"error",` +
				`"error":"no \u003canswer\u003e","run_id":"r","parent_run_id":"p","agent_id":"a","agent_name":"A","session_id":"s","user_id":"u",` +
				`"payload":{"provider":"openai","model":"m","temperature":0.5,"finish_reasons":["stop"],` +
				`"usage":{"input":3,"cache_read":0,"cache_write":0,"output":0,"reasoning":0},"has_usage":true,"cost_nano_usd":12,"priced":true,` +
				`"input":[1],"first_chunk_ms":0.25}}`},
		{"end of a run", hook.Event{Op: 1, Phase: hook.End, Start: at, Time: at, Status: hook.OK, Payload: &hook.RunInfo{Iterations: 2, StopReason: "answer"}},
			`{"version":1,"op":1,"phase":"end","kind":"run","time":"2026-01-02T02:04:05.006Z","duration_ms":0,"status":"ok",` +
				`"payload":{"iterations":2,"stop_reason":"answer"}}`},
	}
	p := newProgram(t, selfConfig(t, "echo"))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			denied, ok := errors.AsType[*hook.DeniedError](p.Handle(t.Context(), tt.e))
			if !ok {
				t.Fatal("the program did not echo")
			}
			if diff := cmp.Diff(tt.want+"\n", denied.Reason); diff != "" {
				t.Errorf("input (-want +got):\n%s", diff)
			}
		})
	}
}

// TestProgramSurroundings: nothing of this process's environment is passed on.
func TestProgramSurroundings(t *testing.T) {
	t.Setenv("KAIZEN_TEST_SECRET", "x")
	tests := []struct {
		name string
		env  []string
		dir  string
		want string
	}{
		{"empty", nil, "", "[a b;c] [] /"},
		{"given", []string{"A=1"}, "/tmp", "[a b;c] [A=1] /tmp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := selfConfig(t, "surroundings", "a", "b;c")
			cfg.Env, cfg.Dir = tt.env, tt.dir
			err := newProgram(t, cfg).Handle(t.Context(), toolStart())
			if denied, ok := errors.AsType[*hook.DeniedError](err); !ok || denied.Reason != tt.want {
				t.Errorf("Handle = %v, want a refusal with the arguments, environment and directory %s", err, tt.want)
			}
		})
	}
}

// fifo makes a named pipe whose writers are programs that are alive.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProgramIsKilled: a run that hangs ends with its context, and so do the
// children that it has started.
func TestProgramIsKilled(t *testing.T) {
	for _, name := range []string{"hang", "hang with child"} {
		t.Run(name, func(t *testing.T) {
			pipe := fifo(t)
			cfg := selfConfig(t, name, pipe)
			cfg.Args = append(cfg.Args, cfg.Path)
			p := newProgram(t, cfg)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- p.Handle(ctx, toolStart()) }()
			f, err := os.Open(pipe) // waits for the program
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			r := bufio.NewReader(f)
			if line, err := r.ReadString('\n'); err != nil {
				t.Fatalf("the program said %q, %v", line, err)
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "killed") {
				t.Errorf("Handle = %v, want it killed", err)
			}
			if _, err := r.ReadByte(); err != io.EOF { // when nobody holds it open
				t.Errorf("read = %v, want the end", err)
			}
		})
	}
}

// TestProgramDeadline uses the program's own limit, with no other.
func TestProgramDeadline(t *testing.T) {
	cfg := selfConfig(t, "hang", "/dev/null")
	cfg.Timeout = 10 * time.Millisecond
	err := newProgram(t, cfg).Handle(t.Context(), toolStart())
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Handle = %v, want its deadline", err)
	}
}

// TestProgramLeavesNothing: what a program leaves running ends with it, and
// does not hold up its answer.
func TestProgramLeavesNothing(t *testing.T) {
	pipe := fifo(t)
	// Opened for both, so that neither side waits for the other.
	f, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	cfg := selfConfig(t, "leave a child", pipe)
	cfg.Args = append(cfg.Args, cfg.Path)
	p := newProgram(t, cfg)
	if err := p.Handle(t.Context(), toolStart()); err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err != nil { // ends when the child is gone
		t.Fatal(err)
	}
}

// script writes an executable that denies with the given reason.
func script(t *testing.T, path, reason string) (sum string) {
	t.Helper()
	text := "#!/bin/sh\necho '{\"decision\":\"deny\",\"reason\":\"" + reason + "\"}'\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	sum, err := hashFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestProgramChangedAfterPinning: what runs is what was checked.
func TestProgramChangedAfterPinning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guard")
	cfg := hook.ProgramConfig{Path: path, SHA256: script(t, path, "first"), Timeout: time.Minute}
	p := newProgram(t, cfg)
	reason := func() string {
		denied, ok := errors.AsType[*hook.DeniedError](p.Handle(t.Context(), toolStart()))
		if !ok {
			t.Fatal("the script did not answer")
		}
		return denied.Reason
	}
	if got := reason(); got != "first" {
		t.Fatalf("reason = %q, want first", got)
	}
	script(t, path, "second") // the same file with other bytes
	if got := reason(); got != "first" {
		t.Errorf("reason = %q after the file changed: other bytes ran than were checked", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := reason(); got != "first" {
		t.Errorf("reason = %q after the file was removed", got)
	}
	script(t, path, "second")
	if _, err := hook.NewProgram(cfg); !errors.Is(err, hook.ErrProgram) || !strings.Contains(err.Error(), "pinned is "+cfg.SHA256) {
		t.Errorf("NewProgram of other bytes = %v, want ErrProgram with both hashes", err)
	}
}

func TestNewProgramRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "guard")
	sum := script(t, path, "x")
	with := func(mode os.FileMode) string {
		p := filepath.Join(dir, fmt.Sprintf("mode-%o", mode))
		script(t, p, "x")
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	pipe := fifo(t)
	if err := os.Chmod(pipe, 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  hook.ProgramConfig
		want string
	}{
		{"no pin", hook.ProgramConfig{Path: path}, "64 hex digits"},
		{"short pin", hook.ProgramConfig{Path: path, SHA256: "abcd"}, "64 hex digits"},
		{"pin that is no hex", hook.ProgramConfig{Path: path, SHA256: strings.Repeat("x", 64)}, "64 hex digits"},
		{"another pin", hook.ProgramConfig{Path: path, SHA256: strings.Repeat("0", 64)}, "its SHA-256 is " + sum},
		{"relative", hook.ProgramConfig{Path: "guard", SHA256: sum}, "must be absolute"},
		{"relative directory", hook.ProgramConfig{Path: path, SHA256: sum, Dir: "x"}, "must be absolute"},
		{"not executable", hook.ProgramConfig{Path: with(0o600), SHA256: sum}, "not executable"},
		{"writable by its group", hook.ProgramConfig{Path: with(0o720), SHA256: sum}, "others may write"},
		{"writable by all", hook.ProgramConfig{Path: with(0o702), SHA256: sum}, "others may write"},
		{"directory", hook.ProgramConfig{Path: "/", SHA256: sum}, "not a regular file"},
		{"named pipe", hook.ProgramConfig{Path: pipe, SHA256: sum}, "not a regular file"},
		{"environment", hook.ProgramConfig{Path: path, SHA256: sum, Env: []string{"A"}}, "KEY=value"},
		{"zero byte", hook.ProgramConfig{Path: path, SHA256: sum, Args: []string{"a\x00b"}}, "zero byte"},
		{"negative limit", hook.ProgramConfig{Path: path, SHA256: sum, MaxOutputBytes: -1}, "negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := hook.NewProgram(tt.cfg)
			if !errors.Is(err, hook.ErrProgram) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewProgram = %v, want ErrProgram with %q", err, tt.want)
			}
		})
	}
	if _, err := hook.NewProgram(hook.ProgramConfig{Path: filepath.Join(dir, "none"), SHA256: sum}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("NewProgram of a missing file = %v, want os.ErrNotExist", err)
	}
}

// TestProgramCloses: events at once with each other and with Close.
func TestProgramCloses(t *testing.T) {
	p := newProgram(t, selfConfig(t, "allow"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := p.Handle(t.Context(), toolStart()); err != nil && !strings.HasSuffix(err.Error(), "closed") {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if err := p.Handle(t.Context(), toolStart()); err == nil {
		t.Error("Handle after Close succeeded")
	}
}

// TestProgramInRegistry: a program refuses an operation, and one that hangs
// keeps nobody.
func TestProgramInRegistry(t *testing.T) {
	do := func(name string, timeout time.Duration) (hook.Stats, error) {
		reg := hook.New(hook.Config{})
		err := reg.Register(hook.Registration{Name: "p", Handler: newProgram(t, selfConfig(t, name, "/dev/null")),
			Phases: []hook.Phase{hook.Start}, Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		err = reg.Do(t.Context(), &hook.Tool{Name: "shell"}, func(context.Context, *hook.Op) error { return nil })
		return reg.Stats()[0], err
	}
	stats, err := do("echo", time.Minute)
	if denied, ok := errors.AsType[*hook.DeniedError](err); !ok || denied.By != "p" || stats.Denials != 1 {
		t.Errorf("Do = %v, %+v, want a denial by p", err, stats)
	}
	if stats, err = do("hang", 10*time.Millisecond); err != nil || stats.Timeouts+stats.Errors != 1 {
		t.Errorf("Do with a program that hangs = %v, %+v", err, stats)
	}
	if stats, err = do("crash", time.Minute); err != nil || stats.Errors != 1 {
		t.Errorf("Do with a program that crashes = %v, %+v, want one error and no denial", err, stats)
	}
}

func ExampleNewProgram() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	// Any executable will do: this one is a shell script.
	path := filepath.Join(dir, "guard")
	text := `#!/bin/sh
read event
case "$event" in
*'"name":"shell"'*) echo '{"decision":"deny","reason":"no shells"}' ;;
esac
`
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		fmt.Println(err)
		return
	}
	guard, err := hook.NewProgram(hook.ProgramConfig{
		Path:    path,
		SHA256:  "0b483152e4de28538897313d0c94a84c31a64eea156e19a1eb5351c8e9e04e9b", // as sha256sum prints it
		Timeout: 10 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer guard.Close()

	reg := hook.New(hook.Config{})
	err = reg.Register(hook.Registration{
		Name: "guard", Handler: guard, Timeout: 10 * time.Second,
		Kinds: []hook.Kind{hook.KindTool}, Phases: []hook.Phase{hook.Start},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, tool := range []string{"search", "shell"} {
		fmt.Println(tool, reg.Do(context.Background(), &hook.Tool{Name: tool}, func(context.Context, *hook.Op) error { return nil }))
	}
	// Output:
	// search <nil>
	// shell tool shell denied by guard: no shells
}

func ExampleLoadPrograms() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	guard, list := filepath.Join(dir, "guard"), filepath.Join(dir, "programs.json")
	entry := `[{"name": "guard", "path": "` + guard + `", "phases": ["start"], "timeout": "10s",
		"sha256": "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf"}]`
	err = errors.Join(os.WriteFile(guard, []byte("#!/bin/sh\n"), 0o700), os.WriteFile(list, []byte(entry), 0o600))
	if err != nil {
		fmt.Println(err)
		return
	}
	regs, err := hook.LoadPrograms(list)
	if err != nil {
		fmt.Println(err)
		return
	}
	reg := hook.New(hook.Config{})
	for _, r := range regs {
		defer r.Handler.(*hook.Program).Close()
		fmt.Println(r.Name, r.Timeout, reg.Register(r))
	}
	// Output: guard 10s <nil>
}
