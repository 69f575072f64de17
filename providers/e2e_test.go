package providers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/providers/internal/rig"
)

// This file has what the end-to-end tests have in common. Each of them runs on
// every provider, and compares what was recorded with what the scripted server
// says that it was asked and billed.

// reply is a script.
type reply func(kaizentest.Request) kaizentest.Reply

// mock is a model in this process, with a script instead of a provider.
type mock struct {
	p     provider
	key   string
	reply reply
}

func (m mock) Info() agent.ModelInfo { return agent.ModelInfo{Provider: m.p.provider, Name: m.p.model} }

func (m mock) Generate(ctx context.Context, req agent.Request) (*agent.Response, error) {
	in := kaizentest.Request{Model: m.p.model, System: req.System, Header: http.Header{"Authorization": {"Bearer " + m.key}}}
	for _, t := range req.Tools {
		in.Tools = append(in.Tools, t.Name)
	}
	for _, msg := range req.Messages {
		out := kaizentest.Message{Role: string(msg.Role), Text: msg.Text}
		for _, c := range msg.ToolCalls {
			out.ToolCalls = append(out.ToolCalls, kaizentest.ToolCall{ID: c.ID, Name: c.Name, Arguments: c.Arguments})
		}
		for _, r := range msg.ToolResults {
			out.ToolResults = append(out.ToolResults, kaizentest.ToolResult{ID: r.ID, Text: r.Text})
		}
		if msg.Role == agent.Assistant {
			in.Turn++
		}
		in.Messages = append(in.Messages, out)
	}
	r := m.reply(in)
	if r.Delay > 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if r.Status >= 400 {
		return nil, fmt.Errorf("mock: status %d: %s", r.Status, r.ErrorMessage)
	}
	out := &agent.Response{Message: agent.Message{Role: agent.Assistant, Text: r.Text}, Model: m.p.model, HasUsage: true, Usage: r.Usage}
	for _, c := range r.ToolCalls {
		if c.Arguments == nil {
			c.Arguments = []byte("{}")
		}
		out.Message.ToolCalls = append(out.Message.ToolCalls, agent.ToolCall{ID: c.ID, Name: c.Name, Arguments: c.Arguments})
	}
	return out, ctx.Err()
}

