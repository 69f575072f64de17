// Package loki answers as much of Loki's HTTP API as a Grafana data source of
// that type needs, so that panels show audit entries and log lines without a
// plugin, and without users, runs or traces becoming labels of metrics:
//
//	mux.Handle("/loki/", loki.New(loki.Config{Ledger: ledger, Logs: engine}))
//
// The streams are {source="audit"} and {source="logs"}; the labels agent,
// action, result, severity, level, logger, user, session, run and trace select
// among them. Queries are lines with text filters, and
// topk(N, sum by (labels) (count_over_time(…[window]))).
package loki

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/query"
)

// labelNames are the labels that a query may use.
var labelNames = []string{"source", "agent", "action", "result", "severity", "level", "logger", "user", "session", "run", "trace"}

// streamLabels are those that a stream is shown with: few values each.
var streamLabels = []string{"source", "agent", "action", "result", "severity", "level"}

// Ledger is the audit ledger, as it is read here.
type Ledger interface {
	Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error]
}

// Logs lists log records. *query.Engine is one.
type Logs interface {
	Logs(ctx context.Context, f query.LogFilter) (query.LogPage, error)
}

// Config says what is read. Either may be nil: it has no lines then.
type Config struct {
	Ledger Ledger
	Logs   Logs
	// Logger is told of faults. If nil, nothing is logged.
	Logger *slog.Logger
}

const (
	// maxLines bounds the lines of one answer, maxScanned those that a count
	// looks at.
	maxLines   = 5000
	maxScanned = 500_000
	maxPoints  = 1100
)

type handler struct{ cfg Config }

// New returns the handler for all paths under /loki/.
func New(cfg Config) http.Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := handler{cfg}
	mux := http.NewServeMux()
	serve := func(path string, f func(*http.Request) (any, error)) {
		for _, method := range []string{"GET ", "POST "} {
			mux.HandleFunc(method+"/loki/api/v1"+path, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, f) })
		}
	}
	serve("/query", h.instant)
	serve("/query_range", h.ranged)
	serve("/labels", func(*http.Request) (any, error) { return labelNames, nil })
	serve("/label/{name}/values", h.values)
	serve("/series", func(*http.Request) (any, error) {
		return []map[string]string{{"source": "audit"}, {"source": "logs"}}, nil
	})
	mux.HandleFunc("GET /loki/api/v1/status/buildinfo", func(w http.ResponseWriter, _ *http.Request) {
		h.write(w, http.StatusOK, map[string]string{"version": "2.9.0"}) // whose answers these are
	})
	return mux
}

// badQuery is the asker's fault.
type badQuery struct{ error }

func (h handler) serve(w http.ResponseWriter, r *http.Request, f func(*http.Request) (any, error)) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		h.write(w, http.StatusBadRequest, map[string]string{"status": "error", "errorType": "bad_data", "error": err.Error()})
		return
	}
	data, err := f(r)
	var bad badQuery
	switch {
	case err == nil:
		h.write(w, http.StatusOK, map[string]any{"status": "success", "data": data})
	case errors.As(err, &bad):
		h.write(w, http.StatusBadRequest, map[string]string{"status": "error", "errorType": "bad_data", "error": err.Error()})
	default:
		h.cfg.Logger.Error("loki: query", "error", err)
		h.write(w, http.StatusInternalServerError, map[string]string{"status": "error", "errorType": "internal", "error": "the query failed; see the server's log"})
	}
}

func (h handler) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // live, and maybe personal
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.cfg.Logger.Debug("loki: answer not sent", "error", err)
	}
}

// line is one entry or log record.
type line struct {
	at     time.Time
	labels map[string]string
	text   func() (string, error)
}

// result is what Loki wraps data in.
type result struct {
	Type   string         `json:"resultType"`
	Result any            `json:"result"`
	Stats  map[string]any `json:"stats"`
}

func (h handler) instant(r *http.Request) (any, error) {
	// This is how Grafana asks whether the data source works.
	if strings.ReplaceAll(r.FormValue("query"), " ", "") == "vector(1)+vector(1)" {
		return result{"vector", []any{map[string]any{"metric": struct{}{}, "value": [2]any{time.Now().Unix(), "2"}}}, map[string]any{}}, nil
	}
	e, err := parse(r.FormValue("query"))
	if err != nil {
		return nil, badQuery{err}
	}
	at, err := timeParam(r, "time", time.Now())
	if err != nil {
		return nil, err
	}
	if !e.metric {
		return h.streams(r, e, at.Add(-time.Hour), at)
	}
	counts, err := h.count(r.Context(), e, at.Add(-e.window), []time.Time{at})
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, s := range counts {
		out = append(out, map[string]any{"metric": s.labels, "value": [2]any{float64(at.UnixMilli()) / 1e3, strconv.Itoa(s.points[0])}})
	}
	return result{"vector", out, map[string]any{}}, nil
}

