package kaizen

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/redact"
)

// wire is the only place that says which span, samples, log line and audit
// entry an event becomes. It is the [hook.Recorder] of an [Observer]; its
// methods run on the caller, so nothing in them waits for a disk or a network
// unless durable audit was asked for.
type wire struct {
	tracer  genai.Tracer
	metrics *metrics.Metrics
	log     *slog.Logger
	audit   *Auditor
	redact  *redact.Redactor
	prices  *price.Book
	content Content
	self    selfTime
	names   spanNames
	// late is set where no sampler asks what a tool's span is about: see wire_late.go.
	late bool
}

// rule says what the events of one kind become. Each function may be nil.
type rule struct {
	// span names the span that starts with the operation; its attributes are
	// appended to those given.
	span func(*wire, *hook.Event, []attribute.KeyValue) genai.Operation
	// result appends what the span learns at the end.
	result func(*wire, *hook.Event, []attribute.KeyValue) []attribute.KeyValue
	// count adds the operation to the metric families.
	count func(*wire, *hook.Event, metrics.Exemplar)
	// level and message are of the log line that says that it ended well.
	level   slog.Level
	message string
	// fields are the line's and the entry's own fields, in pairs.
	fields func(*wire, *hook.Event) []any
	// action names the audit entry that is written at the end, "" for none;
	// begun the one that is written at the start.
	action, begun string
}

// rules has one rule for each kind of event.
var rules = [...]rule{
	hook.KindRun:            {runSpan, runResult, countRun, slog.LevelInfo, "agent run", runFields, "agent_run", "agent_start"},
	hook.KindIteration:      {iterationSpan, nil, nil, slog.LevelDebug, "iteration", iterationFields, "", ""},
	hook.KindPlan:           {planSpan, planResult, countPlan, slog.LevelInfo, "plan", planFields, "plan_generate", ""},
	hook.KindModelCall:      {modelSpan, modelResult, countModel, slog.LevelInfo, "model call", modelFields, "model_call", ""},
	hook.KindTool:           {toolSpan, toolResult, countTool, slog.LevelInfo, "tool call", toolFields, "tool_execute", ""},
	hook.KindMemoryLoad:     {memoryLoadSpan, memoryLoadResult, countMemory, slog.LevelDebug, "memory load", memoryFields, "memory_load", ""},
	hook.KindMemorySave:     {memorySaveSpan, nil, countMemory, slog.LevelDebug, "memory save", memoryFields, "memory_save", ""},
	hook.KindCheckpointSave: {checkpointSaveSpan, checkpointResult, countCheckpoint, slog.LevelInfo, "checkpoint save", checkpointFields, "checkpoint_save", ""},
	hook.KindCheckpointLoad: {checkpointLoadSpan, checkpointResult, countCheckpoint, slog.LevelInfo, "checkpoint load", checkpointFields, "checkpoint_load", ""},
	hook.KindPermission:     {permissionSpan, permissionResult, countPermission, slog.LevelInfo, "permission check", permissionFields, "permission_check", ""},
	hook.KindInterrupt:      {interruptSpan, nil, countInterrupt, slog.LevelWarn, "interrupt", interruptFields, "interrupt_triggered", ""},
	hook.KindSpecialist:     {specialistSpan, nil, nil, slog.LevelDebug, "specialist", specialistFields, "specialist_invoke", ""},
	hook.KindHandoff:        {handoffSpan, nil, countHandoff, slog.LevelInfo, "handoff", handoffFields, "handoff", ""},
	hook.KindError:          {errorSpan, nil, nil, slog.LevelError, "error", errorFields, "error", ""},
	hook.KindGuard:          {guardSpan, nil, countGuard, slog.LevelWarn, "guard", guardFields, "guard_action", ""},
}

// Start implements [hook.Recorder]: the operation's span begins.
func (w *wire) Start(ctx context.Context, e *hook.Event) context.Context {
	t := w.self.at(e.Time)
	r := &rules[e.Kind()]
	ctx, span := w.startSpan(ctx, r, e)
	t = w.self.add(signalTraces, t)
	if e.Kind() == hook.KindRun {
		w.metrics.Shift(metrics.AgentsActive, 1, e.Run.AgentName)
		t = w.self.add(signalMetrics, t)
	}
	if r.begun != "" && w.audit.active() {
		w.audit.note(ctx, w.entry(e, r.fields(w, e), r.begun, audit.Success, span.SpanContext()))
		w.self.add(signalAudit, t)
	}
	return ctx
}

