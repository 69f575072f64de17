// Package normalise turns spans and log records of any sender into the
// server's own model, whichever convention their attributes follow: our own,
// the three generations of the GenAI conventions, OpenInference, OpenLLMetry,
// Langfuse, the Vercel AI SDK and Genkit. What was sent stays in Attributes.
//
//	n := normalise.Normaliser{Pricer: price.Default()}
//	res, err := normalise.NewResource(rs.Resource())
//	span, err := n.Span(res, ss.Scope().Name(), s, received)
package normalise

import (
	"fmt"
	"time"
	"unique"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/kaizen-go/kaizen/price"
)

// Version is that of the mapping. It grows when the same span would be read
// differently, so that history can be told apart.
const Version = 1

// Pricer says what a model call costs. *price.Book is one.
type Pricer interface {
	Cost(provider, model string, at time.Time, u price.Usage) (price.Cost, bool)
}

// Normaliser makes records. The zero value prices nothing. It may be used by
// several goroutines when its Pricer may.
type Normaliser struct {
	// Pricer prices model calls whose sender stated no cost. May be nil.
	Pricer Pricer
}

// Reasons for which an item is refused. They are values of the label reason.
const (
	ReasonID    = "invalid_id"
	ReasonTime  = "invalid_time"
	ReasonDepth = "too_deep"
	ReasonCount = "too_many_parts"
)

// RejectError says why an item was refused. No retry would save it.
type RejectError struct {
	Reason string // one of the Reason constants
	Detail string
}

func (e *RejectError) Error() string { return e.Detail }

func reject(reason, format string, args ...any) error {
	return &RejectError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// MaxDepth bounds nested attribute values. The OpenTelemetry SDKs stop at 64.
const MaxDepth = 64

// maxParts bounds attributes, events and links of one item, each for itself.
// The SDKs' default is 128; a span of ten thousand is a fault of its sender.
const maxParts = 10_000

// Resource is what one process says of itself. It is shared by all its spans.
type Resource struct {
	Attributes        map[string]any
	Service, Instance string
}

// NewResource reads r. The error is a [*RejectError].
func NewResource(r pcommon.Resource) (*Resource, error) {
	m, err := toMap(r.Attributes(), "resource")
	if err != nil {
		return nil, err
	}
	a := attrs(m)
	return &Resource{
		Attributes: m,
		Service:    intern(a.str("service.name")),
		Instance:   intern(a.str("service.instance.id")),
	}, nil
}

// intern returns s from a table of strings in use, so that a name that stands
// on a million spans is held once.
func intern(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}

// instant reads nanoseconds since 1970; ok is false when they exceed int64,
// whose end is the year 2262.
func instant(ts pcommon.Timestamp) (t time.Time, ok bool) {
	if ts == 0 {
		return time.Time{}, true
	}
	if uint64(ts) > 1<<63-1 {
		return time.Time{}, false
	}
	return time.Unix(0, int64(ts)).UTC(), true
}
