// Package logship sends copies of the server's log records and of the headers
// of its audit entries to Elasticsearch or OpenSearch.
//
//	s, err := logship.Open(logship.Config{URL: "https://logs.internal:9200", SpoolDir: dir})
//	store.OnLogs(s.Logs)
//	s.Entries(entries, receipts)
//	err = s.Close(ctx)
//
// Documents follow the Elastic Common Schema: trace.id, span.id, user.id,
// event.* and so on, so that one query by trace.id finds the log lines and the
// audit entries of a run, and its spans where Jaeger's data is kept there too.
//
// What cannot be sent now waits in a spool on disk, within its limit; what is
// given up is counted. The server's own copies are not affected by any of it.
package logship

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agentlog"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// The data streams that documents go to. Their names have the form
// type-dataset-namespace, so that templates for logs-kaizen* apply to both.
const (
	LogStream   = "logs-kaizen-default"
	AuditStream = "logs-kaizen.audit-default"
)

// Config says where documents go. URL is required.
type Config struct {
	// URL of the server, https where it is not on this machine.
	URL string
	// User and PasswordFile, or APIKeyFile, are the credentials; the files hold
	// one secret each. If all are empty, none are sent.
	User, PasswordFile string
	APIKeyFile         string
	// CAFile holds the PEM certificates that are trusted. If empty, the system's.
	CAFile string
	// SpoolDir is where documents wait, owner-only, while the server does not
	// take them. If empty, they wait in memory only.
	SpoolDir string
	// SpoolBytes bounds the spool of each stream. If zero, 256 MiB.
	SpoolBytes int64
	// Logger hears of outages and drops. If nil, nobody does.
	Logger *slog.Logger
}

// Shipper copies what it is given. Its methods may be called at once, and none
// but Close and Flush waits for the network.
type Shipper struct {
	logs, entries   *agentlog.Logs
	logSink, audits *agentlog.Elastic
}

// Open opens the spools and starts sending. It does not wait for the server.
func Open(cfg Config) (_ *Shipper, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("logship: %w", err)
		}
	}()
	elastic, err := cfg.elastic()
	if err != nil {
		return nil, err
	}
	s := &Shipper{}
	elastic.DataStream = LogStream
	if s.logSink, err = agentlog.NewElastic(elastic); err != nil {
		return nil, err
	}
	elastic.DataStream = AuditStream
	if s.audits, err = agentlog.NewElastic(elastic); err != nil {
		return nil, errors.Join(err, s.logSink.Close(context.Background()))
	}
	s.logs, err = agentlog.New(agentlog.Config{Level: slog.LevelDebug, Sinks: []agentlog.Sink{s.logSink}})
	if err == nil {
		s.entries, err = agentlog.New(agentlog.Config{Level: slog.LevelDebug, Sinks: []agentlog.Sink{s.audits}})
	}
	if err != nil {
		return nil, errors.Join(err, s.logSink.Close(context.Background()), s.audits.Close(context.Background()))
	}
	return s, nil
}

func (c Config) elastic() (agentlog.ElasticConfig, error) {
	e := agentlog.ElasticConfig{URL: c.URL, User: c.User, SpoolDir: c.SpoolDir, SpoolBytes: c.SpoolBytes, Logger: c.Logger}
	var err error
	if c.PasswordFile != "" {
		if e.Password, err = readSecret(c.PasswordFile); err != nil {
			return e, err
		}
	}
	if c.APIKeyFile != "" {
		if e.APIKey, err = readSecret(c.APIKeyFile); err != nil {
			return e, err
		}
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return e, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return e, fmt.Errorf("%s holds no PEM certificate", c.CAFile)
		}
		e.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return e, nil
}

func readSecret(path string) (string, error) {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

// Logs copies log records.
func (s *Shipper) Logs(records []*record.Log) {
	for _, l := range records {
		r := slog.NewRecord(l.Time, level(l.Severity), l.Message, 0)
		ctx := withIDs(&r, trace.TraceID(l.TraceID), trace.SpanID(l.SpanID), kaizen.Run{RunID: l.RunID, AgentID: l.AgentID, SessionID: l.SessionID, UserID: l.UserID})
		if l.Service != "" {
			r.AddAttrs(slog.String("service", l.Service))
		}
		for key, value := range l.Attributes {
			r.AddAttrs(slog.Any(key, value))
		}
		// The sink counts what it could not take; there is nobody else to tell.
		_ = s.logs.Handler(l.Logger).Handle(ctx, r)
	}
}

// level is the slog level of an OTLP severity number: both count four steps
// from one name to the next. Without a number it is info.
func level(severity int) slog.Level {
	const infoSeverity = 9
	if severity == 0 {
		severity = infoSeverity
	}
	return slog.Level(severity - infoSeverity)
}

// Entries copies the headers of audit entries that were appended: what, when,
// by which agent, in which run, and how it ended. Details, metadata, user and
// subject stay behind: what is erased in the ledger must not live on in a copy.
// The receipt of each stands at the same place in receipts; now is the time of
// those without one.
func (s *Shipper) Entries(entries []audit.Entry, receipts []audit.Receipt, now time.Time) {
	for i, e := range entries {
		if i >= len(receipts) || receipts[i].Duplicate {
			continue
		}
		// Ids that are absent or malformed stay zero, and out of the document.
		traceID, _ := trace.TraceIDFromHex(e.TraceID)
		spanID, _ := trace.SpanIDFromHex(e.SpanID)
		at := e.Time
		if at.IsZero() {
			at = now
		}
		r := slog.NewRecord(at, slog.LevelInfo, e.Action, 0)
		ctx := withIDs(&r, traceID, spanID, kaizen.Run{RunID: e.RunID, AgentID: e.AgentID, SessionID: e.SessionID})
		r.AddAttrs(
			slog.String("audit.id", receipts[i].ID), slog.Int64("audit.index", receipts[i].Index),
			slog.String("audit.action", e.Action), slog.String("audit.result", string(e.Result)),
			slog.String("audit.leaf_hash", fmt.Sprintf("%x", receipts[i].LeafHash)),
		)
		if e.Severity != "" {
			r.AddAttrs(slog.String("audit.severity", e.Severity))
		}
		_ = s.entries.Handler("audit").Handle(ctx, r)
	}
}

// withIDs is a context whose log lines carry these ids. A trace without a span
// is no span context: it goes into r.
func withIDs(r *slog.Record, traceID trace.TraceID, spanID trace.SpanID, run kaizen.Run) context.Context {
	if traceID.IsValid() && !spanID.IsValid() {
		r.AddAttrs(slog.String("trace_id", traceID.String()))
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID})
	return kaizen.WithRun(trace.ContextWithSpanContext(context.Background(), span), run)
}

// Stats are the counts of both streams, by the name of the signal.
func (s *Shipper) Stats() map[string]agentlog.ElasticStats {
	return map[string]agentlog.ElasticStats{"shipped_logs": s.logSink.Stats(), "shipped_audit": s.audits.Stats()}
}

// Flush sends what was given before the call, and waits for the answers.
func (s *Shipper) Flush(ctx context.Context) error {
	return errors.Join(s.logSink.Flush(ctx), s.audits.Flush(ctx))
}

// Close sends what waits, as long as ctx allows, and leaves the rest in the
// spool for the next start.
func (s *Shipper) Close(ctx context.Context) error {
	return errors.Join(s.logs.Close(ctx), s.entries.Close(ctx))
}
