package otlp

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
)

// The compressions that a [Config] can name.
const (
	Gzip   = "gzip"
	NoGzip = "none"
)

// Defaults of a [Config].
const (
	DefaultEndpoint   = "http://127.0.0.1:4318"
	DefaultTimeout    = 10 * time.Second
	DefaultFlushDelay = time.Second
	DefaultQueueBytes = 32 << 20
	// DefaultBatchBytes is what a gRPC receiver takes in one message unless it
	// was configured for more: a batch above it would be lost whole behind a
	// collector that proxies to gRPC.
	DefaultBatchBytes = 4 << 20
	DefaultSpoolBytes = 256 << 20
)

// Config tunes an [Exporter]. The zero value sends to a server on this machine
// and keeps nothing on disk.
type Config struct {
	// Endpoint is the base URL; /v1/traces, /v1/metrics and /v1/logs are added
	// to its path. If empty, [DefaultEndpoint].
	Endpoint string
	// Headers go with every request, an authorization for instance.
	Headers map[string]string
	// Traces, Metrics and Logs override the settings above and below for one
	// signal, as the OTEL_EXPORTER_OTLP_TRACES_… variables do.
	Traces, Metrics, Logs Signal
	// TLS is used for https endpoints. If nil, the system's roots are trusted.
	TLS *tls.Config
	// InsecureSkipVerify accepts any certificate: for trials only.
	InsecureSkipVerify bool
	// Timeout bounds one request, its answer included. If zero, 10 s.
	Timeout time.Duration
	// Compression is [Gzip] or [NoGzip]. If empty, gzip.
	Compression string
	// SpoolDir is where batches wait on disk, owner-only, while the server is
	// away. Several processes may share it: each has a directory of its own
	// below, and what a dead one left behind is sent by another. If empty,
	// nothing is kept on disk and batches wait in the memory queue.
	SpoolDir string
	// SpoolBytes bounds what one signal keeps on disk. When it is full, batches
	// wait in memory and, once that is full too, the newest records are dropped
	// (reason spool_full). If zero, 256 MiB.
	SpoolBytes int64
	// QueueBytes bounds what one signal holds in memory, by estimate. When it
	// is full, the newest records are dropped (reason queue_full). If zero, 32 MiB.
	QueueBytes int64
	// BatchBytes bounds one request's body before compression; a single record
	// bigger than that is sent alone. If zero, 4 MiB.
	BatchBytes int
	// FlushDelay is how long a record may wait for others. If zero, 1 s.
	FlushDelay time.Duration
	// Resource describes this process on metrics and logs; spans carry the
	// resource of their own tracer provider. If nil, [resource.Default].
	Resource *resource.Resource
	// HTTPClient sends the requests. It must not be observed itself, or each
	// export would cause another. If nil, a client with a pool of its own that
	// follows no redirects; TLS and InsecureSkipVerify apply to that one only.
	HTTPClient *http.Client
	// Logger hears of outages, recoveries and drops, a few lines a minute at
	// most. If nil, nobody does; the counts are in [Exporter.Stats] anyway.
	Logger *slog.Logger
}

// Signal overrides settings of a [Config] for one signal. Zero fields keep
// those of the Config.
type Signal struct {
	// URL is used as it is: nothing is added to its path.
	URL string
	// Headers replace those of the Config, as the specification says.
	Headers     map[string]string
	TLS         *tls.Config
	Timeout     time.Duration
	Compression string
}

// withDefaults fills what is unset.
func (c Config) withDefaults() Config {
	set(&c.Endpoint, DefaultEndpoint)
	set(&c.Timeout, DefaultTimeout)
	set(&c.Compression, Gzip)
	set(&c.SpoolBytes, DefaultSpoolBytes)
	set(&c.QueueBytes, DefaultQueueBytes)
	set(&c.BatchBytes, DefaultBatchBytes)
	set(&c.FlushDelay, DefaultFlushDelay)
	if c.Resource == nil {
		c.Resource = resource.Default()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// signal resolves the settings of one signal, whose path is below the base URL.
func (c Config) signal(s Signal, path string) (Signal, error) {
	if s.URL == "" {
		base, err := checkURL(c.Endpoint)
		if err != nil {
			return s, err
		}
		s.URL = base.JoinPath(path).String()
	} else if _, err := checkURL(s.URL); err != nil {
		return s, err
	}
	if s.Headers == nil {
		s.Headers = maps.Clone(c.Headers)
	}
	if s.TLS == nil {
		s.TLS = c.TLS
	}
	set(&s.Timeout, c.Timeout)
	set(&s.Compression, c.Compression)
	if s.Compression != Gzip && s.Compression != NoGzip {
		return s, fmt.Errorf("otlp: compression %q: neither gzip nor none", s.Compression)
	}
	return s, nil
}

func checkURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("otlp: endpoint: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("otlp: endpoint %q: want http://host:port or https://host:port", strings.TrimSpace(s))
	}
	return u, nil
}

// newClient makes a client with a pool of its own.
func (c Config) newClient(from *tls.Config) *http.Client {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if from != nil {
		tlsConfig = from.Clone()
	}
	if c.InsecureSkipVerify {
		tlsConfig.InsecureSkipVerify = true
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     tlsConfig,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 4, // one a signal
			IdleConnTimeout:     90 * time.Second,
		},
		// A redirect would carry the headers, and what they authorise, to
		// whatever host the answer names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
