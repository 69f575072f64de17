package agentlog

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/internal/ship"
)

// Defaults of an [ElasticConfig].
const (
	DefaultElasticURL = "http://127.0.0.1:9200"
	// DefaultDataStream has the form type-dataset-namespace, so that the
	// templates for logs that Elasticsearch comes with apply to it.
	DefaultDataStream = "logs-kaizen-default"
)

// ElasticConfig tunes [NewElastic]. The zero value sends to a data stream of a
// server on this machine and keeps nothing on disk.
type ElasticConfig struct {
	// URL is the address of the server, with the path that a proxy needs. If
	// empty, [DefaultElasticURL].
	URL string
	// DataStream or Index is where documents go; only one of them may be set.
	// If both are empty, [DefaultDataStream]. The server must have it or be
	// allowed to create it; OpenSearch needs a template for a data stream.
	DataStream, Index string
	// APIKey is the encoded form, base64 of id:key. If empty, User and Password
	// are sent, and nothing if User is empty too.
	APIKey         string
	User, Password string
	// TLS is used for https. If nil, the system's roots are trusted.
	TLS *tls.Config
	// SpoolDir is where batches wait on disk, owner-only, while the server does
	// not take them. It may be that of the exporter, and several processes may
	// share it. If empty, lines wait in memory only.
	SpoolDir string
	// SpoolBytes bounds the spool. If zero, 256 MiB.
	SpoolBytes int64
	// QueueBytes bounds the lines in memory; a line that finds no room is
	// dropped and counted. If zero, 32 MiB.
	QueueBytes int64
	// BatchBytes bounds one request's body before compression. If zero, 4 MiB.
	BatchBytes int
	// FlushDelay is how long a line may wait for others. If zero, 1 s.
	FlushDelay time.Duration
	// Timeout bounds one request, its answer included. If zero, 10 s.
	Timeout time.Duration
	// HTTPClient sends the requests; TLS does not apply to it. It must not log
	// to this sink, or each batch would cause another. If nil, a client with a
	// pool of its own that follows no redirects.
	HTTPClient *http.Client
	// Logger hears of outages and drops, a few lines a minute at most. It must
	// not write to this sink. If nil, nobody does; [Elastic.Stats] has the counts.
	Logger *slog.Logger

	retryMin time.Duration // shorter in tests
}

// Elastic is a sink that indexes lines in Elasticsearch or OpenSearch with the
// bulk API. Lines are documents in the Elastic Common Schema, whatever the
// format of the other sinks; attributes are below kaizen.context, which is best
// mapped as flattened where agents log attributes of many names or types.
//
// # Delivery
//
// Each document gets an id when it is put into a batch, and is created, never
// overwritten. A batch is sent again, with the same bytes, when the server was
// away, refused the credentials, answered 5xx, or put any document off (429,
// 5xx, or an index that is closed for writing): those that it has by then it
// answers with 409, which counts as delivered. So a repeated batch does not
// index a line twice, unless the data stream was rolled over in between, whose
// new index does not know the ids of the old one. A document that the server
// refuses for what is in it is dropped and counted by the type of the error.
type Elastic struct {
	queue   *ship.Shipper[[]byte]
	answers *answers
	hangUp  func()                 // closes idle connections, if they are ours
	entropy *ulid.MonotonicEntropy // of the shipper's goroutine
	closed  atomic.Bool
}

// NewElastic opens the spool, if there is one, and starts sending. It does not
// wait for the server. [Logs.Close] closes it.
func NewElastic(cfg ElasticConfig) (*Elastic, error) {
	target, err := elasticTarget(cfg)
	if err != nil {
		return nil, fmt.Errorf("agentlog: new elastic: %w", err)
	}
	bulk, err := bulkURL(cfg.URL, target)
	if err != nil {
		return nil, fmt.Errorf("agentlog: new elastic: %w", err)
	}
	headers, err := authorization(cfg)
	if err != nil {
		return nil, fmt.Errorf("agentlog: new elastic: %w", err)
	}
	client, hangUp := cfg.HTTPClient, func() {}
	if client == nil {
		client = ownClient(cfg.TLS)
		hangUp = client.CloseIdleConnections
	}
	s := &Elastic{answers: newAnswers(), hangUp: hangUp, entropy: ulid.Monotonic(rand.Reader, 0)}
	s.queue, err = ship.New(ship.Config[[]byte]{
		Name: spoolName(target), URL: bulk, ContentType: "application/x-ndjson", Headers: headers,
		Client: s.answers.client(client), Timeout: cfg.Timeout,
		Cost: func(doc []byte) int { return len(doc) }, Encode: s.encode, Frame: frameDocuments,
		PartialSuccess: refusals, Split: splitDocuments,
		QueueBytes: cfg.QueueBytes, BatchBytes: cfg.BatchBytes, FlushDelay: cfg.FlushDelay, RetryMin: cfg.retryMin,
		SpoolDir: cfg.SpoolDir, SpoolBytes: cfg.SpoolBytes, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("agentlog: new elastic: %w", err)
	}
	return s, nil
}

func ownClient(trust *tls.Config) *http.Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second}
	if trust != nil {
		transport.TLSClientConfig = trust.Clone()
	}
	return &http.Client{
		Transport: transport,
		// A redirect would carry the credentials to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// elasticTarget returns the name of the data stream or index.
func elasticTarget(cfg ElasticConfig) (string, error) {
	name := cfg.DataStream + cfg.Index
	switch {
	case cfg.QueueBytes < 0 || cfg.BatchBytes < 0 || cfg.SpoolBytes < 0 || cfg.FlushDelay < 0 || cfg.Timeout < 0:
		return "", errors.New("sizes and durations must not be negative")
	case cfg.DataStream != "" && cfg.Index != "":
		return "", errors.New("both DataStream and Index are set")
	case name == "":
		return DefaultDataStream, nil
	// The rules that both servers have for names.
	case len(name) > 255 || name == "." || name == ".." || strings.ToLower(name) != name ||
		strings.ContainsAny(name, "\\/*?\"<>| ,#:") || strings.ContainsAny(name[:1], "-_+"):
		return "", fmt.Errorf("bad name %q: lower case, at most 255 bytes, none of \\/*?\"<>| ,#: and no -_+ in front", name)
	}
	return name, nil
}

func bulkURL(raw, target string) (string, error) {
	if raw == "" {
		raw = DefaultElasticURL
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "", errors.New("bad URL") // the cause would repeat a password that is in it
	case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return "", fmt.Errorf("bad URL %q: http or https and a host are required", u.Redacted())
	case u.User != nil:
		return "", errors.New("bad URL: credentials belong in User and Password")
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("bad URL %q: no query, no fragment", raw)
	}
	u = u.JoinPath(target, "_bulk")
	u.RawQuery = "filter_path=items.*._id,items.*.status,items.*.error.type,items.*.error.reason"
	return u.String(), nil
}

func authorization(cfg ElasticConfig) (map[string]string, error) {
	switch {
	case cfg.APIKey != "" && cfg.User+cfg.Password != "":
		return nil, errors.New("both APIKey and User are set")
	case cfg.APIKey != "":
		return map[string]string{"Authorization": "ApiKey " + cfg.APIKey}, nil
	case cfg.User != "":
		return map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(cfg.User+":"+cfg.Password))}, nil
	case cfg.Password != "":
		return nil, errors.New("a Password is set without a User")
	}
	return nil, nil
}

