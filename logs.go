package kaizen

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"

	"github.com/kaizen-go/kaizen/agentlog"
	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/otlp"
	"github.com/kaizen-go/kaizen/redact"
)

// startLogs opens the loggers: lines go to the configured writer and sinks, and
// records to the server if there is one.
func (o *Observer) startLogs(r *redact.Redactor) (err error) {
	sinks := []agentlog.Sink{agentlog.NewStream(o.cfg.LogWriter)}
	if o.exporter != nil {
		sinks = append(sinks, &exportSink{exporter: o.exporter})
	}
	sinks = append(sinks, o.cfg.LogSinks...)
	if o.cfg.Off&Logs != 0 {
		sinks = []agentlog.Sink{nowhere{o.cfg.LogSinks}}
	}
	o.logs, err = agentlog.New(agentlog.Config{Level: o.cfg.LogLevel, Sinks: sinks, Redactor: r})
	if err != nil {
		return fmt.Errorf("kaizen: start logs: %w", err)
	}
	return nil
}

// exportSink hands log records to the exporter, with the ids of their run under
// the names that spans have for them.
type exportSink struct {
	exporter *otlp.Exporter
	// latest is of the run that logged last: as a rule it logs again.
	latest atomic.Pointer[runAttributes]
}

// runIDs are the ids that a log record has of its run.
type runIDs struct{ agent, name, run, parent, session, user string }

// runAttributes are the ids of a run, made once for the lines that follow each other.
type runAttributes struct {
	ids  runIDs
	kvs  []attribute.KeyValue
	room [6]attribute.KeyValue
}

// of returns the attributes for ids. They are shared, and never change.
func (s *exportSink) of(ids runIDs) []attribute.KeyValue {
	if a := s.latest.Load(); a != nil && a.ids == ids {
		return a.kvs
	}
	a := &runAttributes{ids: ids}
	a.kvs = a.room[:0]
	for _, id := range [...]struct {
		key   attribute.Key
		value string
	}{
		{genai.AgentID, ids.agent}, {genai.AgentName, ids.name}, {genai.RunID, ids.run},
		{genai.ParentRunID, ids.parent}, {genai.ConversationID, ids.session}, {genai.UserID, ids.user},
	} {
		if id.value != "" {
			a.kvs = append(a.kvs, id.key.String(id.value))
		}
	}
	s.latest.Store(a)
	return a.kvs
}

// WantsAttrs asks agentlog for the attributes.
func (*exportSink) WantsAttrs() bool { return true }

// logLine is a record with room for as many attributes as most lines have: one
// allocation for both.
type logLine struct {
	otlp.LogRecord
	room [4]attribute.KeyValue
}

// Write implements [agentlog.Sink]. It never blocks.
func (s *exportSink) Write(r *agentlog.Record) error {
	line := &logLine{LogRecord: otlp.LogRecord{
		Time: r.Time, Observed: r.Time, Severity: r.Severity, SeverityText: severityText(r.Severity), Body: r.Message, Logger: r.Logger,
		TraceID: r.TraceID, SpanID: r.SpanID,
		Common: s.of(runIDs{r.AgentID, r.AgentName, r.RunID, r.ParentRunID, r.SessionID, r.UserID}),
	}}
	line.Attributes = append(line.room[:0], r.Attrs...)
	s.exporter.TakeLog(&line.LogRecord)
	return nil
}

// Close implements [agentlog.Sink]; the exporter is shut down by its owner.
func (*exportSink) Close(context.Context) error { return nil }

// severityText is the short name that the logs data model has for a range.
func severityText(n int) string {
	names := [...]string{"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"}
	if n < 1 || n > 4*len(names) {
		return ""
	}
	return names[(n-1)/4]
}

// nowhere is the sink of logs that are off. It closes those that would have had
// them, which are the observer's to close all the same.
type nowhere struct{ sinks []agentlog.Sink }

func (nowhere) Write(*agentlog.Record) error { return nil }

func (n nowhere) Close(ctx context.Context) error {
	var errs []error
	for _, s := range n.sinks {
		errs = append(errs, s.Close(ctx))
	}
	return errors.Join(errs...)
}
