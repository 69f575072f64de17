package kaizen

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/agentlog"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/redact"
	"github.com/kaizen-go/kaizen/sampling"
)

// Parts is a set of the parts of an [Observer].
type Parts uint8

// The parts.
const (
	Traces Parts = 1 << iota
	Metrics
	Logs
	Audit
)

// Content says what is recorded of prompts, answers, tool arguments and results.
type Content uint8

const (
	// ContentOff records none of it.
	ContentOff Content = iota
	// ContentRedacted records it without what [Config.Redact] finds.
	ContentRedacted
	// ContentFull records it as it is.
	ContentFull
)

// NoSpool as [Config.SpoolDir] keeps nothing on disk while the server is away.
const NoSpool = "-"

// DefaultMetricsEvery is how often metrics are pushed to the server.
const DefaultMetricsEvery = 10 * time.Second

// Config tunes an [Observer]. The zero value observes and exports nowhere,
// unless the environment names a server; each field beyond that is optional.
type Config struct {
	// ServiceName names the program. If empty, OTEL_SERVICE_NAME, then the
	// name of the executable.
	ServiceName string
	// ServiceVersion is recorded when set.
	ServiceVersion string

	// Server is the base URL of a Kaizen server, such as
	// "http://127.0.0.1:7070": traces, metrics and logs go there over OTLP, and
	// audit entries too unless AuditDir is set. If empty, KAIZEN_SERVER; if
	// that is empty too, OTEL_EXPORTER_OTLP_ENDPOINT and its like, which take
	// no audit entries.
	Server string
	// APIKey is sent to Server. If empty, KAIZEN_API_KEY.
	APIKey string
	// SpoolDir is where records wait while the server is away. If empty, a
	// directory in the user's cache, one for each server; [NoSpool] for none.
	// Processes that send to the same server may share one.
	SpoolDir string
	// SpoolBytes bounds the spool of each signal; 256 MiB if zero.
	SpoolBytes int64
	// FlushDelay is how long a record may wait for others; 1 s if zero.
	FlushDelay time.Duration
	// MetricsEvery is how often metrics are pushed; [DefaultMetricsEvery] if zero.
	MetricsEvery time.Duration

	// AuditDir keeps the audit ledger in a directory of this process: durable
	// without a network. If empty, entries go to Server.
	// What entries say about their user is encrypted under keys in "keys" beside
	// it, and can be forgotten: see [audit.Ledger.Erase].
	AuditDir string
	// AuditWitness has the checkpoints of the ledger in AuditDir cosigned, and
	// AuditAnchors keep them elsewhere: see [audit.Config]. Package
	// [github.com/kaizen-go/kaizen/audit/witness] has witnesses,
	// [github.com/kaizen-go/kaizen/audit/anchor] an anchor in a log collector.
	// The metric kaizen_audit_anchors_total counts both kinds of answer.
	AuditWitness audit.Witness
	AuditAnchors []audit.Anchor
	// DurableAudit makes an operation wait until its audit entry is durable.
	// Without it entries are queued and are durable some milliseconds later.
	DurableAudit bool

	// Content is off by default.
	Content Content
	// InjectStreamUsage asks for the token counts of OpenAI chat streams whose
	// caller did not, and keeps the event that brings them from the caller; see
	// [llmhttp.Config]. Without it the tokens of such a stream are unknown.
	InjectStreamUsage bool
	// Redact tunes what is never written; all detectors are on by default.
	Redact redact.Config
	// Off switches parts off: what they would record is not.
	Off Parts

	// Programs names a file that lists other programs as handlers of events:
	// see [hook.LoadPrograms]. If empty, there are none.
	Programs string

	// LogWriter gets the log lines as JSON. If nil, standard error;
	// io.Discard for none (they still go to the server).
	LogWriter io.Writer
	// LogSinks get the log records as well, such as an [agentlog.Elastic]. They
	// are closed by [Observer.Shutdown].
	LogSinks []agentlog.Sink
	// LogLevel is the lowest level that is written; info by default.
	LogLevel slog.Level

	// Tail holds the spans of a trace until its root has ended, and keeps all of
	// them when one failed, was slow or costly, or else by a ratio. If nil, all
	// traces that the head keeps are sent. The head is told by
	// OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG; it keeps all by default.
	// Metrics, logs and audit entries are not sampled.
	Tail *sampling.TailConfig
	// TracerProvider starts the spans instead of one of our own. Where they go
	// and which are kept is then the provider's affair.
	TracerProvider trace.TracerProvider
	// Registry takes the metrics; one of the observer's own if nil.
	Registry *prometheus.Registry
	// Prices override the embedded price book; see [price.Book.With].
	Prices *price.Book
	// Attributes describe this process on everything it sends.
	Attributes []attribute.KeyValue
	// SetGlobal makes the observer's tracer provider and W3C propagator
	// OpenTelemetry's global ones, which libraries use that trace by themselves.
	SetGlobal bool
	// HTTPClient talks to Server. If nil, one of the observer's own.
	HTTPClient *http.Client
	// Logger hears of the observer's own troubles. If nil, nobody does; they
	// are counted in any case.
	Logger *slog.Logger
}

// withDefaults fills what is unset from the environment and the defaults.
func (c Config) withDefaults() Config {
	or := func(v *string, others ...string) {
		for _, o := range others {
			if *v == "" {
				*v = o
			}
		}
	}
	or(&c.ServiceName, os.Getenv("OTEL_SERVICE_NAME"), filepath.Base(os.Args[0]))
	or(&c.Server, os.Getenv("KAIZEN_SERVER"))
	or(&c.APIKey, os.Getenv("KAIZEN_API_KEY"))
	c.Server = strings.TrimRight(c.Server, "/")
	if c.MetricsEvery <= 0 {
		c.MetricsEvery = DefaultMetricsEvery
	}
	if c.LogWriter == nil {
		c.LogWriter = os.Stderr
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SpoolDir == "" {
		if cache, err := os.UserCacheDir(); err == nil {
			c.SpoolDir = filepath.Join(cache, "kaizen", "spool", c.destination())
		} else {
			c.Logger.Warn("nothing will wait on disk while the server is away", "error", err)
		}
	}
	if c.SpoolDir == NoSpool {
		c.SpoolDir = ""
	}
	return c
}

// destination names where records go, as a directory: what waits for one server
// must never be sent to another by the next process.
func (c Config) destination() string {
	h := sha256.New()
	fmt.Fprintln(h, c.Server)
	for _, name := range [...]string{"", "TRACES_", "METRICS_", "LOGS_"} {
		fmt.Fprintln(h, os.Getenv("OTEL_EXPORTER_OTLP_"+name+"ENDPOINT"))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// exports reports whether there is anywhere to send to.
func (c Config) exports() bool {
	if c.Server != "" {
		return true
	}
	for _, name := range [...]string{"", "TRACES_", "METRICS_", "LOGS_"} {
		if os.Getenv("OTEL_EXPORTER_OTLP_"+name+"ENDPOINT") != "" {
			return true
		}
	}
	return false
}
