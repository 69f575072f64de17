package hook

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// ProgramConfig says which program a [Program] runs and how.
type ProgramConfig struct {
	// Path is the executable's absolute path. It must be a regular file that is
	// executable, belongs to this user or to root, and that no other user may
	// write to.
	Path string
	// Args are the program's arguments, without its name. No shell reads them.
	Args []string
	// SHA256 is the hash of the executable, 64 hex digits. It is required.
	SHA256 string
	// Timeout is how long one run may take; [DefaultTimeout] if zero. An earlier
	// deadline of the caller counts too.
	Timeout time.Duration
	// MaxOutputBytes is how much the program may write to its standard output;
	// 64 KiB if zero. A program that writes more is killed.
	MaxOutputBytes int
	// Env is the program's environment, as KEY=value. If empty, so is the
	// environment: nothing of this process's own is passed on.
	Env []string
	// Dir is the program's working directory, absolute; "/" if empty.
	Dir string
}

const (
	defaultOutputBytes = 64 << 10
	// stderrBytes is how much of a program's standard error its error text quotes.
	stderrBytes = 1 << 10
	// maxProgramBytes bounds the memory that a pinned program takes.
	maxProgramBytes = 256 << 20
	// pipeDelay is how long a run waits for pipes that a descendant outside of
	// its process group keeps open. What the program wrote is read in that time
	// too: on a busy machine the goroutines that do so may be late, and an answer
	// must not be lost for that.
	pipeDelay = 5 * time.Second
)

// ErrProgram is in the error of a program that may not be run as it stands: its
// file or configuration is not as it must be.
var ErrProgram = errors.New("program refused")

// Program is a [Handler] that runs an executable for each event. It works on
// Unix only. Its methods may be called at once from any number of goroutines,
// each event in a process of its own.
//
// The program gets the event as one line of JSON on its standard input:
//
//	version        1
//	op, parent     numbers of the operation and of the one around it
//	phase          "start" or "end"
//	kind           as [Kind.String] has it: "tool", "model", …
//	time           of the phase, RFC 3339, UTC
//	duration_ms    at the end: how long the operation took
//	status, error  at the end: "ok", "error", "denied" or "cancelled"; the error's text
//	run_id, parent_run_id, agent_id, agent_name, session_id, user_id
//	payload        the fields of the event's payload, in snake case; durations in ms
//
// What is empty is left out. Content (arguments, answers) is there as far as
// the payload has it.
//
// It answers with nothing, or with {"decision":"allow"} or
// {"decision":"deny","reason":"…"}. Another answer or an exit code other than
// zero is an error, and as with any handler an error refuses nothing.
//
// A run that is over its time, or writes too much, is killed with all of its
// process group; so is whatever the program leaves running in its group. A
// program that starts a session of its own escapes that: this is a fence
// against accidents, not a sandbox, and the program has the rights of this
// process.
//
// # The pin
//
// Checking the hash of a path and then executing the path would leave a moment
// in which somebody can put another file there. So the file is opened once, its
// bytes are copied to memory that is then sealed against any change (on systems
// without such memory: to a file that only this user can reach), the copy's
// hash is compared, and that copy is what every run executes. Replacing the
// file later has no effect on a Program; it needs a new one, with a new pin.
// Of a script only its own text is pinned, not its interpreter.
type Program struct {
	cfg ProgramConfig

	mu     sync.RWMutex // held for reading while a process starts
	exe    pinned
	closed bool
}

// NewProgram checks the program's file and takes the copy that it will run. The
// caller closes the Program when it is unregistered. An error has [ErrProgram]
// or that of the file system in it, or errors.ErrUnsupported where there is no
// Unix.
func NewProgram(cfg ProgramConfig) (*Program, error) {
	cfg.Args, cfg.Env = slices.Clone(cfg.Args), slices.Clone(cfg.Env)
	sum, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("hook: program %s: %w", cfg.Path, err)
	}
	exe, err := pin(cfg.Path, sum)
	if err != nil {
		return nil, fmt.Errorf("hook: program %s: %w", cfg.Path, err)
	}
	return &Program{cfg: cfg, exe: exe}, nil
}