// spoolName keeps the batches of different targets apart: a batch does not say
// where it belongs.
func spoolName(target string) string {
	name := strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') || r == '-' {
			return r
		}
		return '-'
	}, target)
	if name != target || len(name) > 64 {
		sum := sha256.Sum256([]byte(target))
		name = name[:min(len(name), 64)] + "-" + hex.EncodeToString(sum[:4])
	}
	return "elastic-" + name
}

// WantsFormat asks for lines in the Elastic Common Schema.
func (s *Elastic) WantsFormat() Format { return FormatECS }

// Write implements [Sink]. It copies the line and never waits for the network
// or the disk.
func (s *Elastic) Write(r *Record) error {
	doc := bytes.TrimSuffix(r.Line, []byte{'\n'})
	if len(doc) < 2 || doc[0] != '{' {
		return errors.New("agentlog: write to elastic: the line is not in FormatECS")
	}
	if r.Time.IsZero() {
		// A data stream refuses documents without a time.
		e := encoders.Get().(*encoder)
		e.buf = append(e.buf[:0], names[FormatECS].time...)
		e.buf = e.appendTime(e.buf, time.Now())
		doc = bytes.Join([][]byte{[]byte("{"), e.buf, []byte(`",`), doc[1:]}, nil)
		encoders.Put(e)
	} else {
		doc = bytes.Clone(doc)
	}
	if s.queue.Offer(doc) {
		return nil
	}
	if s.closed.Load() {
		return ErrClosed
	}
	return errors.New("agentlog: write to elastic: no room in the queue")
}

// encode makes the two lines of a document. It is called once per document: its
// id is part of the batch from then on, on disk too.
func (s *Elastic) encode(dst, doc []byte) ([]byte, error) {
	id, err := ulid.New(ulid.Now(), s.entropy)
	if err != nil { // the random number had no room above it in this millisecond: begin anew
		s.entropy = ulid.Monotonic(rand.Reader, 0)
		if id, err = ulid.New(ulid.Now(), s.entropy); err != nil {
			return dst, fmt.Errorf("agentlog: document id: %w", err)
		}
	}
	if bytes.IndexByte(doc, '\n') >= 0 { // a line feed would end the document
		var joined bytes.Buffer
		if err := json.Compact(&joined, doc); err != nil {
			return dst, fmt.Errorf("agentlog: document: %w", err)
		}
		doc = joined.Bytes()
	}
	dst = append(dst, `{"create":{"_id":"`...)
	dst = append(dst, id.String()...)
	dst = append(dst, `"}}`...)
	dst = append(dst, '\n')
	return append(dst, doc...), nil
}

func frameDocuments(dst []byte, parts []ship.Part[[]byte]) []byte {
	for _, p := range parts {
		dst = append(append(dst, p.Data...), '\n')
	}
	return dst
}

// splitDocuments halves a body of two lines per document.
func splitDocuments(body []byte) (a, b []byte, na, nb int) {
	n := bytes.Count(body, []byte{'\n'}) / 2
	cut := 0
	for range n / 2 * 2 {
		cut += bytes.IndexByte(body[cut:], '\n') + 1
	}
	return body[:cut], body[cut:], n / 2, n - n/2
}

// Flush sends what was written before the call, at once, and waits for the
// answers. An error says that some of it was dropped, or not acknowledged yet
// when ctx ended; it is sent later all the same.
func (s *Elastic) Flush(ctx context.Context) error {
	if err := s.queue.Flush(ctx); err != nil {
		return fmt.Errorf("agentlog: flush elastic: %w", err)
	}
	return nil
}

// Close implements [Sink]: it sends what waits, as long as ctx allows (10 s if
// it has no deadline), and leaves the rest in the spool for the next start.
// Without a spool the rest is dropped, counted and told as an error.
func (s *Elastic) Close(ctx context.Context) error {
	s.closed.Store(true)
	err := s.queue.Shutdown(ctx)
	s.hangUp()
	if err != nil {
		return fmt.Errorf("agentlog: close elastic: %w", err)
	}
	return nil
}
