package uitest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// builder collects canned records. Ids come from a seeded generator, so that
// two fixtures of one time are alike.
type builder struct {
	now     time.Time
	rng     *rand.Rand
	traces  []*draft
	logs    []object
	entries []object
}

// draft is a trace that is being written.
type draft struct {
	id, session, user string
	at                time.Time // its start
	spans             []object
}

func newBuilder(now time.Time) *builder {
	return &builder{now: now, rng: rand.New(rand.NewPCG(7, 11))}
}

func (b *builder) hex(n int) string {
	buf := make([]byte, 0, 16)
	for len(buf) < n {
		buf = binary.BigEndian.AppendUint64(buf, b.rng.Uint64())
	}
	return hex.EncodeToString(buf[:n])
}

func (b *builder) trace(ago time.Duration, session, user string) *draft {
	d := &draft{id: b.hex(16), session: session, user: user, at: b.now.Add(-ago)}
	b.traces = append(b.traces, d)
	return d
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

// ms is an offset or a length on the trace's clock.
func ms(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }

// span adds one. A length below zero means that it is still running.
func (b *builder) span(d *draft, parent object, kind, name string, from, length float64, more object) object {
	start := d.at.Add(ms(from))
	s := object{
		"trace_id": d.id, "span_id": b.hex(8), "parent_span_id": "", "name": name, "kind": kind, "start": stamp(start), "status": "ok",
		"status_message": "", "error_type": "", "pending": false, "service": "desk", "scope": "github.com/kaizen-go/kaizen", "session_id": d.session, "user_id": d.user,
		"operation": "", "provider": "", "model": "", "response_model": "", "tool_name": "", "agent_name": "", "agent_id": "", "run_id": "",
		"tokens": nil, "cost_usd": nil, "first_chunk_ms": nil, "events": []object{}, "links": []object{}, "input_messages": nil, "output_messages": nil, "system_instructions": nil,
		"resource": object{"service.name": "desk", "service.instance.id": "desk-1", "telemetry.sdk.language": "go"},
	}
	if parent != nil {
		s["parent_span_id"] = parent["span_id"]
		for _, inherit := range []string{"agent_name", "agent_id", "run_id"} {
			s[inherit] = parent[inherit]
		}
	}
	if length < 0 {
		s["end"], s["duration_ms"], s["status"], s["pending"] = nil, nil, "running", true
	} else {
		s["end"], s["duration_ms"] = stamp(start.Add(ms(length))), length
	}
	maps.Copy(s, more)
	attributes := object{"kaizen.kind": kind, "kaizen.op.id": b.hex(10)}
	if given, ok := s["attributes"].(object); ok {
		maps.Copy(attributes, given)
	}
	s["attributes"] = attributes
	d.spans = append(d.spans, s)
	return s
}

// run adds the run of an agent with its audit entries and a log line.
func (b *builder) run(d *draft, parent object, agent string, from, length float64, more object) object {
	fields := object{"agent_name": agent, "agent_id": agent + "-" + b.hex(2), "run_id": b.hex(8), "operation": "invoke_agent"}
	maps.Copy(fields, more)
	s := b.span(d, parent, "run", "invoke_agent "+agent, from, length, fields)
	b.log(s, "info", "kaizen.agent", "run started", from+0.4, object{"agent": agent})
	b.entry(s, "agent.start", "success", from+0.2, object{"agent": agent})
	if length >= 0 {
		result := map[any]string{"ok": "success", "denied": "denied"}[s["status"]]
		if result == "" {
			result = "failure"
		}
		b.entry(s, "agent.end", result, from+length, object{"agent": agent, "duration_ms": length})
	}
	return s
}

// usage is input, cache read, cache write, output, reasoning.
func usage(n ...int) object {
	return object{"input": n[0], "cache_read": n[1], "cache_write": n[2], "output": n[3], "reasoning": n[4]}
}

func (b *builder) model(d *draft, parent object, model string, from, length float64, more object) object {
	provider := map[string]string{"gpt-5-mini": "openai", "gpt-5": "openai", "claude-sonnet-4-5": "anthropic"}[model]
	if provider == "" {
		provider = "ollama"
	}
	fields := object{"operation": "chat", "provider": provider, "model": model, "response_model": model + "-2026-05-01"}
	maps.Copy(fields, more)
	s := b.span(d, parent, "model", "chat "+model, from, length, fields)
	a := s["attributes"].(object)
	a["gen_ai.operation.name"], a["gen_ai.request.model"], a["gen_ai.provider.name"] = "chat", model, provider
	if s["cost_usd"] != nil {
		a["kaizen.cost.table"], a["kaizen.cost.rule"] = "2026-09-30", model+" standard"
	}
	b.entry(s, "model.call", result(s), from+max(length, 0), object{"model": model, "provider": provider})
	return s
}

func (b *builder) tool(d *draft, parent object, name string, from, length float64, args, output any, more object) object {
	fields := object{"tool_name": name, "operation": "execute_tool"}
	if args != nil {
		fields["tool_arguments"] = args
	}
	if output != nil {
		fields["tool_result"] = output
	}
	maps.Copy(fields, more)
	s := b.span(d, parent, "tool", "execute_tool "+name, from, length, fields)
	b.log(s, "debug", "kaizen.tool", "calling "+name, from+0.1, object{"arguments": args})
	b.entry(s, "tool.execute", result(s), from+max(length, 0), object{"tool": name})
	return s
}

func result(s object) string {
	switch s["status"] {
	case "ok", "running":
		return "success"
	case "denied":
		return "denied"
	}
	return "failure"
}

func failed(kind, message string) object {
	return object{"status": "error", "error_type": kind, "status_message": message}
}

func with(list ...object) object {
	out := object{}
	for _, o := range list {
		maps.Copy(out, o)
	}
	return out
}

func (b *builder) at(s object) time.Time {
	for _, d := range b.traces {
		if d.id == s["trace_id"] {
			return d.at
		}
	}
	return b.now
}

func (b *builder) log(s object, level, logger, message string, from float64, context object) {
	b.logs = append(b.logs, object{
		"timestamp": stamp(b.at(s).Add(ms(from))), "level": level, "message": message, "logger": logger, "trace_id": s["trace_id"], "span_id": s["span_id"],
		"agent_id": s["agent_id"], "session_id": s["session_id"], "run_id": s["run_id"], "service": s["service"], "context": context,
	})
}

func (b *builder) entry(s object, action, result string, from float64, details object) {
	e := object{
		"id": fmt.Sprintf("01JD%022d", len(b.entries)), "time": stamp(b.at(s).Add(ms(from))), "agent_id": s["agent_name"], "action": action, "result": result, "details": details,
		"trace_id": s["trace_id"], "span_id": s["span_id"], "run_id": s["run_id"],
	}
	if s["session_id"] != "" {
		e["session_id"] = s["session_id"]
	}
	if s["user_id"] != "" {
		e["user_id"] = s["user_id"]
	}
	b.entries = append(b.entries, e)
}

func text(role, content string) object {
	return object{"role": role, "parts": []object{{"type": "text", "content": content}}}
}

func messages(m ...object) []object { return m }

// finish computes a trace's summary, in the way that the server's does.
func (b *builder) finish(d *draft) *trace {
	slices.SortStableFunc(d.spans, func(x, y object) int {
		return compareText(x["start"].(string), y["start"].(string))
	})
	root := d.spans[0]
	sum := object{
		"trace_id": d.id, "name": root["name"], "run_id": root["run_id"], "agent_name": root["agent_name"], "agent_id": root["agent_id"], "session_id": d.session, "user_id": d.user,
		"service": "desk", "start": root["start"], "end": root["end"], "duration_ms": root["duration_ms"], "status": root["status"], "spans": len(d.spans),
	}
	count := func(test func(object) bool) int { return len(keep(d.spans, test)) }
	kind := func(kinds ...string) func(object) bool {
		return func(s object) bool { return slices.Contains(kinds, s["kind"].(string)) && s["end"] != nil }
	}
	sum["errors"] = count(func(s object) bool { return s["status"] == "error" || s["status"] == "denied" })
	sum["runs"] = count(func(s object) bool { return s["kind"] == "run" })
	sum["model_calls"], sum["tool_calls"] = count(kind("model", "embedding")), count(kind("tool"))
	sum["log_records"] = len(keep(b.logs, func(o object) bool { return o["trace_id"] == d.id }))
	sum["audit_entries"] = len(keep(b.entries, func(o object) bool { return o["trace_id"] == d.id }))
	sum["agents"] = names(d.spans)
	t := total(keep(d.spans, kind("model", "embedding")))
	sum["tokens"], sum["cost_usd"], sum["unpriced_calls"] = t.tokens, t.cost(), t.unpriced
	return &trace{summary: sum, spans: d.spans}
}

func compareText(x, y string) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func names(spans []object) []string {
	out := []string{}
	for _, s := range spans {
		if n, _ := s["agent_name"].(string); n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
