package agentlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/redact"
)

// LevelCritical is the level above [slog.LevelError]: the agent cannot go on.
const LevelCritical = slog.LevelError + 4

// Format is how lines are written.
type Format uint8

// The formats.
const (
	// FormatJSON is the default, described in the package comment.
	FormatJSON Format = iota
	// FormatECS writes the names of the Elastic Common Schema.
	FormatECS
	// FormatText writes a line for people: time, level, logger, message, then
	// ids and attributes as name=value.
	FormatText
)

// Limits that are not settings.
const (
	// maxLoggers bounds the named loggers; names beyond it share one level.
	maxLoggers = 10_000
	// defaultMaxValueBytes is what a prompt or a stack trace needs.
	defaultMaxValueBytes = 64 << 10
	// maxPooledBytes bounds the buffers that are kept for the next line.
	maxPooledBytes = 64 << 10
	// sampleSlots is the number of messages that sampling tells apart.
	sampleSlots = 1024
)

// ErrClosed is what a sink answers after its Close.
var ErrClosed = errors.New("agentlog: closed")

// Config tunes [New]. The zero value writes redacted JSON to standard error,
// from level info on.
type Config struct {
	// Level is the lowest level that is written. If zero, info.
	Level slog.Level
	// Levels sets other levels for loggers by name.
	Levels map[string]slog.Level
	// Format is how lines are written. If zero, JSON.
	Format Format
	// Sinks receive the lines, in this order. If empty, standard error. They
	// are closed by [Logs.Close].
	Sinks []Sink
	// Redactor removes secrets from messages and attributes. If nil, one with
	// every detector on.
	Redactor *redact.Redactor
	// NoRedaction writes everything as it is.
	NoRedaction bool
	// MaxValueBytes bounds the message and each text among the attributes; what
	// is longer is cut and says so. If zero, 64 KiB.
	MaxValueBytes int
	// SampleFirst, if not zero, is how many lines of the same logger, level and
	// message are written in a second before sampling begins. Errors and
	// critical lines are never sampled. What is left out is counted.
	SampleFirst int
	// SampleEvery writes one in so many of the lines beyond SampleFirst. If
	// zero, none.
	SampleEvery int
}

// Sink takes finished records. Write is called from many goroutines at once,
// must not keep r or anything it points to after it returns, and should not
// block for long: who logs waits for it. An error is counted in [Stats]. A
// sink that has a method WantsAttrs() bool which returns true gets
// [Record.Attrs] filled; one that has a method WantsFormat() [Format] gets
// [Record.Line] in that format, whatever [Config.Format] says.
type Sink interface {
	Write(r *Record) error
	// Close writes what is buffered, as long as ctx allows, and then answers
	// Write with [ErrClosed].
	Close(ctx context.Context) error
}

// Record is one log record, redacted.
type Record struct {
	Time  time.Time // may be zero
	Level slog.Level
	// Severity is the OTLP severity number, 1 to 24.
	Severity int
	Message  string
	Logger   string

	TraceID trace.TraceID // zero if unknown
	SpanID  trace.SpanID  // zero if unknown

	RunID, ParentRunID, AgentID, AgentName, SessionID, UserID string

	// Attrs are the attributes, groups flattened with dots. Only filled when a
	// sink asks for it.
	Attrs []attribute.KeyValue
	// Line is the encoded record, with its newline.
	Line []byte
}

// Stats counts what happened to records since New.
type Stats struct {
	Written uint64 // records given to the sinks
	Sampled uint64 // records left out by sampling
	Errors  uint64 // answers of sinks that were errors
	Failed  uint64 // records that could not be encoded and were replaced
}

// Logs makes loggers and owns their sinks. Its methods may be called from many
// goroutines at once.
type Logs struct {
	cfg       Config
	red       *redact.Redactor // nil = none
	wantAttrs bool
	formats   []Format // one per sink; nil when all want that of the Config

	written, sampled, errors, failed atomic.Uint64

	base    atomic.Pointer[persistent]
	samples *[sampleSlots]sample

	mu      sync.Mutex
	level   slog.Level
	loggers map[string]*loggerState
	closed  bool
}

// loggerState is what loggers of one name share.
type loggerState struct {
	name  string
	level atomic.Int64
}

// New returns the maker of loggers.
func New(cfg Config) (*Logs, error) {
	if cfg.Format > FormatText {
		return nil, fmt.Errorf("agentlog: new: unknown format %d", cfg.Format)
	}
	if cfg.MaxValueBytes < 0 || cfg.SampleFirst < 0 || cfg.SampleEvery < 0 {
		return nil, errors.New("agentlog: new: MaxValueBytes, SampleFirst and SampleEvery must not be negative")
	}
	if cfg.MaxValueBytes == 0 {
		cfg.MaxValueBytes = defaultMaxValueBytes
	}
	if len(cfg.Sinks) == 0 {
		cfg.Sinks = []Sink{NewStream(os.Stderr)}
	}
	cfg.Sinks = slices.Clone(cfg.Sinks)
	l := &Logs{cfg: cfg, level: cfg.Level, loggers: make(map[string]*loggerState)}
	for i, sink := range cfg.Sinks {
		if sink == nil {
			return nil, fmt.Errorf("agentlog: new: sink %d is nil", i)
		}
		if w, ok := sink.(interface{ WantsAttrs() bool }); ok && w.WantsAttrs() {
			l.wantAttrs = true
		}
	}
	var err error
	if l.formats, err = formatsOf(cfg); err != nil {
		return nil, err
	}
	if !cfg.NoRedaction {
		if l.red = cfg.Redactor; l.red == nil {
			l.red = redact.New(redact.Config{})
		}
	}
	if cfg.SampleFirst > 0 {
		l.samples = new([sampleSlots]sample)
	}
	l.base.Store(&persistent{})
	for name, level := range cfg.Levels {
		l.SetLevel(name, level)
	}
	return l, nil
}