// End implements [hook.Recorder]: the operation's span ends, and it is counted,
// logged and entered in the ledger, all under the ids of that span.
func (w *wire) End(ctx context.Context, e *hook.Event) {
	t := w.self.at(e.Time)
	if e.Past() {
		t = w.self.now()
	}
	r := &rules[e.Kind()]
	span := trace.SpanFromContext(ctx)
	if call, ok := e.Payload.(*hook.ModelCall); ok {
		w.price(call, e)
	}
	out := w.outcome(e)
	out.Room = w.room()
	out.Attributes = out.Room.Attributes()
	enrich := e.Kind() == hook.KindModelCall && enriches(ctx)
	if span.IsRecording() && e.Kind() != hook.KindRun && !enrich {
		if w.comesLate(e.Kind()) {
			out.Attributes = w.operation(r, e, out.Room).Attributes
		}
		out.Attributes = appendIDs(out.Attributes, &e.Run)
	}
	if r.result != nil {
		out.Attributes = r.result(w, e, out.Attributes)
	}
	if enrich {
		genai.Enrich(span, out)
	} else {
		w.endSpan(span, e, out)
	}
	w.reuse(out.Room, out.Attributes)
	out.Room, out.Attributes = nil, nil
	t = w.self.add(signalTraces, t)

	if r.count != nil {
		r.count(w, e, exemplarOf(span.SpanContext(), e.Time))
	}
	w.countEnd(e)
	t = w.self.add(signalMetrics, t)

	level, message := r.lineOf(e.Status)
	logs, audits := w.log.Enabled(ctx, level), r.action != "" && w.audit.active()
	if !logs && !audits {
		return
	}
	fields := r.fields(w, e)
	if audits {
		w.audit.note(ctx, w.entry(e, fields, auditAction(r, e), auditResult(e.Status), span.SpanContext()))
		t = w.self.add(signalAudit, t)
	}
	if logs {
		w.line(ctx, level, message, fields, e, out)
		w.self.add(signalLogs, t)
	}
}

// startSpan starts the span of an operation. A model call that has one already,
// of the library that makes it, is given no second: that one learns what it lacks.
// Samplers are shown what the operation is and whose; the other ids follow at the
// end where there is a record of them.
func (w *wire) startSpan(ctx context.Context, r *rule, e *hook.Event) (context.Context, trace.Span) {
	if w.comesLate(e.Kind()) {
		return w.startLate(ctx, e)
	}
	op := w.operation(r, e, w.room())
	defer w.reuse(op.Room, op.Attributes)
	if e.Kind() == hook.KindModelCall && enriches(ctx) {
		span := trace.SpanFromContext(ctx)
		// At once: nobody knows when it ends.
		genai.Enrich(span, genai.Outcome{Attributes: appendIDs(op.Attributes, &e.Run)})
		return ctx, span
	}
	if w.content == ContentOff && w.tracer.Copies() {
		op.Start = time.Time{}
	}
	ctx, span := w.tracer.Start(ctx, op)
	if op.Start.IsZero() {
		startedWith(span, e)
	}
	return ctx, span
}

// operation is what the span of e starts with. A run is announced with all that
// is known of it.
func (w *wire) operation(r *rule, e *hook.Event, room *genai.Room) genai.Operation {
	op := r.span(w, e, room.Attributes())
	op.Room, op.Start = room, e.Start
	op.Attributes = append(op.Attributes, genai.Kind.String(spanKind(e.Kind())))
	if e.Run.AgentName != "" {
		op.Attributes = append(op.Attributes, genai.AgentName.String(e.Run.AgentName))
	}
	if e.Kind() == hook.KindRun {
		op.Attributes = appendIDs(op.Attributes, &e.Run)
	}
	return op
}

// appendIDs appends the ids of a run.
func appendIDs(kvs []attribute.KeyValue, run *hook.Run) []attribute.KeyValue {
	if run.AgentID != "" {
		kvs = append(kvs, genai.AgentID.String(run.AgentID))
	}
	if run.RunID != "" {
		kvs = append(kvs, genai.RunID.String(run.RunID))
	}
	if run.ParentRunID != "" {
		kvs = append(kvs, genai.ParentRunID.String(run.ParentRunID))
	}
	if run.SessionID != "" {
		kvs = append(kvs, genai.ConversationID.String(run.SessionID))
	}
	if run.UserID != "" {
		kvs = append(kvs, genai.UserID.String(run.UserID))
	}
	return kvs
}

