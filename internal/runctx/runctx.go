// Package runctx carries the identity of the agent run that a piece of work
// belongs to through a [context.Context]. Every record that Kaizen writes
// (span, metric exemplar, log line, audit entry) takes its ids from here, so
// that any of them leads to the others.
//
// The trace and span ids are not here: they stand in the same context under
// OpenTelemetry's own key.
package runctx

import "context"

// Run names one run of one agent. The zero value means "no run".
type Run struct {
	// RunID is the run's ULID. Nested agents have runs of their own.
	RunID string
	// ParentRunID is the run that started this one; empty at the top.
	ParentRunID string
	// AgentID is the id of the agent, unique in its deployment.
	AgentID string
	// AgentName is the agent's name, low in cardinality: it is a metric label.
	AgentName string
	// SessionID is the conversation that the run belongs to, when known.
	SessionID string
	// UserID is the person on whose behalf the agent runs, when known. It is
	// personal data: it is never a metric label.
	UserID string
}

type key struct{}

// With returns a context that carries r.
func With(ctx context.Context, r Run) context.Context {
	return context.WithValue(ctx, key{}, r)
}

// From returns the run that ctx carries, and whether it carries one.
func From(ctx context.Context) (Run, bool) {
	r, ok := ctx.Value(key{}).(Run)
	return r, ok
}
