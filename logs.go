package kaizen

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
		sinks = append(sinks, exportSink{o.exporter})
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
type exportSink struct{ exporter *otlp.Exporter }

// WantsAttrs asks agentlog for the attributes.
func (exportSink) WantsAttrs() bool { return true }

// Write implements [agentlog.Sink]. It never blocks.
func (s exportSink) Write(r *agentlog.Record) error {
	attrs := make([]attribute.KeyValue, 0, len(r.Attrs)+6)
	for _, id := range [...]struct {
		key   attribute.Key
		value string
	}{
		{genai.AgentID, r.AgentID}, {genai.AgentName, r.AgentName}, {genai.RunID, r.RunID},
		{genai.ParentRunID, r.ParentRunID}, {genai.ConversationID, r.SessionID}, {genai.UserID, r.UserID},
	} {
		if id.value != "" {
			attrs = append(attrs, id.key.String(id.value))
		}
	}
	s.exporter.EmitLog(otlp.LogRecord{
		Time: r.Time, Severity: r.Severity, SeverityText: severityText(r.Severity), Body: r.Message, Logger: r.Logger,
		TraceID: r.TraceID, SpanID: r.SpanID, Attributes: append(attrs, slices.Clone(r.Attrs)...),
	})
	return nil
}

// Close implements [agentlog.Sink]; the exporter is shut down by its owner.
func (exportSink) Close(context.Context) error { return nil }

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