// check fills in the defaults and returns the pinned hash.
func (cfg *ProgramConfig) check() ([]byte, error) {
	sum, err := hex.DecodeString(cfg.SHA256)
	if err != nil || len(sum) != 32 {
		return nil, fmt.Errorf("%w: its SHA-256 must be 64 hex digits, not %q", ErrProgram, cfg.SHA256)
	}
	if !filepath.IsAbs(cfg.Path) {
		return nil, fmt.Errorf("%w: its path must be absolute", ErrProgram)
	}
	if cfg.Dir == "" {
		cfg.Dir = "/"
	}
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("%w: its directory %q must be absolute", ErrProgram, cfg.Dir)
	}
	for _, kv := range cfg.Env {
		if i := strings.IndexByte(kv, '='); i < 1 {
			return nil, fmt.Errorf("%w: environment %q must be KEY=value", ErrProgram, kv)
		}
	}
	for _, s := range slices.Concat([]string{cfg.Path, cfg.Dir}, cfg.Args, cfg.Env) {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, fmt.Errorf("%w: %q has a zero byte", ErrProgram, s)
		}
	}
	if cfg.Timeout < 0 || cfg.MaxOutputBytes < 0 {
		return nil, fmt.Errorf("%w: its limits must not be negative", ErrProgram)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxOutputBytes == 0 {
		cfg.MaxOutputBytes = defaultOutputBytes
	}
	return sum, nil
}

// Close lets go of the program's copy. Runs that have begun are not ended by
// it, later ones fail. Closing twice is allowed.
func (p *Program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if err := p.exe.close(); err != nil {
		return fmt.Errorf("hook: close program %s: %w", p.cfg.Path, err)
	}
	return nil
}

// Handle runs the program with e and returns nil, a [*DeniedError] when the
// program denies, or what went wrong, with the end of what the program wrote
// to its standard error.
func (p *Program) Handle(ctx context.Context, e Event) error {
	out, err := p.run(ctx, e)
	var ans answer
	if err == nil {
		ans, err = parseAnswer(out)
	}
	if err != nil {
		return fmt.Errorf("hook: program %s: %w", p.cfg.Path, err)
	}
	if !ans.deny {
		return nil
	}
	return &DeniedError{Kind: e.Kind(), Name: e.Payload.Label(), By: p.cfg.Path, Reason: ans.reason}
}

func (p *Program) run(ctx context.Context, e Event) ([]byte, error) {
	in, err := encodeEvent(e)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	stdout := &head{max: p.cfg.MaxOutputBytes, full: func() { stop(errTooMuch) }}
	stderr := &tail{max: stderrBytes}
	cmd := &exec.Cmd{
		Path: p.exe.path, Args: append([]string{p.cfg.Path}, p.cfg.Args...),
		// Not nil: exec takes nil for "my own environment".
		Env: append([]string{}, p.cfg.Env...), Dir: p.cfg.Dir,
		Stdin: bytes.NewReader(in), Stdout: stdout, Stderr: stderr,
		SysProcAttr: ownGroup(), WaitDelay: pipeDelay,
	}
	if err := p.start(cmd); err != nil {
		return nil, err
	}
	err = await(ctx, cmd)
	switch {
	case stdout.over:
		err = fmt.Errorf("%w: more than %d bytes", errTooMuch, p.cfg.MaxOutputBytes)
	case err == nil:
		return stdout.buf, nil
	}
	if len(stderr.buf) > 0 {
		return nil, fmt.Errorf("%w: it wrote %q", err, bytes.TrimSpace(stderr.buf))
	}
	return nil, err
}

var errTooMuch = errors.New("too much output")

