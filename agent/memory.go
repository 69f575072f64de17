package agent

import (
	"container/list"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
)

// Memory keeps conversations from one run to the next. Its methods may be
// called at once from several goroutines. [WindowMemory] and [FileMemory] are
// memories; one of your own that has a method Store() string is recorded under
// the name it returns.
type Memory interface {
	// Load returns the conversation of session so far, oldest message first;
	// nothing if there is none. The caller may change what it gets.
	Load(ctx context.Context, session string) ([]Message, error)
	// Save adds messages, those of one run, to the conversation of session.
	Save(ctx context.Context, session string, messages []Message) error
}

// MemoryError says that a run's memory failed.
type MemoryError struct {
	// Op is "load" or "save".
	Op string
	// Session is the conversation that was asked for.
	Session string
	Err     error
}

// Error says what was attempted and why it failed.
func (e *MemoryError) Error() string {
	return fmt.Sprintf("memory: %s session %s: %v", e.Op, e.Session, e.Err)
}

// Unwrap returns the cause.
func (e *MemoryError) Unwrap() error { return e.Err }

// recall loads what the run's session remembers. Without a session or a memory
// it returns nothing.
func (a *Agent) recall(ctx context.Context) (messages []Message, err error) {
	run, _ := runctx.From(ctx)
	if a.cfg.Memory == nil || run.SessionID == "" {
		return nil, nil
	}
	p := &hook.MemoryLoad{Store: storeName(a.cfg.Memory)}
	err = hook.From(ctx).Do(ctx, p, func(ctx context.Context, op *hook.Op) (err error) {
		messages, err = a.cfg.Memory.Load(ctx, run.SessionID)
		op.Update(func(hook.Payload) { p.Records = len(messages) })
		return err
	})
	if err != nil {
		return nil, &MemoryError{Op: "load", Session: run.SessionID, Err: err}
	}
	return messages, nil
}

// remember saves what a run that has answered added to its session. Whoever
// stops waiting for the answer does not make the agent forget that it gave it.
func (a *Agent) remember(ctx context.Context, added []Message) error {
	run, _ := runctx.From(ctx)
	if a.cfg.Memory == nil || run.SessionID == "" {
		return nil
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	p := &hook.MemorySave{Store: storeName(a.cfg.Memory), Records: len(added)}
	err := hook.From(ctx).Do(ctx, p, func(ctx context.Context, _ *hook.Op) error {
		return a.cfg.Memory.Save(ctx, run.SessionID, cloneMessages(added))
	})
	if err != nil {
		return &MemoryError{Op: "save", Session: run.SessionID, Err: err}
	}
	return nil
}

func storeName(m Memory) string {
	if s, ok := m.(interface{ Store() string }); ok {
		return s.Store()
	}
	return "memory"
}

// WindowConfig bounds a memory. The zero value is fit for chats.
type WindowConfig struct {
	// Messages is how many messages of a session are kept, the last ones; 100
	// if zero. A call of a tool is never kept without its result, or the other
	// way round, and the window begins with a user's message if it has one, as
	// models expect: so there may be fewer.
	Messages int
	// Bytes bounds the text of a session's messages; 256 KiB if zero, 4 MiB for
	// a [FileMemory]. A message that is larger alone is not kept, nor is what
	// came before it.
	Bytes int
	// Sessions is how many sessions a [WindowMemory] keeps; 1000 if zero. The
	// one that was not used for the longest time gives way. A [FileMemory] keeps
	// each until [FileMemory.Forget].
	Sessions int
}

func (c WindowConfig) withDefaults(bytes int) WindowConfig {
	for _, d := range []struct {
		field *int
		value int
	}{{&c.Messages, 100}, {&c.Bytes, bytes}, {&c.Sessions, 1000}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return c
}

// window returns the end of messages that c allows.
func (c WindowConfig) window(messages []Message) []Message {
	start, size := len(messages), 0
	for start > 0 && len(messages)-start < c.Messages {
		if size += messages[start-1].bytes(); size > c.Bytes {
			break
		}
		start--
	}
	if start == 0 {
		return messages
	}
	kept := messages[start:]
	if i := slices.IndexFunc(kept, func(m Message) bool { return m.Role == User }); i >= 0 {
		return kept[i:]
	}
	if i := slices.IndexFunc(kept, func(m Message) bool { return m.Role != ToolRole }); i >= 0 {
		return kept[i:]
	}
	return nil
}

// bytes is the size of what the message says.
func (m Message) bytes() int {
	n := len(m.Text)
	for _, c := range m.ToolCalls {
		n += len(c.ID) + len(c.Name) + len(c.Arguments)
	}
	for _, r := range m.ToolResults {
		n += len(r.ID) + len(r.Name) + len(r.Text)
	}
	return n
}

// cloneMessages returns a copy that shares nothing that can be changed.
func cloneMessages(ms []Message) []Message {
	out := slices.Clone(ms)
	for i := range out {
		out[i].ToolCalls = slices.Clone(out[i].ToolCalls)
		for j := range out[i].ToolCalls {
			out[i].ToolCalls[j].Arguments = append(json.RawMessage(nil), out[i].ToolCalls[j].Arguments...)
		}
		out[i].ToolResults = slices.Clone(out[i].ToolResults)
	}
	return out
}

// WindowMemory is a [Memory] in the process: the last messages of the sessions
// that were used last. Agents that share one share its conversations.
type WindowMemory struct {
	cfg WindowConfig

	mu       sync.Mutex
	sessions map[string]*list.Element // of *windowSession
	used     *list.List               // most recently used first
	evicted  int64
}

type windowSession struct {
	name     string
	messages []Message
}

// NewWindowMemory returns an empty memory.
func NewWindowMemory(cfg WindowConfig) *WindowMemory {
	return &WindowMemory{cfg: cfg.withDefaults(256 << 10), sessions: make(map[string]*list.Element), used: list.New()}
}

// Store names the memory in records: "window".
func (*WindowMemory) Store() string { return "window" }

// Load implements [Memory]. It fails only if ctx is done.
func (m *WindowMemory) Load(ctx context.Context, session string) ([]Message, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.sessions[session]
	if e == nil {
		return nil, nil
	}
	m.used.MoveToFront(e)
	return cloneMessages(e.Value.(*windowSession).messages), nil
}

// Save implements [Memory]. It fails only if ctx is done.
func (m *WindowMemory) Save(ctx context.Context, session string, messages []Message) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.sessions[session]
	if e == nil {
		e = m.used.PushFront(&windowSession{name: session})
		m.sessions[session] = e
	}
	m.used.MoveToFront(e)
	s := e.Value.(*windowSession)
	// A new slice, so that what fell out of the window can be freed.
	s.messages = cloneMessages(m.cfg.window(slices.Concat(s.messages, messages)))
	for m.used.Len() > m.cfg.Sessions {
		oldest := m.used.Remove(m.used.Back()).(*windowSession)
		delete(m.sessions, oldest.name)
		m.evicted++
	}
	return nil
}

// Evicted returns how many sessions gave way to others.
func (m *WindowMemory) Evicted() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.evicted
}
