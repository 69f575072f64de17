package hook

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
)

// Log returns a handler named "log" that writes a line for each event to
// logger, or to slog.Default() if that is nil.
//
// A line tells the structure of an event and never a value: the names of the
// payload's fields that are set, but not what they hold; the type of an error,
// but not its text. Names that are metric labels anyway (of the agent, of the
// tool or model) and ids are there. The start of an operation is logged at
// Debug, its end at Info, at Warn when it was denied and at Error when it
// failed.
func Log(logger *slog.Logger) Registration {
	if logger == nil {
		logger = slog.Default()
	}
	return Registration{Name: "log", Priority: Low, Handler: HandlerFunc(func(ctx context.Context, e Event) error {
		level := logLevel(e)
		if !logger.Enabled(ctx, level) {
			return nil
		}
		attrs := append(make([]slog.Attr, 0, 12),
			slog.String("kind", e.Kind().String()), slog.String("phase", e.Phase.String()),
			slog.Uint64("op", uint64(e.Op)), slog.Uint64("parent", uint64(e.Parent)))
		for _, a := range []slog.Attr{
			slog.String("name", e.Payload.Label()), slog.String("run_id", e.Run.RunID), slog.String("agent_id", e.Run.AgentID),
			slog.String("agent_name", e.Run.AgentName), slog.String("session_id", e.Run.SessionID),
		} {
			if a.Value.String() != "" {
				attrs = append(attrs, a)
			}
		}
		if e.Phase == End {
			attrs = append(attrs, slog.String("status", string(e.Status)), slog.Float64("duration_ms", milliseconds(e.Duration())))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error_type", fmt.Sprintf("%T", e.Err)))
		}
		attrs = append(attrs, slog.Any("fields", fieldNames(e.Payload.fields())))
		logger.LogAttrs(ctx, level, "hook event", attrs...)
		return nil
	})}
}

func logLevel(e Event) slog.Level {
	switch {
	case e.Phase == Start:
		return slog.LevelDebug
	case e.Status == Failed:
		return slog.LevelError
	case e.Status == Denied:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// fieldNames returns the names of the fields of f that are not empty, in the
// order of their declaration.
func fieldNames(f namedFields) []string {
	return appendNames([]string{}, reflect.ValueOf(f))
}

func appendNames(names []string, v reflect.Value) []string {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		if sf.Anonymous {
			names = appendNames(names, v.Field(i))
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name != "-" && !v.Field(i).IsZero() {
			names = append(names, name)
		}
	}
	return names
}
