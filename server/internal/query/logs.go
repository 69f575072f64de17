package query

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// LogFilter selects log records. Empty fields select all.
type LogFilter struct {
	Window
	TraceID record.TraceID
	SpanID  record.SpanID
	RunID   string
	// Agent is the id of the agent, or the name of the one whose span the
	// record was written in.
	Agent string
	// Level is the least one: debug, info, warning, error or critical.
	Level  string
	Logger string
	// Q is text to be found in the message or a context value, in any case of
	// letters.
	Q string
	// Ascending lists oldest first.
	Ascending bool
}

// Levels are the levels of log records, least first.
var Levels = []string{"debug", "info", "warning", "error", "critical"}

// LogPage is one page of a list of log records.
type LogPage struct {
	Logs []Log  `json:"logs"`
	Next string `json:"next"`
}

// Logs lists log records, newest first unless asked otherwise.
func (e *Engine) Logs(ctx context.Context, f LogFilter) (LogPage, error) {
	page := LogPage{Logs: []Log{}}
	pos, err := parsePosition(f.Cursor)
	if err != nil {
		return page, err
	}
	if f.Level != "" && !slices.Contains(Levels, f.Level) {
		return page, &FilterError{Field: "level", Reason: fmt.Sprintf("%.40q is not one of %s", f.Level, strings.Join(Levels, ", "))}
	}
	f.Q = strings.ToLower(f.Q)
	stop := canceled{ctx: ctx}
	var last position
	for l := range e.logs(f, pos) {
		if err := stop.err(); err != nil {
			return page, err
		}
		key := logKey(l)
		if f.passed(pos, l.Time, key) || !e.matchesLog(f, l) {
			continue
		}
		if len(page.Logs) == f.limit() {
			page.Next = last.String()
			return page, nil
		}
		page.Logs = append(page.Logs, logOf(l))
		last = position{at: l.Time.UnixNano(), key: key}
	}
	return page, nil
}

// logKey orders records of one moment as the store does.
func logKey(l *record.Log) string {
	s := strconv.FormatUint(l.Seq, 36)
	return strings.Repeat("0", 13-len(s)) + s // a uint64 has 13 digits at most
}

func (f LogFilter) passed(pos position, at time.Time, key string) bool {
	if !f.Ascending {
		return pos.passed(at, key)
	}
	n := at.UnixNano()
	return pos.set && (n < pos.at || n == pos.at && key <= pos.key)
}

// logs yields the records to look at in order, from one trace if the filter
// names it.
func (e *Engine) logs(f LogFilter, pos position) iter.Seq[*record.Log] {
	if !f.TraceID.IsZero() {
		return e.traceLogs(f)
	}
	if !f.Ascending {
		return e.store.Logs(f.Since, pos.until(f.Window))
	}
	since := f.Since
	if at := time.Unix(0, pos.at); pos.set && at.After(since) {
		since = at
	}
	return e.store.LogsAscending(since, f.Until)
}

func (e *Engine) traceLogs(f LogFilter) iter.Seq[*record.Log] {
	logs := slices.Clone(e.store.TraceLogs(f.TraceID))
	slices.SortFunc(logs, func(a, b *record.Log) int {
		c := a.Time.Compare(b.Time)
		if c == 0 {
			c = strings.Compare(logKey(a), logKey(b))
		}
		if f.Ascending {
			return c
		}
		return -c
	})
	return func(yield func(*record.Log) bool) {
		for _, l := range logs {
			if f.has(l.Time) && !yield(l) {
				return
			}
		}
	}
}

func (e *Engine) matchesLog(f LogFilter, l *record.Log) bool {
	switch {
	case !f.SpanID.IsZero() && l.SpanID != f.SpanID,
		f.RunID != "" && l.RunID != f.RunID,
		f.Logger != "" && l.Logger != f.Logger,
		f.Level != "" && slices.Index(Levels, l.Level) < slices.Index(Levels, f.Level),
		f.Q != "" && !contains(l.Message, f.Q) && !anyContains(l.Attributes, f.Q),
		f.Agent != "" && l.AgentID != f.Agent && e.agentOf(l) != f.Agent:
		return false
	}
	return true
}

// agentOf returns the name of the agent in whose span l was written.
func (e *Engine) agentOf(l *record.Log) string {
	if t := e.treeOf(l.TraceID); t != nil {
		if id := t.ids[l.SpanID]; id != nil {
			return id.agentName
		}
	}
	return ""
}

// logOf is l as the API shows it.
func logOf(l *record.Log) Log {
	return Log{
		Timestamp: Time(l.Time), Level: l.Level, Message: l.Message, Logger: l.Logger,
		TraceID: l.TraceID.String(), SpanID: l.SpanID.String(),
		AgentID: l.AgentID, SessionID: l.SessionID, RunID: l.RunID, UserID: l.UserID,
		Service: l.Service, Context: l.Attributes,
	}
}