// Logger returns the logger of that name. Loggers of one name share a level.
func (l *Logs) Logger(name string) *slog.Logger { return slog.New(l.Handler(name)) }

// Handler returns what [Logs.Logger] builds on.
func (l *Logs) Handler(name string) slog.Handler {
	return &handler{logs: l, state: l.state(name)}
}

func (l *Logs) state(name string) *loggerState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateLocked(name)
}

func (l *Logs) stateLocked(name string) *loggerState {
	if s := l.loggers[name]; s != nil {
		return s
	}
	s := &loggerState{name: name}
	s.level.Store(int64(l.level))
	if len(l.loggers) < maxLoggers {
		l.loggers[name] = s
	}
	return s
}

// SetLevel sets the lowest level that the logger of that name writes, at once
// and for loggers that are made later. The empty name sets it for all loggers
// there are and for new ones.
func (l *Logs) SetLevel(name string, level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name != "" {
		l.stateLocked(name).level.Store(int64(level))
		return
	}
	l.level = level
	for _, s := range l.loggers {
		s.level.Store(int64(level))
	}
}

// Level returns the lowest level that the logger of that name writes.
func (l *Logs) Level(name string) slog.Level { return slog.Level(l.state(name).level.Load()) }

// Names returns the names of all loggers, in order.
func (l *Logs) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.loggers))
	for name := range l.loggers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// AddContext adds attributes to every line of every logger from now on. One
// with a known name replaces it; for a single line, attributes of the logger
// or the call with the same name win.
func (l *Logs) AddContext(attrs ...slog.Attr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := slices.Clone(l.base.Load().attrs)
	for _, a := range attrs {
		a.Value = a.Value.Resolve()
		next = slices.DeleteFunc(next, func(b slog.Attr) bool { return a.Key == b.Key })
		next = append(next, a)
	}
	l.base.Store(l.newPersistent(next))
}

// Context returns a copy of what [Logs.AddContext] has added.
func (l *Logs) Context() []slog.Attr { return slices.Clone(l.base.Load().attrs) }

// ClearContext takes all of it away.
func (l *Logs) ClearContext() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base.Store(&persistent{})
}

// Stats returns the counts so far.
func (l *Logs) Stats() Stats {
	return Stats{Written: l.written.Load(), Sampled: l.sampled.Load(), Errors: l.errors.Load(), Failed: l.failed.Load()}
}

// Close closes the sinks, all of them even if one fails. Loggers can still be
// used; their lines are counted as errors. Closing again does nothing.
func (l *Logs) Close(ctx context.Context) error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	for _, sink := range l.cfg.Sinks {
		errs = append(errs, sink.Close(ctx))
	}
	return errors.Join(errs...)
}

// Critical logs at [LevelCritical].
func Critical(ctx context.Context, logger *slog.Logger, message string, args ...any) {
	logger.Log(ctx, LevelCritical, message, args...)
}

// LevelName returns the word that stands in a line: debug, info, warning,
// error or critical.
func LevelName(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warning"
	case level < LevelCritical:
		return "error"
	}
	return "critical"
}

// severity maps slog's levels to OTLP's 1 to 24: info, 0, is 9.
func severity(level slog.Level) int { return min(max(int(level)+9, 1), 24) }

// sample counts the lines that fall on one slot within one second.
type sample struct {
	second atomic.Int64
	count  atomic.Uint64
}

// keep reports whether a line is written, by counting it.
func (l *Logs) keep(state *loggerState, r *slog.Record) bool {
	if l.samples == nil || r.Level >= slog.LevelError {
		return true
	}
	s := &l.samples[sampleSlot(state.name, r.Level, r.Message)]
	second := r.Time.Unix()
	if old := s.second.Load(); old != second && s.second.CompareAndSwap(old, second) {
		s.count.Store(0)
	}
	n := s.count.Add(1)
	first, every := uint64(l.cfg.SampleFirst), uint64(l.cfg.SampleEvery)
	if n <= first || every > 0 && (n-first)%every == 0 {
		return true
	}
	l.sampled.Add(1)
	return false
}

// sampleSlot is FNV-1a over logger, level and message.
func sampleSlot(name string, level slog.Level, message string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	h = (h ^ uint64(level)) * 1099511628211
	for i := range len(message) {
		h = (h ^ uint64(message[i])) * 1099511628211
	}
	return (h ^ h>>32) % sampleSlots
}
