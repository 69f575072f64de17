package query

import (
	"strconv"
	"time"

	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/normalise"
)

// USD is an amount in 10⁻⁹ US dollars. In JSON it is a number of dollars, with
// as many of nine decimals as it needs.
type USD int64

// MarshalJSON writes the amount without going through a float.
func (u USD) MarshalJSON() ([]byte, error) {
	sign, n := "", uint64(u)
	if u < 0 {
		sign, n = "-", -n
	}
	b := []byte(sign)
	b = strconv.AppendUint(b, n/1e9, 10)
	frac := n % 1e9
	if frac == 0 {
		return b, nil
	}
	digits := strconv.FormatUint(frac+1e9, 10)[1:] // nine, with leading zeros
	end := len(digits)
	for digits[end-1] == '0' {
		end--
	}
	return append(append(b, '.'), digits[:end]...), nil
}

// Time is a moment as the API writes it: RFC 3339, UTC, nine decimals.
type Time time.Time

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(make([]byte, 0, 32), `"2006-01-02T15:04:05.000000000Z"`), nil
}

func timePtr(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return new(Time(t))
}

// Tokens are counts in disjoint buckets.
type Tokens struct {
	Input      int64 `json:"input"`
	CacheRead  int64 `json:"cache_read"`
	CacheWrite int64 `json:"cache_write"`
	Output     int64 `json:"output"`
	Reasoning  int64 `json:"reasoning"`
}

func tokensOf(u price.Usage) Tokens {
	return Tokens{Input: u.Input, CacheRead: u.CacheRead, CacheWrite: u.CacheWrite, Output: u.Output, Reasoning: u.Reasoning}
}

func (t *Tokens) add(u price.Usage) {
	t.Input += u.Input
	t.CacheRead += u.CacheRead
	t.CacheWrite += u.CacheWrite
	t.Output += u.Output
	t.Reasoning += u.Reasoning
}

// TraceSummary is a trace in a list.
type TraceSummary struct {
	TraceID   string `json:"trace_id"`
	Name      string `json:"name"`
	RunID     string `json:"run_id"`
	AgentName string `json:"agent_name"`
	AgentID   string `json:"agent_id"`
	SessionID string `json:"session_id"`
	UserID    string `json:"user_id"`
	Service   string `json:"service"`
	Start     Time   `json:"start"`
	// End is null while the run is running.
	End *Time `json:"end"`
	// DurationMS is the time until now known: to the latest end, or the
	// latest start, of a span.
	DurationMS    float64  `json:"duration_ms"`
	Status        string   `json:"status"`
	Spans         int      `json:"spans"`
	Errors        int      `json:"errors"`
	Runs          int      `json:"runs"`
	ModelCalls    int      `json:"model_calls"`
	ToolCalls     int      `json:"tool_calls"`
	LogRecords    int      `json:"log_records"`
	AuditEntries  int64    `json:"audit_entries"`
	Tokens        Tokens   `json:"tokens"`
	CostUSD       USD      `json:"cost_usd"`
	UnpricedCalls int      `json:"unpriced_calls"`
	Agents        []string `json:"agents"`
}

// Event is a timed note on a span.
type Event struct {
	Name       string         `json:"name"`
	Time       Time           `json:"time"`
	Attributes map[string]any `json:"attributes"`
}

// Link points from a span to another.
type Link struct {
	TraceID    string         `json:"trace_id"`
	SpanID     string         `json:"span_id"`
	Attributes map[string]any `json:"attributes"`
}

// Span is one operation. Ids that the span did not carry are those of the
// nearest span around it that did; Attributes are as sent.
type Span struct {
	TraceID       string         `json:"trace_id"`
	SpanID        string         `json:"span_id"`
	ParentSpanID  string         `json:"parent_span_id"`
	Name          string         `json:"name"`
	Kind          string         `json:"kind"`
	Start         Time           `json:"start"`
	End           *Time          `json:"end"`
	DurationMS    *float64       `json:"duration_ms"`
	Status        string         `json:"status"`
	StatusMessage string         `json:"status_message"`
	ErrorType     string         `json:"error_type"`
	Pending       bool           `json:"pending"`
	Service       string         `json:"service"`
	Scope         string         `json:"scope"`
	RunID         string         `json:"run_id"`
	AgentID       string         `json:"agent_id"`
	AgentName     string         `json:"agent_name"`
	SessionID     string         `json:"session_id"`
	UserID        string         `json:"user_id"`
	Operation     string         `json:"operation"`
	Provider      string         `json:"provider"`
	Model         string         `json:"model"`
	ResponseModel string         `json:"response_model"`
	ToolName      string         `json:"tool_name"`
	Tokens        *Tokens        `json:"tokens"`
	CostUSD       *USD           `json:"cost_usd"`
	FirstChunkMS  *float64       `json:"first_chunk_ms"`
	Attributes    map[string]any `json:"attributes"`
	Resource      map[string]any `json:"resource"`
	Events        []Event        `json:"events"`
	Links         []Link         `json:"links"`

	InputMessages      []normalise.Message `json:"input_messages"`
	OutputMessages     []normalise.Message `json:"output_messages"`
	SystemInstructions []normalise.Part    `json:"system_instructions"`
	ToolArguments      any                 `json:"tool_arguments,omitempty"`
	ToolResult         any                 `json:"tool_result,omitempty"`
}