func (h handler) ranged(r *http.Request) (any, error) {
	e, err := parse(r.FormValue("query"))
	if err != nil {
		return nil, badQuery{err}
	}
	now := time.Now()
	start, err := timeParam(r, "start", now.Add(-time.Hour))
	if err != nil {
		return nil, err
	}
	end, err := timeParam(r, "end", now)
	if err != nil {
		return nil, err
	}
	if end.Before(start) {
		return nil, badQuery{errors.New("end lies before start")}
	}
	if !e.metric {
		return h.streams(r, e, start, end)
	}
	step := max(end.Sub(start)/250, time.Second)
	if s := r.FormValue("step"); s != "" {
		if n, err := strconv.ParseFloat(s, 64); err == nil && n > 0 && n < 1e9 {
			step = time.Duration(n * float64(time.Second))
		} else if step, err = parseDuration(s); err != nil || step <= 0 {
			return nil, badQuery{fmt.Errorf("step %.40q is no duration", s)}
		}
	}
	if end.Sub(start)/step > maxPoints {
		return nil, badQuery{fmt.Errorf("more than %d points: take a longer step", maxPoints)}
	}
	var times []time.Time
	for at := start; !at.After(end); at = at.Add(step) {
		times = append(times, at)
	}
	counts, err := h.count(r.Context(), e, start.Add(-e.window), times)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, s := range counts {
		var values [][2]any
		for i, n := range s.points {
			if n > 0 {
				values = append(values, [2]any{float64(times[i].UnixMilli()) / 1e3, strconv.Itoa(n)})
			}
		}
		out = append(out, map[string]any{"metric": s.labels, "values": values})
	}
	return result{"matrix", out, map[string]any{}}, nil
}

// streams answers lines, newest first unless asked otherwise.
func (h handler) streams(r *http.Request, e expr, since, until time.Time) (any, error) {
	limit := 100
	if s := r.FormValue("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, badQuery{fmt.Errorf("limit %.40q is no number above zero", s)}
		}
		limit = min(n, maxLines)
	}
	type stream struct {
		Stream map[string]string `json:"stream"`
		Values [][2]string       `json:"values"`
	}
	byKey := map[string]*stream{}
	var order []*stream
	forward := r.FormValue("direction") == "forward"
	n := 0
	for l, err := range h.lines(r.Context(), e, since, until, forward) {
		if err != nil {
			return nil, err
		}
		if n == limit {
			break
		}
		text, err := l.text()
		if err != nil {
			return nil, err
		}
		if !containsAll(text, e.contains) {
			continue
		}
		shown := map[string]string{}
		for _, name := range streamLabels {
			if v := l.labels[name]; v != "" {
				shown[name] = v
			}
		}
		key := fmt.Sprint(shown) // maps print in order of their keys
		s, ok := byKey[key]
		if !ok {
			s = &stream{Stream: shown}
			byKey[key] = s
			order = append(order, s)
		}
		s.Values = append(s.Values, [2]string{strconv.FormatInt(l.at.UnixNano(), 10), text})
		n++
	}
	if order == nil {
		order = []*stream{}
	}
	return result{"streams", order, map[string]any{}}, nil
}

func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) })
}

// counted is one series of counts.
type counted struct {
	labels map[string]string
	points []int
	total  int
}

// count counts lines by labels in the window before each of times, which rise.
func (h handler) count(ctx context.Context, e expr, since time.Time, times []time.Time) ([]*counted, error) {
	byKey := map[string]*counted{}
	n := 0
	for l, err := range h.lines(ctx, e, since, times[len(times)-1], true) {
		if err != nil {
			return nil, err
		}
		if n++; n > maxScanned {
			return nil, badQuery{fmt.Errorf("more than %d lines match: ask for a shorter time", maxScanned)}
		}
		if len(e.contains) > 0 {
			if text, err := l.text(); err != nil || !containsAll(text, e.contains) {
				continue
			}
		}
		ls := map[string]string{}
		for _, name := range e.by {
			ls[name] = l.labels[name]
		}
		key := fmt.Sprint(ls)
		s, ok := byKey[key]
		if !ok {
			s = &counted{labels: ls, points: make([]int, len(times))}
			byKey[key] = s
		}
		first, _ := slices.BinarySearchFunc(times, l.at, time.Time.Compare)
		for i := first; i < len(times) && times[i].Sub(l.at) < e.window; i++ {
			s.points[i]++
			s.total++
		}
	}
	var out []*counted
	for _, s := range byKey {
		if s.total > 0 {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *counted) int {
		return cmp.Or(cmp.Compare(b.total, a.total), cmp.Compare(fmt.Sprint(a.labels), fmt.Sprint(b.labels)))
	})
	if e.top > 0 && len(out) > e.top {
		out = out[:e.top]
	}
	return out, nil
}

