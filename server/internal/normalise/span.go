package normalise

import (
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Span reads s. The result shares nothing with s. The error is a
// [*RejectError].
func (n Normaliser) Span(res *Resource, scope string, s ptrace.Span, received time.Time) (*record.Span, error) {
	out := &record.Span{
		TraceID: record.TraceID(s.TraceID()), SpanID: record.SpanID(s.SpanID()), ParentID: record.SpanID(s.ParentSpanID()),
		Name: intern(strings.ToValidUTF8(s.Name(), "\uFFFD")), OTelKind: otelKind(s.Kind()),
		Service: res.Service, Instance: res.Instance, Resource: res.Attributes,
		Scope: intern(strings.ToValidUTF8(scope, "\uFFFD")), Received: received,
	}
	switch {
	case out.TraceID.IsZero():
		return nil, reject(ReasonID, "span %.64q has no trace id", out.Name)
	case out.SpanID.IsZero():
		return nil, reject(ReasonID, "span %.64q of trace %s has no span id", out.Name, out.TraceID)
	}
	if out.ParentID == out.SpanID {
		out.ParentID = record.SpanID{} // its own parent: a root
	}
	m, err := toMap(s.Attributes(), "span")
	if err != nil {
		return nil, err
	}
	out.Attributes = m
	a := attrs(m)
	if err := setTimes(out, s, a); err != nil {
		return nil, err
	}
	if err := setEvents(out, s); err != nil {
		return nil, err
	}
	if err := setLinks(out, s); err != nil {
		return nil, err
	}
	n.interpret(out, a, s.Status())
	return out, nil
}

// interpret fills what the attributes say under any convention.
func (n Normaliser) interpret(s *record.Span, a attrs, st ptrace.Status) {
	s.Kind = kindOf(a, s.Name)
	s.Operation = operationOf(a, s.Kind)
	s.Provider = providerOf(a)
	s.Model = intern(a.str("gen_ai.request.model", "llm.model_name", "embedding.model_name", "ai.model.id",
		"llm.request.model", "langfuse.observation.model.name", "model"))
	if s.Kind != record.KindModel && s.Kind != record.KindEmbedding && !a.has("gen_ai.request.model") {
		s.Model = ""
	}
	s.ResponseModel = intern(a.str("gen_ai.response.model", "llm.response.model", "ai.response.model"))
	setIdentity(s, a)
	setStatus(s, a, st)
	if s.Kind == record.KindTool {
		s.ToolName = intern(toolName(a, s.Name))
	}
	s.Usage, s.HasUsage = usageOf(a, s.Scope, s.Name, s.Provider)
	s.FirstChunk = firstChunk(a, s.Start)
	n.price(s, a)
}

func setTimes(out *record.Span, s ptrace.Span, a attrs) error {
	start, ok := instant(s.StartTimestamp())
	if !ok {
		return reject(ReasonTime, "span %s starts at %d ns, after the year 2262", out.SpanID, s.StartTimestamp())
	}
	end, ok := instant(s.EndTimestamp())
	if !ok {
		return reject(ReasonTime, "span %s ends at %d ns, after the year 2262", out.SpanID, s.EndTimestamp())
	}
	// A span without an end has not ended, whether it says so or not.
	out.Pending = a.bool("kaizen.pending") || end.IsZero()
	if start.IsZero() {
		start = end
	}
	if start.IsZero() {
		start = out.Received
	}
	out.Start = start
	if !out.Pending {
		out.End = end
		if end.Before(start) { // clocks that were set back
			out.End = start
		}
	}
	return nil
}

func setEvents(out *record.Span, s ptrace.Span) error {
	if n := s.Events().Len(); n > maxParts {
		return reject(ReasonCount, "span %s has %d events (limit %d)", out.SpanID, n, maxParts)
	}
	for _, e := range s.Events().All() {
		m, err := toMap(e.Attributes(), "event")
		if err != nil {
			return err
		}
		t, ok := instant(e.Timestamp())
		if !ok || t.IsZero() {
			t = out.Start
		}
		out.Events = append(out.Events, record.SpanEvent{Name: intern(strings.ToValidUTF8(e.Name(), "\uFFFD")), Time: t, Attributes: m})
	}
	return nil
}

func setLinks(out *record.Span, s ptrace.Span) error {
	if n := s.Links().Len(); n > maxParts {
		return reject(ReasonCount, "span %s has %d links (limit %d)", out.SpanID, n, maxParts)
	}
	for _, l := range s.Links().All() {
		m, err := toMap(l.Attributes(), "link")
		if err != nil {
			return err
		}
		out.Links = append(out.Links, record.Link{TraceID: record.TraceID(l.TraceID()), SpanID: record.SpanID(l.SpanID()), Attributes: m})
	}
	return nil
}

func otelKind(k ptrace.SpanKind) string {
	switch k {
	case ptrace.SpanKindClient:
		return "client"
	case ptrace.SpanKindServer:
		return "server"
	case ptrace.SpanKindProducer:
		return "producer"
	case ptrace.SpanKindConsumer:
		return "consumer"
	}
	return "internal"
}

var statuses = map[string]record.Status{
	"ok": record.StatusOK, "error": record.StatusError, "denied": record.StatusDenied, "cancelled": record.StatusCancelled,
}

// setStatus takes our own word first. Some senders state a failure by its type
// alone, without a span status.
func setStatus(s *record.Span, a attrs, st ptrace.Status) {
	s.StatusMessage = strings.ToValidUTF8(st.Message(), "\uFFFD")
	s.ErrorType = intern(a.str("error.type"))
	own, ok := statuses[a.str("kaizen.status")]
	switch {
	case s.Pending:
		s.Status = record.StatusRunning
	case ok:
		s.Status = own
	case st.Code() == ptrace.StatusCodeError:
		s.Status = record.StatusError
	case st.Code() == ptrace.StatusCodeUnset && s.ErrorType != "":
		s.Status = record.StatusError
	default:
		s.Status = record.StatusOK
	}
	if s.Status == record.StatusError && s.ErrorType == "" {
		s.ErrorType = exceptionType(s.Events)
	}
}

func exceptionType(events []record.SpanEvent) string {
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Name == "exception" {
			return attrs(events[i].Attributes).str("exception.type")
		}
	}
	return ""
}

