package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// logFlags are {flag, parameter, help}.
var logFlags = [][3]string{
	{"trace", "trace_id", "of this trace"},
	{"span", "span_id", "of this span"},
	{"run", "run_id", "of this run"},
	{"agent", "agent", "of this agent"},
	{"level", "level", "at least this level: debug, info, warning, error or critical"},
	{"logger", "logger", "of this logger"},
	{"match", "q", "that contain this text"},
	{"order", "order", "asc or desc (default desc: newest first)"},
}

func newLogs() *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Print log records",
		Example: `  kaizen logs --since 1h --level warning
  kaizen logs --trace 4bf92f3577b34da6a3ce929d0e0e4736 --order asc --json`,
		Args: cobra.NoArgs,
	}
	src, filter := addSource(cmd), addFilter(cmd, logFlags...)
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many; 0 means all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := filter.query(time.Now())
		if err != nil {
			return err
		}
		if err := checkLimit(limit); err != nil {
			return err
		}
		return withClient(cmd, src, func(c *client) error {
			return printLines(cmd.OutOrStdout(), func(line func(json.RawMessage) error) error {
				if asJSON {
					return c.list(cmd.Context(), "/api/logs", "logs", q, limit, line)
				}
				return c.list(cmd.Context(), "/api/logs", "logs", q, limit, func(raw json.RawMessage) error {
					text, err := logLine(raw)
					if err != nil {
						return err
					}
					return line([]byte(text))
				})
			})
		})
	}
	return cmd
}

// logLine is a log record for a reader: time, level, logger, message, where it
// belongs, and what it carries.
func logLine(raw json.RawMessage) (string, error) {
	var l struct {
		Timestamp time.Time      `json:"timestamp"`
		Level     string         `json:"level"`
		Message   string         `json:"message"`
		Logger    string         `json:"logger"`
		TraceID   string         `json:"trace_id"`
		AgentID   string         `json:"agent_id"`
		Context   map[string]any `json:"context"`
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return "", failed(fmt.Errorf("a log record of the answer: %w", err))
	}
	text := fmt.Sprintf("%s  %-8s  %s  %s", stamp(l.Timestamp), l.Level, orDash(l.Logger), l.Message)
	if l.AgentID != "" {
		text += "  agent=" + l.AgentID
	}
	if l.TraceID != "" {
		text += "  trace=" + l.TraceID
	}
	if len(l.Context) > 0 {
		b, err := json.Marshal(l.Context)
		if err != nil {
			return "", failed(fmt.Errorf("a log record of the answer: %w", err))
		}
		text += "  " + string(b)
	}
	return clean(text), nil
}