// lines yields what e selects of both sources, each in order of time.
func (h handler) lines(ctx context.Context, e expr, since, until time.Time, forward bool) iter.Seq2[line, error] {
	sources := []struct {
		name string
		all  func() iter.Seq2[line, error]
	}{
		{"audit", func() iter.Seq2[line, error] { return h.entries(ctx, e, since, until, forward) }},
		{"logs", func() iter.Seq2[line, error] { return h.records(ctx, e, since, until, forward) }},
	}
	return func(yield func(line, error) bool) {
		for _, s := range sources {
			if !e.matches("source", s.name) {
				continue
			}
			for l, err := range s.all() {
				if err == nil && !e.selects(l.labels) {
					continue
				}
				if !yield(l, err) {
					return
				}
			}
		}
	}
}

func (e expr) matches(name, v string) bool {
	return !slices.ContainsFunc(e.matchers, func(m matcher) bool { return m.name == name && !m.match(v) })
}

func (e expr) selects(labels map[string]string) bool {
	return !slices.ContainsFunc(e.matchers, func(m matcher) bool { return !m.match(labels[m.name]) })
}

// exactly returns the value that a label must have, if it must have one.
func (e expr) exactly(name string) string {
	for _, m := range e.matchers {
		if m.name == name && m.op == "=" {
			return m.value
		}
	}
	return ""
}

func (h handler) entries(ctx context.Context, e expr, since, until time.Time, forward bool) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		if h.cfg.Ledger == nil {
			return
		}
		q := audit.Query{
			AgentID: e.exactly("agent"), Action: e.exactly("action"), Result: audit.Result(e.exactly("result")), UserID: e.exactly("user"),
			SessionID: e.exactly("session"), RunID: e.exactly("run"), TraceID: e.exactly("trace"),
			Since: since, Until: until, Descending: !forward,
		}
		for entry, err := range h.cfg.Ledger.Query(ctx, q) {
			l := line{at: entry.Time, labels: map[string]string{
				"source": "audit", "agent": entry.AgentID, "action": entry.Action, "result": string(entry.Result), "severity": entry.Severity,
				"user": entry.UserID, "session": entry.SessionID, "run": entry.RunID, "trace": entry.TraceID,
			}, text: func() (string, error) {
				b, err := json.Marshal(entry)
				return string(b), err
			}}
			if err != nil {
				err = fmt.Errorf("loki: query the ledger: %w", err)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

func (h handler) records(ctx context.Context, e expr, since, until time.Time, forward bool) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		if h.cfg.Logs == nil {
			return
		}
		f := query.LogFilter{Window: query.Window{Since: since, Until: until, Limit: 1000}, Ascending: forward, Agent: e.exactly("agent"), Logger: e.exactly("logger")}
		for {
			page, err := h.cfg.Logs.Logs(ctx, f)
			if err != nil {
				yield(line{}, fmt.Errorf("loki: list logs: %w", err))
				return
			}
			for _, rec := range page.Logs {
				l := line{at: time.Time(rec.Timestamp), labels: map[string]string{
					"source": "logs", "agent": rec.AgentID, "level": rec.Level, "logger": rec.Logger,
					"user": rec.UserID, "session": rec.SessionID, "run": rec.RunID, "trace": rec.TraceID,
				}, text: func() (string, error) {
					b, err := json.Marshal(rec)
					return string(b), err
				}}
				if !yield(l, nil) {
					return
				}
			}
			if f.Cursor = page.Next; f.Cursor == "" {
				return
			}
		}
	}
}

// values lists what a label has been in the last hour, or in the time asked for.
func (h handler) values(r *http.Request) (any, error) {
	name := r.PathValue("name")
	if !slices.Contains(labelNames, name) {
		return []string{}, nil
	}
	if name == "source" {
		return []string{"audit", "logs"}, nil
	}
	now := time.Now()
	start, err := timeParam(r, "start", now.Add(-time.Hour))
	if err != nil {
		return nil, err
	}
	end, err := timeParam(r, "end", now)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	out := []string{}
	n := 0
	for l, err := range h.lines(r.Context(), expr{}, start, end, false) {
		if err != nil {
			return nil, err
		}
		if n++; n > maxScanned || len(out) == 1000 {
			break
		}
		if v := l.labels[name]; v != "" && !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out, nil
}

// timeParam reads RFC 3339, Unix seconds or Unix nanoseconds.
func timeParam(r *http.Request, name string, def time.Time) (time.Time, error) {
	s := r.FormValue(name)
	if s == "" {
		return def, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n > 1e12 {
			return time.Unix(0, n), nil
		}
		return time.Unix(n, 0), nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f >= 0 && f < 1e10 {
		whole, part := math.Modf(f)
		return time.Unix(int64(whole), int64(part*1e9)), nil
	}
	return time.Time{}, badQuery{fmt.Errorf("%s %.40q is no time", name, s)}
}
