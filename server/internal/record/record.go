// Package record holds the server's own model of what it was sent: spans and
// log records in one form, whatever convention the sender followed. The ingest
// side makes them, the store keeps them, and metrics, API and page read them.
package record

import (
	"encoding/hex"
	"time"

	"github.com/kaizen-go/kaizen/price"
)

// TraceID and SpanID are W3C ids. The zero value means "none".
type (
	TraceID [16]byte
	SpanID  [8]byte
)

// IsZero reports whether the id is absent.
func (t TraceID) IsZero() bool { return t == TraceID{} }

// String returns the id as 32 lower-case hex digits, or "" when absent.
func (t TraceID) String() string {
	if t.IsZero() {
		return ""
	}
	return hex.EncodeToString(t[:])
}

// IsZero reports whether the id is absent.
func (s SpanID) IsZero() bool { return s == SpanID{} }

// String returns the id as 16 lower-case hex digits, or "" when absent.
func (s SpanID) String() string {
	if s.IsZero() {
		return ""
	}
	return hex.EncodeToString(s[:])
}

// Kind is what a span stands for in the life of an agent.
type Kind string

// The kinds of span. They are the values of the attribute kaizen.kind; spans
// of other senders are classed by their GenAI operation.
const (
	KindRun        Kind = "run" // gen_ai.operation.name invoke_agent or invoke_workflow
	KindIteration  Kind = "iteration"
	KindPlan       Kind = "plan"
	KindModel      Kind = "model" // an inference: chat, generate_content, text_completion
	KindEmbedding  Kind = "embedding"
	KindTool       Kind = "tool"
	KindMemory     Kind = "memory"
	KindRetrieval  Kind = "retrieval"
	KindCheckpoint Kind = "checkpoint"
	KindPermission Kind = "permission"
	KindInterrupt  Kind = "interrupt"
	KindSpecialist Kind = "specialist"
	KindHandoff    Kind = "handoff"
	KindOther      Kind = "other"
)

// Status is how an operation ended.
type Status string

// The statuses of an operation. Running is for a span that was announced and
// has not ended.
const (
	StatusOK        Status = "ok"
	StatusError     Status = "error"
	StatusDenied    Status = "denied"
	StatusCancelled Status = "cancelled"
	StatusRunning   Status = "running"
)

// Span is one operation. Times are UTC.
type Span struct {
	TraceID  TraceID
	SpanID   SpanID
	ParentID SpanID // zero at a root

	Name          string
	Kind          Kind
	OTelKind      string    // internal, client, server, producer, consumer
	Start, End    time.Time // End is zero while the span is pending
	Status        Status
	StatusMessage string
	ErrorType     string
	// Pending is true for a span that was announced at its start and whose end
	// has not arrived. A final span replaces it; it never replaces a final one.
	Pending bool

	Service    string         // service.name
	Instance   string         // service.instance.id
	Resource   map[string]any // all resource attributes
	Scope      string         // name of the instrumentation scope
	Attributes map[string]any // as sent
	Events     []SpanEvent
	Links      []Link

	RunID, AgentID, AgentName, SessionID, UserID string

	Operation     string // gen_ai.operation.name
	Provider      string
	Model         string // requested
	ResponseModel string
	ToolName      string

	// Usage holds disjoint token counts; HasUsage is false when none were sent.
	Usage    price.Usage
	HasUsage bool
	// CostNanoUSD is the price of the call; HasCost is false when it is unknown.
	CostNanoUSD int64
	HasCost     bool
	// CostTable and CostRule name the price table and the rule in it that gave
	// the cost; CostTable is "sender" when the sender stated the cost alone.
	CostTable, CostRule string
	// FirstChunk is the time to the first streamed chunk; zero when unknown.
	FirstChunk time.Duration

	// Received is when the server took the span in.
	Received time.Time
}

// SpanEvent is a timed note on a span, an exception among them.
type SpanEvent struct {
	Name       string
	Time       time.Time
	Attributes map[string]any
}

// Link points from a span to another one.
type Link struct {
	TraceID    TraceID
	SpanID     SpanID
	Attributes map[string]any
}

// Log is one log record.
type Log struct {
	Time     time.Time
	Level    string // debug, info, warning, error, critical
	Severity int    // OTLP severity number, 1 to 24
	Message  string
	Logger   string // instrumentation scope

	TraceID TraceID
	SpanID  SpanID

	Service                           string
	RunID, AgentID, SessionID, UserID string

	Attributes map[string]any // the rest
	Resource   map[string]any
	// UID is the sender's id of the record (log.record.uid), when it sent one.
	UID      string
	Received time.Time
	// Seq is the store's own order of records, from 1: unique and the same
	// after a restart. It breaks ties of Time in listings.
	Seq uint64
}
