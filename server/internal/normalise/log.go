package normalise

import (
	"encoding/json"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// logKeys are read into fields of their own and are not context.
var logKeys = []string{
	"kaizen.agent.id", "gen_ai.agent.id", "kaizen.run.id", "gen_ai.conversation.id", "user.id", "log.record.uid",
}

// Log reads l. The result shares nothing with l. The error is a
// [*RejectError].
func (n Normaliser) Log(res *Resource, scope string, l plog.LogRecord, received time.Time) (*record.Log, error) {
	m, err := toMap(l.Attributes(), "log record")
	if err != nil {
		return nil, err
	}
	out := &record.Log{
		TraceID: record.TraceID(l.TraceID()), SpanID: record.SpanID(l.SpanID()),
		Logger: intern(strings.ToValidUTF8(scope, "\uFFFD")), Service: res.Service, Resource: res.Attributes,
		Attributes: m, Received: received,
	}
	if out.Time, err = logTime(l, received); err != nil {
		return nil, err
	}
	a := attrs(m)
	out.RunID = a.str("kaizen.run.id")
	out.AgentID = intern(a.str("kaizen.agent.id", "gen_ai.agent.id"))
	out.SessionID = intern(a.str(sessionKeys...))
	out.UserID = intern(a.str(userKeys...))
	out.UID = a.str("log.record.uid")
	for _, k := range logKeys {
		if _, ok := m[k].(string); ok {
			delete(m, k)
		}
	}
	out.Severity, out.Level = severity(l.SeverityNumber(), l.SeverityText())
	if name := l.EventName(); name != "" && !a.has("event.name") {
		m["event.name"] = strings.ToValidUTF8(name, "\uFFFD")
	}
	if out.Message, err = message(l.Body()); err != nil {
		return nil, err
	}
	if out.Message == "" {
		out.Message = a.str("event.name")
	}
	return out, nil
}

func logTime(l plog.LogRecord, received time.Time) (time.Time, error) {
	for _, ts := range []pcommon.Timestamp{l.Timestamp(), l.ObservedTimestamp()} {
		t, ok := instant(ts)
		if !ok {
			return t, reject(ReasonTime, "log record of %d ns, after the year 2262", ts)
		}
		if !t.IsZero() {
			return t, nil
		}
	}
	return received, nil
}

// message returns a body as text; one that is no text as JSON.
func message(v pcommon.Value) (string, error) {
	x, ok := toValue(v, 1)
	if !ok {
		return "", reject(ReasonDepth, "log body is nested deeper than %d", MaxDepth)
	}
	switch x := x.(type) {
	case nil:
		return "", nil
	case string:
		return x, nil
	default:
		b, err := json.Marshal(x)
		if err != nil { // toValue makes nothing that JSON cannot say
			return "", reject(ReasonDepth, "log body: %v", err)
		}
		return string(b), nil
	}
}

// severity returns the OTLP number and our word for it. A record that states
// a text alone is read by that; one that states neither is taken for info.
func severity(n plog.SeverityNumber, text string) (int, string) {
	if n < 1 || n > 24 {
		switch strings.ToLower(text) {
		case "trace", "debug", "verbose":
			n = 5
		case "warn", "warning":
			n = 13
		case "error", "err":
			n = 17
		case "fatal", "critical", "panic", "emerg", "alert":
			n = 21
		default:
			n = 9
		}
	}
	return int(n), levels[(n-1)/4]
}

var levels = [6]string{"debug", "debug", "info", "warning", "error", "critical"}