// Names of ids, ours and the conventions' first.
var (
	sessionKeys = []string{
		"gen_ai.conversation.id", "session.id", "langfuse.session.id", "ai.telemetry.metadata.sessionId",
		"traceloop.association.properties.session_id", "gcp.vertex.agent.session_id",
	}
	userKeys = []string{
		"user.id", "enduser.id", "langfuse.user.id", "ai.telemetry.metadata.userId",
		"traceloop.association.properties.user_id",
	}
	agentIDKeys   = []string{"gen_ai.agent.id", "kaizen.agent.id"}
	agentNameKeys = []string{"gen_ai.agent.name", "kaizen.agent.name", "agent.name", "ai.telemetry.functionId", "agent_name"}
)

func setIdentity(s *record.Span, a attrs) {
	s.RunID = a.str("kaizen.run.id")
	s.AgentID = intern(a.str(agentIDKeys...))
	s.AgentName = intern(a.str(agentNameKeys...))
	s.SessionID = intern(a.str(sessionKeys...))
	s.UserID = intern(a.str(userKeys...))
	if s.AgentName == "" && s.Kind == record.KindRun {
		s.AgentName = intern(runName(a, s))
	}
}

// runName names the agent of a run that does not say: by what its convention
// puts elsewhere, else by the span.
func runName(a attrs, s *record.Span) string {
	if w := a.str("gen_ai.workflow.name", "traceloop.entity.name", "genkit:name"); w != "" {
		return w
	}
	if s.AgentID != "" {
		return s.AgentID
	}
	return strings.TrimPrefix(strings.TrimPrefix(s.Name, "invoke_agent "), "invoke_workflow ")
}

func toolName(a attrs, span string) string {
	if t := a.str("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "traceloop.entity.name", "tool_name", "genkit:name"); t != "" {
		return t
	}
	return strings.TrimPrefix(strings.TrimPrefix(span, "execute_tool "), "tools/call ")
}

// firstChunk returns the time to the first streamed chunk; zero is unknown.
func firstChunk(a attrs, start time.Time) time.Duration {
	f, ok := a.float("gen_ai.response.time_to_first_chunk", "gen_ai.client.operation.time_to_first_chunk",
		"gen_ai.client.inference.time_to_first_chunk", "gen_ai.server.time_to_first_token")
	if !ok {
		f, ok = a.float("ai.response.msToFirstChunk", "ttft_ms")
		f /= 1000
	}
	if !ok {
		t, err := time.Parse(time.RFC3339Nano, strings.Trim(a.str("langfuse.observation.completion_start_time"), `"`))
		if err != nil || t.Before(start) {
			return 0
		}
		return t.Sub(start)
	}
	const day = 24 * 3600
	if f <= 0 || f > day {
		return 0
	}
	return time.Duration(math.Round(f * float64(time.Second)))
}