// outcome says how the operation ended, free of secrets.
func (w *wire) outcome(e *hook.Event) genai.Outcome {
	out := genai.Outcome{Time: e.Time, Status: string(e.Status)}
	if e.Err == nil {
		return out
	}
	out.ErrorType = errorType(e.Err)
	if call, ok := e.Payload.(*hook.ModelCall); ok && call.ErrorType != "" && e.Status == hook.Failed {
		out.ErrorType = call.ErrorType
	}
	out.Message = w.redact.String(e.Err.Error())
	out.Stack = w.redact.String(stackOf(e.Err))
	return out
}

// price fills in what the call cost, where that is known.
func (w *wire) price(c *hook.ModelCall, e *hook.Event) {
	if !c.HasUsage || c.Priced {
		return
	}
	for _, model := range [...]string{c.ResponseModel, c.Model} {
		if model == "" {
			continue
		}
		if cost, ok := w.prices.Cost(c.Provider, model, e.Start, c.Usage); ok {
			c.CostNanoUSD, c.Priced = cost.NanoUSD, true
			c.PriceTable, c.PriceRule = cost.Table, cost.Rule
			return
		}
	}
}

// unpriced reports whether a call cost something that is not known. A call that
// was refused or failed before an answer began is charged by no provider.
func unpriced(c *hook.ModelCall, status hook.Status) bool {
	return !c.Priced && (status == hook.OK || c.Partial)
}

// lineOf is the level and message of the line that says how an operation ended.
func (r *rule) lineOf(status hook.Status) (slog.Level, string) {
	switch status {
	case hook.Failed:
		return slog.LevelError, r.message + " failed"
	case hook.Denied, hook.Cancelled:
		return slog.LevelWarn, r.message + " " + string(status)
	}
	return r.level, r.message
}

// line writes the log line that says how the operation ended.
func (w *wire) line(ctx context.Context, level slog.Level, message string, fields []any, e *hook.Event, out genai.Outcome) {
	fields = append(fields, "status", string(e.Status), "duration_ms", milliseconds(e.Duration()))
	if out.Message != "" {
		fields = append(fields, "error", out.Message, "error_type", out.ErrorType)
	}
	w.log.Log(ctx, level, message, fields...)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// entry is the audit entry of an event, under the ids of its span.
func (w *wire) entry(e *hook.Event, fields []any, action string, result audit.Result, sc trace.SpanContext) audit.Entry {
	details := make(map[string]any, 2+len(fields)/2)
	for i := 0; i+1 < len(fields); i += 2 {
		details[fields[i].(string)] = fields[i+1]
	}
	severity := "info"
	if e.Phase == hook.End {
		details["duration_ms"] = milliseconds(e.Duration())
		if e.Err != nil {
			details["error"] = w.redact.String(e.Err.Error())
			severity = "warning"
		}
	}
	entry := audit.Entry{
		Time: e.Time, AgentID: e.Run.AgentID, Action: action, Result: result, Details: details,
		UserID: e.Run.UserID, SessionID: e.Run.SessionID, RunID: e.Run.RunID, Severity: severity,
	}
	if sc.IsValid() {
		entry.TraceID, entry.SpanID = sc.TraceID().String(), sc.SpanID().String()
	}
	return entry
}

// auditAction names the entry; a permission's names the answer, as auditors
// look for those.
func auditAction(r *rule, e *hook.Event) string {
	if p, ok := e.Payload.(*hook.Permission); ok {
		switch p.Decision {
		case "allow":
			return "permission_grant"
		case "deny":
			return "permission_deny"
		}
	}
	return r.action
}

func auditResult(s hook.Status) audit.Result {
	switch s {
	case hook.OK:
		return audit.Success
	case hook.Denied:
		return audit.Denied
	}
	return audit.Failure
}

func exemplarOf(sc trace.SpanContext, at time.Time) metrics.Exemplar {
	if !sc.IsSampled() {
		return metrics.Exemplar{}
	}
	return metrics.Exemplar{TraceID: sc.TraceID(), SpanID: sc.SpanID(), UnixNano: at.UnixNano()}
}