// Log is one log record. Ids that are not known are left out.
type Log struct {
	Timestamp Time           `json:"timestamp"`
	Level     string         `json:"level"`
	Message   string         `json:"message"`
	Logger    string         `json:"logger"`
	TraceID   string         `json:"trace_id,omitempty"`
	SpanID    string         `json:"span_id,omitempty"`
	AgentID   string         `json:"agent_id,omitempty"`
	SessionID string         `json:"session_id,omitempty"`
	RunID     string         `json:"run_id,omitempty"`
	UserID    string         `json:"user_id,omitempty"`
	Service   string         `json:"service,omitempty"`
	Context   map[string]any `json:"context"`
}

// Session is what is known of one conversation.
type Session struct {
	SessionID  string   `json:"session_id"`
	UserID     string   `json:"user_id"`
	First      Time     `json:"first"`
	Last       Time     `json:"last"`
	Runs       int      `json:"runs"`
	RunsFailed int      `json:"runs_failed"`
	ModelCalls int      `json:"model_calls"`
	ToolCalls  int      `json:"tool_calls"`
	Tokens     Tokens   `json:"tokens"`
	CostUSD    USD      `json:"cost_usd"`
	Agents     []string `json:"agents"`
}

// Agent is what is known of the agents of one name.
type Agent struct {
	Agent           string   `json:"agent"`
	AgentIDs        []string `json:"agent_ids"`
	Runs            int      `json:"runs"`
	RunsFailed      int      `json:"runs_failed"`
	Active          int      `json:"active"`
	ModelCalls      int      `json:"model_calls"`
	ToolCalls       int      `json:"tool_calls"`
	ToolCallsFailed int      `json:"tool_calls_failed"`
	Tokens          Tokens   `json:"tokens"`
	CostUSD         USD      `json:"cost_usd"`
	Last            Time     `json:"last"`
	// RunP50MS and RunP95MS are of the runs that ended, by linear
	// interpolation between ranks; null when none has.
	RunP50MS *float64 `json:"run_p50_ms"`
	RunP95MS *float64 `json:"run_p95_ms"`
}

// Costs are sums by one key.
type Costs struct {
	By            string    `json:"by"`
	TotalUSD      USD       `json:"total_usd"`
	UnpricedCalls int       `json:"unpriced_calls"`
	ModelCalls    int       `json:"model_calls"`
	Rows          []CostRow `json:"rows"`
}

// CostRow is the sum of one key; the key is "" for calls that do not say.
type CostRow struct {
	Key           string `json:"key"`
	ModelCalls    int    `json:"model_calls"`
	Tokens        Tokens `json:"tokens"`
	CostUSD       USD    `json:"cost_usd"`
	UnpricedCalls int    `json:"unpriced_calls"`
}

// Totals are sums over everything.
type Totals struct {
	Runs               int    `json:"runs"`
	RunsFailed         int    `json:"runs_failed"`
	Spans              int    `json:"spans"`
	ModelCalls         int    `json:"model_calls"`
	ModelCallsFailed   int    `json:"model_calls_failed"`
	ModelCallsUnpriced int    `json:"model_calls_unpriced"`
	ToolCalls          int    `json:"tool_calls"`
	ToolCallsFailed    int    `json:"tool_calls_failed"`
	LogRecords         int    `json:"log_records"`
	Sessions           int    `json:"sessions"`
	Agents             int    `json:"agents"`
	Tokens             Tokens `json:"tokens"`
	CostUSD            USD    `json:"cost_usd"`
	AuditEntries       int64  `json:"audit_entries"`
}
