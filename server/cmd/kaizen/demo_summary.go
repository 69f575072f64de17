package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/server/internal/demo"
)

// demoBill is the scripted model server's own account; empty with real providers.
type demoBill struct{ *demo.Scripted }

func (b demoBill) close() {
	if b.Scripted != nil {
		b.Close()
	}
}

// demoSummary is what the demo prints: what the store answers when asked back.
type demoSummary struct {
	Traces        int64   `json:"traces"`
	Spans         int64   `json:"spans"`
	ModelCalls    int64   `json:"model_calls"`
	ToolCalls     int64   `json:"tool_calls"`
	LogRecords    int64   `json:"log_records"`
	MetricSeries  int64   `json:"metric_series"`
	AuditEntries  int64   `json:"audit_entries"`
	AuditVerified bool    `json:"audit_verified"`
	CostUSD       float64 `json:"cost_usd"`
	Agents        int64   `json:"agents"`
	DurationMS    int64   `json:"duration_ms"`
	UIURL         string  `json:"ui_url"`
	DataDir       string  `json:"data_dir"`

	bill    demoBill
	billed  kaizentest.Bill
	service string
	since   time.Time
	// seen is what each system says of the same things, for check.
	seen []sighting
}

// sighting is one number, as one of the systems tells it.
type sighting struct {
	what, system string
	got, want    float64
}