func (p *Program) start(cmd *exec.Cmd) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return errors.New("closed")
	}
	cmd.ExtraFiles = p.exe.files()
	return cmd.Start()
}

// await waits for cmd, which it kills with its group when ctx ends.
func await(ctx context.Context, cmd *exec.Cmd) error {
	g := &group{pid: cmd.Process.Pid}
	stop := context.AfterFunc(ctx, g.kill)
	defer stop()
	// Where a process can be waited for without collecting it, its group is
	// ended before its id can go to another process.
	exited := awaitExit(g.pid)
	if exited {
		g.end()
	}
	err := cmd.Wait()
	if !exited {
		g.end()
	}
	if g.killed {
		return fmt.Errorf("killed: %w", context.Cause(ctx))
	}
	return err
}

// group is a process group that is killed at most until it has ended.
type group struct {
	pid int

	mu            sync.Mutex
	ended, killed bool
}

func (g *group) kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.killed = true
		killGroup(g.pid)
	}
}

// end kills what the leader has left behind.
func (g *group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	killGroup(g.pid)
}

// head keeps what is written to it until that is too much.
type head struct {
	max  int
	full func()
	buf  []byte
	over bool
}

func (w *head) Write(b []byte) (int, error) {
	if len(w.buf)+len(b) > w.max {
		w.over = true
		w.full()
		return 0, errTooMuch
	}
	w.buf = append(w.buf, b...)
	return len(b), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	max int
	buf []byte
}

func (w *tail) Write(b []byte) (int, error) {
	n := len(b)
	w.buf = append(w.buf, b[max(0, n-w.max):]...)
	w.buf = w.buf[max(0, len(w.buf)-w.max):]
	return n, nil
}

// answer is what a program says to an event.
type answer struct {
	deny   bool
	reason string
}

func parseAnswer(b []byte) (answer, error) {
	var decision, reason string
	if len(bytes.TrimSpace(b)) == 0 {
		return answer{}, nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	err := object(dec, func(key string) error {
		switch key {
		case "decision":
			return value(dec, &decision)
		case "reason":
			return value(dec, &reason)
		}
		return errUnknownField
	})
	if err == nil {
		err = atEnd(dec)
	}
	if err == nil && decision != "allow" && decision != "deny" {
		err = fmt.Errorf(`the decision must be "allow" or "deny", not %q`, decision)
	}
	if err != nil {
		return answer{}, fmt.Errorf("its answer %.100q: %w", b, err)
	}
	if decision == "deny" && reason == "" {
		reason = "no reason given"
	}
	return answer{deny: decision == "deny", reason: reason}, nil
}

var errUnknownField = errors.New("unknown field")

// object reads a JSON object and calls set for each of its keys, to read the
// value. Unlike json.Unmarshal it refuses a key that comes twice, and does not
// take "Path" for "path": two readers of one file must not see two things.
func object(dec *json.Decoder, set func(key string) error) error {
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return firstErr(err, fmt.Errorf("an object is expected, not %v", tok))
	}
	seen := make(map[string]bool)
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string) // the decoder lets nothing else stand there
		if seen[key] {
			return fmt.Errorf("field %q: given twice", key)
		}
		seen[key] = true
		if err := set(key); err != nil {
			return fmt.Errorf("field %q: %w", key, err)
		}
	}
	_, err := dec.Token()
	return err
}

// value reads one JSON value, which must not be null, into v.
func value(dec *json.Decoder, v any) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	if string(raw) == "null" {
		return errors.New("null is not allowed")
	}
	return json.Unmarshal(raw, v)
}

// atEnd fails unless dec has read all of its input.
func atEnd(dec *json.Decoder) error {
	if _, err := dec.Token(); err != io.EOF {
		return firstErr(err, errors.New("more than one value"))
	}
	return nil
}

// firstErr returns err, or otherwise if it is nil.
func firstErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
