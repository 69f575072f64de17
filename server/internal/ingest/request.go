package ingest

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/kaizen-go/kaizen/server/internal/store"
)

// signal is one of OTLP's three, as it stands in metric labels.
type signal string

const (
	traces  signal = "traces"
	metrics signal = "metrics"
	logs    signal = "logs"
)

// request is a decoded export request of one signal.
type request interface {
	// count returns the spans, log records or data points.
	count() int
	append(ctx context.Context, st Store) (store.Result, error)
	// response encodes the answer; partial success when items were rejected.
	response(rejected int64, reason string, isJSON bool) ([]byte, error)
}

// decode reads a body. When the whole cannot be read it is tried item by item,
// so that one bad span does not cost the others; cut says what was left out.
func decode(sig signal, body []byte, isJSON bool) (req request, cut repaired, err error) {
	if err = guard(sig, body, isJSON); err == nil {
		if req, err = unmarshal(sig, body, isJSON); err == nil {
			return req, repaired{}, nil
		}
	}
	var limit *limitError
	if asLimit(err, &limit) {
		return nil, repaired{}, err
	}
	whole := err
	body, cut, err = repair(sig, body, isJSON)
	if err != nil {
		return nil, repaired{}, fmt.Errorf("cannot decode %s: %w", sig, whole)
	}
	if req, err = unmarshal(sig, body, false); err != nil {
		return nil, repaired{}, fmt.Errorf("cannot decode %s: %w", sig, err)
	}
	if req.count() == 0 {
		return nil, repaired{}, fmt.Errorf("cannot decode %s: %w", sig, whole)
	}
	return req, cut, nil
}

func unmarshal(sig signal, body []byte, isJSON bool) (request, error) {
	switch sig {
	case traces:
		r := ptraceotlp.NewExportRequest()
		return tracesRequest{r}, unmarshalInto(r, body, isJSON)
	case metrics:
		r := pmetricotlp.NewExportRequest()
		return metricsRequest{r}, unmarshalInto(r, body, isJSON)
	default:
		r := plogotlp.NewExportRequest()
		return logsRequest{r}, unmarshalInto(r, body, isJSON)
	}
}

type unmarshaler interface {
	UnmarshalProto([]byte) error
	UnmarshalJSON([]byte) error
}

func unmarshalInto(r unmarshaler, body []byte, isJSON bool) error {
	if isJSON {
		return r.UnmarshalJSON(body)
	}
	return r.UnmarshalProto(body)
}

type marshaler interface {
	MarshalProto() ([]byte, error)
	MarshalJSON() ([]byte, error)
}

func marshal(r marshaler, isJSON bool) ([]byte, error) {
	if isJSON {
		return r.MarshalJSON()
	}
	return r.MarshalProto()
}

// allTaken is the answer without a partial success, which must not be set when
// everything was taken; pdata always writes it.
func allTaken(isJSON bool) []byte {
	if isJSON {
		return []byte("{}")
	}
	return nil
}

type tracesRequest struct{ r ptraceotlp.ExportRequest }

func (t tracesRequest) count() int { return t.r.Traces().SpanCount() }

func (t tracesRequest) append(ctx context.Context, st Store) (store.Result, error) {
	return st.AppendTraces(ctx, t.r.Traces())
}

func (tracesRequest) response(rejected int64, reason string, isJSON bool) ([]byte, error) {
	if rejected == 0 {
		return allTaken(isJSON), nil
	}
	r := ptraceotlp.NewExportResponse()
	r.PartialSuccess().SetRejectedSpans(rejected)
	r.PartialSuccess().SetErrorMessage(reason)
	return marshal(r, isJSON)
}

type logsRequest struct{ r plogotlp.ExportRequest }

func (l logsRequest) count() int { return l.r.Logs().LogRecordCount() }

func (l logsRequest) append(ctx context.Context, st Store) (store.Result, error) {
	return st.AppendLogs(ctx, l.r.Logs())
}

func (logsRequest) response(rejected int64, reason string, isJSON bool) ([]byte, error) {
	if rejected == 0 {
		return allTaken(isJSON), nil
	}
	r := plogotlp.NewExportResponse()
	r.PartialSuccess().SetRejectedLogRecords(rejected)
	r.PartialSuccess().SetErrorMessage(reason)
	return marshal(r, isJSON)
}

type metricsRequest struct{ r pmetricotlp.ExportRequest }

func (m metricsRequest) count() int { return m.r.Metrics().DataPointCount() }

func (m metricsRequest) append(ctx context.Context, st Store) (store.Result, error) {
	return st.AppendMetrics(ctx, m.r.Metrics())
}

func (metricsRequest) response(rejected int64, reason string, isJSON bool) ([]byte, error) {
	if rejected == 0 {
		return allTaken(isJSON), nil
	}
	r := pmetricotlp.NewExportResponse()
	r.PartialSuccess().SetRejectedDataPoints(rejected)
	r.PartialSuccess().SetErrorMessage(reason)
	return marshal(r, isJSON)
}