// askPatiently asks again while the server is away, as it is for a moment when it
// is being restarted, until ctx ends.
func (s *demoSummary) askPatiently(ctx context.Context, c *client) error {
	for {
		s.seen = nil
		err := s.ask(ctx, c)
		if code, _ := classify(err); err == nil || code != exitEnvironment {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// ask fills in the numbers from the server's answers.
func (s *demoSummary) ask(ctx context.Context, c *client) error {
	since := url.Values{"since": {s.since.UTC().Format(time.RFC3339Nano)}}
	var stats struct {
		Spans        int64   `json:"spans"`
		ModelCalls   int64   `json:"model_calls"`
		ToolCalls    int64   `json:"tool_calls"`
		LogRecords   int64   `json:"log_records"`
		AuditEntries int64   `json:"audit_entries"`
		Agents       int64   `json:"agents"`
		CostUSD      float64 `json:"cost_usd"`
	}
	if err := c.get(ctx, "/api/stats", since, &stats); err != nil {
		return err
	}
	s.Spans, s.ModelCalls, s.ToolCalls, s.LogRecords = stats.Spans, stats.ModelCalls, stats.ToolCalls, stats.LogRecords
	s.AuditEntries, s.Agents, s.CostUSD = stats.AuditEntries, stats.Agents, stats.CostUSD
	var err error
	if s.Traces, err = countTraces(ctx, c, since); err != nil {
		return err
	}
	if s.MetricSeries, err = countSeries(ctx, c); err != nil {
		return err
	}
	if err := s.compare(ctx, c, since); err != nil {
		return err
	}
	return s.verify(ctx)
}

// verify checks the ledger as an auditor would: from its files, or over HTTP
// when they are on another machine.
func (s *demoSummary) verify(ctx context.Context) error {
	target := s.DataDir
	if target == "" {
		target = s.UIURL
	}
	v, err := verify(ctx, target, audit.VerifyConfig{}, nil)
	s.AuditVerified = v.Intact
	return err
}

// compare asks each system for the same numbers as the model server's account.
func (s *demoSummary) compare(ctx context.Context, c *client, since url.Values) error {
	if s.bill.Scripted == nil {
		return nil
	}
	s.billed = s.bill.Bill()
	calls, tools, usd := float64(s.billed.Calls), float64(s.billed.ToolCalls), float64(s.billed.NanoUSD)/1e9
	s.saw("model calls", "traces", float64(s.ModelCalls), calls)
	s.saw("tool calls", "traces", float64(s.ToolCalls), tools)
	s.saw("cost in USD", "traces", s.CostUSD, usd)
	for _, q := range []struct {
		what, query string
		want        float64
	}{
		{"model calls", "kaizen_model_calls_total", calls},
		{"tool calls", "kaizen_tool_calls_total", tools},
		{"cost in USD", "kaizen_model_cost_usd_total", usd},
	} {
		got, err := instant(ctx, c, fmt.Sprintf("sum(%s{job=%q})", q.query, s.service))
		if err != nil {
			return err
		}
		s.saw(q.what, "metrics", got, q.want)
	}
	for _, q := range []struct {
		what, action, line string
		want               float64
	}{
		{"model calls", "model_call", "model call", calls},
		{"tool calls", "tool_execute", "tool call", tools},
	} {
		entries, err := countEntries(ctx, c, q.action, since)
		if err != nil {
			return err
		}
		s.saw(q.what, "audit", entries, q.want)
		lines, err := countLines(ctx, c, q.line, since)
		if err != nil {
			return err
		}
		s.saw(q.what, "logs", lines, q.want)
	}
	return nil
}

func (s *demoSummary) saw(what, system string, got, want float64) {
	s.seen = append(s.seen, sighting{what, system, got, want})
}

// check is an error when the systems do not agree with what was billed.
func (s *demoSummary) check() error {
	var errs []error
	for _, n := range s.seen {
		if math.Abs(n.got-n.want) > 5e-10 { // half a nano-dollar
			errs = append(errs, fmt.Errorf("demo: %s: %s say %v, the model server %v", n.what, n.system, n.got, n.want))
		}
	}
	if !s.AuditVerified {
		errs = append(errs, errors.New("demo: the ledger was not verified"))
	}
	return errors.Join(errs...)
}

func (s *demoSummary) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(s)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"traces", strconv.FormatInt(s.Traces, 10)}, {"spans", strconv.FormatInt(s.Spans, 10)},
		{"agents", strconv.FormatInt(s.Agents, 10)}, {"model calls", strconv.FormatInt(s.ModelCalls, 10)},
		{"tool calls", strconv.FormatInt(s.ToolCalls, 10)}, {"log records", strconv.FormatInt(s.LogRecords, 10)},
		{"metric series", strconv.FormatInt(s.MetricSeries, 10)},
		{"audit entries", fmt.Sprintf("%d, verified: %v", s.AuditEntries, s.AuditVerified)},
		{"cost", fmt.Sprintf("%.6f USD", s.CostUSD)}, {"took", (time.Duration(s.DurationMS) * time.Millisecond).String()},
	} {
		fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s.bill.Scripted != nil && s.check() == nil {
		fmt.Fprintf(w, "Traces, metrics, logs and audit agree with what the model server billed.\n")
	}
	_, err := fmt.Fprintf(w, "\nLook at it:\n  %s\n", s.UIURL)
	if s.DataDir != "" {
		_, err = fmt.Fprintf(w, "  kaizen cost --server %s\n  kaizen audit verify %s\n", s.UIURL, s.DataDir)
	}
	return err
}

// countTraces counts the traces since the start, page by page.
func countTraces(ctx context.Context, c *client, since url.Values) (n int64, err error) {
	q := url.Values{"since": since["since"], "limit": {"1000"}}
	for {
		var page struct {
			Traces []json.RawMessage `json:"traces"`
			Next   string            `json:"next"`
		}
		if err := c.get(ctx, "/api/traces", q, &page); err != nil {
			return 0, err
		}
		n += int64(len(page.Traces))
		if page.Next == "" {
			return n, nil
		}
		q.Set("cursor", page.Next)
	}
}

// countLines counts the log lines of the recorder that begin with text.
func countLines(ctx context.Context, c *client, text string, since url.Values) (n float64, err error) {
	q := url.Values{"since": since["since"], "limit": {"1000"}, "logger": {"kaizen"}, "q": {text}}
	for {
		var page struct {
			Logs []json.RawMessage `json:"logs"`
			Next string            `json:"next"`
		}
		if err := c.get(ctx, "/api/logs", q, &page); err != nil {
			return 0, err
		}
		n += float64(len(page.Logs))
		if page.Next == "" {
			return n, nil
		}
		q.Set("cursor", page.Next)
	}
}

func countEntries(ctx context.Context, c *client, action string, since url.Values) (float64, error) {
	var answer struct {
		Count float64 `json:"count"`
	}
	err := c.get(ctx, "/api/audit", url.Values{"since": since["since"], "action": {action}, "count": {"true"}}, &answer)
	return answer.Count, err
}

// countSeries counts the series of the metric store.
func countSeries(ctx context.Context, c *client) (int64, error) {
	var answer struct {
		Data []json.RawMessage `json:"data"`
	}
	err := c.get(ctx, "/prometheus/api/v1/series", url.Values{"match[]": {`{__name__=~".+"}`}}, &answer)
	return int64(len(answer.Data)), err
}

// instant asks for one number in PromQL; no series is 0.
func instant(ctx context.Context, c *client, query string) (float64, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := c.get(ctx, "/prometheus/api/v1/query", url.Values{"query": {query}}, &answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) == 0 {
		return 0, nil
	}
	text, ok := answer.Data.Result[0].Value[1].(string)
	if !ok {
		return 0, failed(fmt.Errorf("query %s: the value is no string", query))
	}
	return strconv.ParseFloat(text, 64)
}