func (m mock) Stream(ctx context.Context, req agent.Request, f func(agent.Chunk) error) (*agent.Response, error) {
	r, err := m.Generate(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, part := range strings.SplitAfter(r.Message.Text, " ") {
		if err := f(agent.Chunk{Text: part}); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// e2e is one test on one provider.
type e2e struct {
	*rig.Rig
	t      *testing.T
	p      provider
	server *kaizentest.ModelServer
	reply  reply

	samples rig.Samples
}

// everyProvider runs f on each provider, and on the mock, with a server of its own.
func everyProvider(t *testing.T, script func(e *e2e) reply, f func(e *e2e)) {
	t.Helper()
	mocked := provider{name: "mock", provider: "mock", model: "mock-1", usage: price.Usage{Input: 100, CacheRead: 40, Output: 10, Reasoning: 6}}
	for _, p := range append(slices.Clone(providers), mocked) {
		t.Run(p.name, func(t *testing.T) { f(newE2E(t, p, script)) })
	}
}

func newE2E(t *testing.T, p provider, script func(e *e2e) reply) *e2e {
	t.Helper()
	e := &e2e{Rig: rig.New(t, kaizen.Config{Content: kaizen.ContentFull}), t: t, p: p}
	e.reply = script(e)
	e.server = kaizentest.NewModelServer(kaizentest.Script{Reply: e.reply})
	t.Cleanup(e.server.Close)
	return e
}

// says is a script that always answers text.
func says(text string) func(*e2e) reply {
	return func(e *e2e) reply {
		return func(kaizentest.Request) kaizentest.Reply { return kaizentest.Reply{Text: text, Usage: e.p.usage} }
	}
}

// model returns the provider's model with that key.
func (e *e2e) model(key string) agent.Streamer {
	if e.p.make == nil {
		return mock{e.p, key, e.reply}
	}
	return e.p.make(e.server.URL, key, e.p.model)
}

// agent returns an observed agent; its model is the provider's unless set.
func (e *e2e) agent(cfg agent.Config) *agent.Agent {
	e.t.Helper()
	if cfg.Model == nil {
		cfg.Model = e.model(testKey)
	}
	a, err := agent.New(cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := a.Observe(e.Obs); err != nil {
		e.t.Fatal(err)
	}
	return a
}

// run lets r work and fails the test unless it says want.
func (e *e2e) run(ctx context.Context, r agent.Runner, input, want string) *agent.Result {
	e.t.Helper()
	res, err := r.Run(ctx, input)
	if err != nil || res.Output != want {
		e.t.Fatalf("Run(%q) = %q, %v, want %q", input, res.Output, err, want)
	}
	return res
}

// counts says how often something happened, by its name.
type counts map[string]int

func (c counts) sum() (n int) {
	for _, v := range c {
		n += v
	}
	return n
}

// expected is all that a test leaves.
type expected struct {
	// tree is the spans of all traces, and traces how many those are.
	tree   string
	traces int
	// runs are those that ended well, by agent; failedRuns those that did not.
	runs, failedRuns counts
	// calls of the model that were answered, by agent, and that were not.
	calls, failedCalls counts
	// tools are their calls, by tool; all end well.
	tools counts
	// unserved are the failed calls of which the server may know nothing.
	unserved bool
}

// check compares all records with what is expected of them.
func (e *e2e) check(want expected) {
	e.t.Helper()
	if got := e.Tree(); got != want.tree {
		e.t.Fatalf("spans:\n%s\nwant:\n%s", got, want.tree)
	}
	if n := e.Open(); n != 0 {
		e.t.Errorf("%d spans never ended", n)
	}
	e.checkSpans(want)
	e.checkMetrics(want)
	e.checkEntries(want)
	e.checkLines(want)
	e.checkBill(want)
}

// checkSpans checks the traces, and what each call says of tokens and price.
func (e *e2e) checkSpans(want expected) {
	e.t.Helper()
	traces := map[string]bool{}
	answered := 0
	for _, s := range e.Spans() {
		traces[s.Trace] = true
		if s.Attrs["kaizen.kind"] != "model" || s.Attrs["kaizen.status"] != "ok" {
			continue
		}
		answered++
		u := e.p.usage
		attrs := map[string]string{
			"gen_ai.operation.name": "chat", "gen_ai.provider.name": e.p.provider, "gen_ai.request.model": e.p.model,
			"gen_ai.usage.input_tokens":            str(u.Input + u.CacheRead + u.CacheWrite),
			"gen_ai.usage.output_tokens":           str(u.Output + u.Reasoning),
			"gen_ai.usage.cache_read.input_tokens": str(u.CacheRead), "gen_ai.usage.cache_write.input_tokens": str(u.CacheWrite),
			"gen_ai.usage.reasoning.output_tokens": str(u.Reasoning), "kaizen.cost.nano_usd": e.p.cost(1),
		}
		if e.p.make != nil { // what only the wire knows
			maps.Copy(attrs, map[string]string{"http.response.status_code": "200", "server.address": "127.0.0.1"})
		}
		s.Want(e.t, attrs)
	}
	if len(traces) != want.traces {
		e.t.Errorf("%d traces, want %d", len(traces), want.traces)
	}
	if n := want.calls.sum(); answered != n {
		e.t.Errorf("%d spans of answered calls, want %d", answered, n)
	}
}

// metric fails the test unless the sum of a metric's series is want. The metrics
// are those of its first call, when all work is done.
func (e *e2e) metric(want float64, name string, labels ...string) {
	e.t.Helper()
	if e.samples == nil {
		e.samples = e.Samples(e.t)
	}
	if got := e.samples.Sum(name, labels...); math.Abs(got-want) > 1e-12*max(1, want) {
		e.t.Errorf("%s%v = %v, want %v", name, labels, got, want)
	}
}

func (e *e2e) checkMetrics(want expected) {
	e.t.Helper()
	e.metric(0, "kaizen_agents_active")
	perAgent := func(name string, n counts, labels ...string) {
		e.t.Helper()
		e.metric(float64(n.sum()), name, labels...)
		for who, n := range n {
			e.metric(float64(n), name, append(labels, "agent="+who)...)
		}
	}
	perAgent("kaizen_agent_runs_total", want.runs, "status=ok")
	perAgent("kaizen_agent_runs_total", want.failedRuns, "status=error")
	model := []string{"provider=" + e.p.provider, "model=" + e.p.model}
	perAgent("kaizen_model_calls_total", want.calls, append(model, "operation=chat", "status=ok")...)
	perAgent("kaizen_model_calls_total", want.failedCalls, append(model, "operation=chat", "status=error")...)
	e.metric(float64(want.calls.sum()+want.failedCalls.sum()), "kaizen_model_call_duration_seconds")
	for who, n := range want.calls {
		u := e.p.usage
		for kind, tokens := range map[string]int64{
			metrics.KindInput: u.Input, metrics.KindCacheRead: u.CacheRead, metrics.KindCacheWrite: u.CacheWrite,
			metrics.KindOutput: u.Output, metrics.KindReasoning: u.Reasoning,
		} {
			e.metric(float64(tokens*int64(n)), "kaizen_model_tokens_total", append(model, "agent="+who, "kind="+kind)...)
		}
		unpriced := 0
		if e.p.nanoUSD == 0 {
			unpriced = n
		}
		e.metric(float64(e.p.nanoUSD*int64(n))/1e9, "kaizen_model_cost_usd_total", append(model, "agent="+who)...)
		e.metric(float64(unpriced), "kaizen_model_calls_unpriced_total", append(model, "agent="+who)...)
	}
	e.metric(float64(want.tools.sum()), "kaizen_tool_calls_total", "status=ok")
	for tool, n := range want.tools {
		e.metric(float64(n), "kaizen_tool_calls_total", "tool="+tool, "status=ok")
	}
	e.metric(0, "kaizen_tool_calls_total", "status=error")
}

// checkEntries checks how many entries there are of each action and result, and
// that each is of a span that was recorded.
func (e *e2e) checkEntries(want expected) {
	e.t.Helper()
	spans := map[string]string{}
	for _, s := range e.Spans() {
		spans[s.ID] = s.Trace
	}
	got := map[string]counts{}
	for _, entry := range e.Entries(e.t, "") {
		if trace, known := spans[entry.SpanID]; !known || trace != entry.TraceID || entry.RunID == "" {
			e.t.Errorf("entry %s: span %s of trace %s, run %q", entry.Action, entry.SpanID, entry.TraceID, entry.RunID)
		}
		key := entry.Action + " " + string(entry.Result)
		if got[key] == nil {
			got[key] = counts{}
		}
		got[key][entry.AgentID]++
	}
	for key, n := range map[string]counts{
		"agent_run " + string(audit.Success): want.runs, "agent_run " + string(audit.Failure): want.failedRuns,
		"model_call " + string(audit.Success): want.calls, "model_call " + string(audit.Failure): want.failedCalls,
	} {
		if got[key].sum() != n.sum() || n.sum() > 0 && !maps.Equal(got[key], n) {
			e.t.Errorf("entries %q: %v, want %v", key, got[key], n)
		}
	}
	if a, b := got["agent_start "+string(audit.Success)].sum(), want.runs.sum()+want.failedRuns.sum(); a != b {
		e.t.Errorf("%d entries of runs that began, want %d", a, b)
	}
	if a, b := got["tool_execute "+string(audit.Success)].sum(), want.tools.sum(); a != b {
		e.t.Errorf("%d entries of tools, want %d", a, b)
	}
}

// checkLines checks that each call left a log line under the ids of its trace.
func (e *e2e) checkLines(want expected) {
	e.t.Helper()
	traces := map[string]bool{}
	for _, s := range e.Spans() {
		traces[s.Trace] = true
	}
	got := counts{}
	for line := range strings.Lines(e.Logs.String()) {
		var l struct {
			Msg     string `json:"message"`
			TraceID string `json:"trace_id"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			e.t.Fatalf("log line %q: %v", line, err)
		}
		if got[l.Msg]++; !traces[l.TraceID] {
			e.t.Errorf("a line %q of the unknown trace %q", l.Msg, l.TraceID)
		}
	}
	for msg, n := range map[string]int{
		"agent run": want.runs.sum(), "agent run failed": want.failedRuns.sum(),
		"model call": want.calls.sum(), "model call failed": want.failedCalls.sum(), "tool call": want.tools.sum(),
	} {
		if got[msg] != n {
			e.t.Errorf("%d lines %q, want %d", got[msg], msg, n)
		}
	}
}

// checkBill holds the counts against the account of the server.
func (e *e2e) checkBill(want expected) {
	e.t.Helper()
	if e.p.make == nil {
		return
	}
	bill := e.server.Bill()
	total := price.Usage{}
	for range want.calls.sum() {
		total = total.Add(e.p.usage)
	}
	if bill.OK != want.calls.sum() || !want.unserved && bill.Failed != want.failedCalls.sum() || bill.Usage != total {
		e.t.Errorf("the server billed %+v; want %d calls answered, %d not, %+v", bill, want.calls.sum(), want.failedCalls.sum(), total)
	}
	for _, s := range e.server.Ledger() {
		if s.Dialect != e.p.dialect {
			e.t.Errorf("the server heard %s, want %s", s.Dialect, e.p.dialect)
		}
	}
}

// authorized reports whether the request has the right key.
func authorized(r kaizentest.Request) bool {
	return r.Header.Get("Authorization") == "Bearer "+testKey || r.Header.Get("X-Api-Key") == testKey
}

// asked is what the last message of a request says.
func asked(r kaizentest.Request) string { return r.Messages[len(r.Messages)-1].Text }

// barrier lets nobody through before all have come: they are there at once.
type barrier struct {
	all sync.WaitGroup
}

func newBarrier(n int) *barrier {
	b := &barrier{}
	b.all.Add(n)
	return b
}

func (b *barrier) pass() {
	b.all.Done()
	b.all.Wait()
}
