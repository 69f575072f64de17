package genai

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/internal/runctx"
)

// Keys of W3C baggage under which the session and the user travel, percent-encoded.
const (
	BaggageSession = "session.id"
	BaggageUser    = "user.id"
)

// MaxSessionBytes bounds each value of a [Session] before it is percent-encoded.
const MaxSessionBytes = 256

// Bounds of what is read and written, beside those of the specifications
// (baggage: 64 members in 8192 bytes; tracestate: 32 members, of which 512
// bytes must survive).
const (
	maxBaggageMembers = 64
	maxBaggageBytes   = 8192
	maxStateBytes     = 8192
	maxParentBytes    = 256 // a future version of traceparent may be longer than today's 55
)

// Keys of the headers, and of an MCP request's _meta.
const (
	parentKey  = "traceparent"
	stateKey   = "tracestate"
	baggageKey = "baggage"
)

// ErrSession is returned for a session or user that cannot travel.
var ErrSession = errors.New("not printable UTF-8 of 1 to 256 bytes")

// Session is on whose behalf work is done, as it travels between processes.
// After [Extract] it is what the caller claims: nobody has checked it.
type Session struct {
	// ID is the conversation, User the person; empty when not known.
	ID, User string
}

// WithSession returns a context whose baggage carries s. An empty field leaves
// what the context has; a value that cannot travel is an error of [ErrSession].
func WithSession(ctx context.Context, s Session) (context.Context, error) {
	bag := baggage.FromContext(ctx)
	for _, m := range [...]struct{ key, value string }{{BaggageSession, s.ID}, {BaggageUser, s.User}} {
		if m.value == "" {
			continue
		}
		if !presentable(m.value) {
			return ctx, fmt.Errorf("genai: put %s into baggage: %w", m.key, ErrSession)
		}
		member, err := baggage.NewMemberRaw(m.key, m.value)
		if err == nil {
			bag, err = bag.SetMember(member)
		}
		if err != nil {
			return ctx, fmt.Errorf("genai: put %s into baggage: %w", m.key, err)
		}
	}
	return baggage.ContextWithBaggage(ctx, bag), nil
}

// SessionFrom returns the session and the user of the agent run in ctx and,
// where the run names none, those in its baggage.
func SessionFrom(ctx context.Context) Session {
	run, _ := runctx.From(ctx)
	s := Session{run.SessionID, run.UserID}
	bag := baggage.FromContext(ctx)
	if s.ID == "" {
		s.ID = presented(bag, BaggageSession)
	}
	if s.User == "" {
		s.User = presented(bag, BaggageUser)
	}
	return s
}

func presented(bag baggage.Baggage, key string) string {
	if v := bag.Member(key).Value(); presentable(v) {
		return v
	}
	return ""
}

// presentable reports whether an id may travel. U+FFFD stands where bytes that
// were no UTF-8 have been, so such an id is not what its sender meant.
func presentable(id string) bool {
	return id != "" && len(id) <= MaxSessionBytes && utf8.ValidString(id) &&
		strings.IndexFunc(id, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0
}

// Inject writes the span, the session and the baggage of ctx into the headers
// traceparent, tracestate and baggage, in place of what they had. Without a
// span in ctx the first two stay, without baggage and session the third.
//
// The user is personal data, and baggage goes to whoever gets the request:
// inject into requests to services of your own, not to a model's provider.
func Inject(ctx context.Context, h http.Header) {
	f := fieldsOf(ctx)
	if f.parent != "" {
		h.Set(parentKey, f.parent)
		if h.Del(stateKey); f.state != "" {
			h.Set(stateKey, f.state)
		}
	}
	if f.baggage != "" {
		h.Set(baggageKey, f.baggage)
	}
}

// Extract returns ctx with the remote span and the baggage that [Inject] wrote.
// What is malformed, out of bounds or ambiguous is left out, as if it were not
// there: hostile headers can neither fail a request nor grow its context.
func Extract(ctx context.Context, h http.Header) context.Context {
	var f fields
	if v := h.Values(parentKey); len(v) == 1 { // two have no meaning
		f.parent = v[0]
	}
	f.state = joined(h.Values(stateKey), maxStateBytes)
	f.baggage = joined(h.Values(baggageKey), maxBaggageBytes)
	return f.into(ctx)
}

// joined returns the values of a list header as one, "" if that is too long.
func joined(values []string, limit int) string {
	n := -1
	for _, v := range values {
		if n += 1 + len(v); n > limit {
			return ""
		}
	}
	return strings.Join(values, ",")
}

// InjectMeta returns the _meta of an MCP request with the span, the session and
// the baggage of ctx under the keys traceparent, tracestate and baggage. It is
// a copy: meta, which may be nil, is never written to. With nothing to add, it
// is meta itself. What [Inject] says of stale values and privacy holds here.
func InjectMeta(ctx context.Context, meta map[string]any) map[string]any {
	f := fieldsOf(ctx)
	if f.parent == "" && f.baggage == "" {
		return meta
	}
	out := make(map[string]any, len(meta)+3)
	maps.Copy(out, meta)
	if f.parent != "" {
		out[parentKey] = f.parent
		if delete(out, stateKey); f.state != "" {
			out[stateKey] = f.state
		}
	}
	if f.baggage != "" {
		out[baggageKey] = f.baggage
	}
	return out
}

// ExtractMeta returns ctx with the remote span and the baggage that
// [InjectMeta] wrote. It only reads meta, which may be nil. A value that is no
// string is left out, as is what [Extract] leaves out.
func ExtractMeta(ctx context.Context, meta map[string]any) context.Context {
	var f fields
	f.parent, _ = meta[parentKey].(string)
	f.state, _ = meta[stateKey].(string)
	f.baggage, _ = meta[baggageKey].(string)
	return f.into(ctx)
}

// fields are the three values that travel; each may be empty. They are a
// carrier of the W3C propagator.
type fields struct{ parent, state, baggage string }

// Get implements [propagation.TextMapCarrier].
func (f *fields) Get(key string) string {
	switch key {
	case parentKey:
		return f.parent
	case stateKey:
		return f.state
	}
	return ""
}

// Set implements [propagation.TextMapCarrier].
func (f *fields) Set(key, value string) {
	switch key {
	case parentKey:
		f.parent = value
	case stateKey:
		f.state = value
	}
}

// Keys implements [propagation.TextMapCarrier].
func (*fields) Keys() []string { return []string{parentKey, stateKey} }

// fieldsOf returns what travels from ctx.
func fieldsOf(ctx context.Context) fields {
	var f fields
	propagation.TraceContext{}.Inject(ctx, &f)
	f.baggage = baggageOf(ctx)
	return f
}

// baggageOf spells the session and the baggage of ctx within the bounds: the
// session first, then the other members in the order of their keys.
func baggageOf(ctx context.Context) string {
	bag, s := baggage.FromContext(ctx), SessionFrom(ctx)
	if bag.Len() == 0 && s == (Session{}) {
		return ""
	}
	members := slices.DeleteFunc(bag.Members(), func(m baggage.Member) bool {
		return m.Key() == BaggageSession || m.Key() == BaggageUser
	})
	slices.SortFunc(members, func(a, b baggage.Member) int { return cmp.Compare(a.Key(), b.Key()) })
	var b strings.Builder
	n := 0
	add := func(m baggage.Member) {
		text := m.String() // "" for a key that W3C does not allow
		if text == "" || n == maxBaggageMembers || b.Len()+1+len(text) > maxBaggageBytes {
			return
		}
		if n++; n > 1 {
			b.WriteByte(',')
		}
		b.WriteString(text)
	}
	for _, id := range [...]struct{ key, value string }{{BaggageSession, s.ID}, {BaggageUser, s.User}} {
		if !presentable(id.value) {
			continue
		}
		if m, err := baggage.NewMemberRaw(id.key, id.value); err == nil {
			add(m)
		}
	}
	for _, m := range members {
		add(m)
	}
	return b.String()
}

// into returns ctx with what arrived.
func (f *fields) into(ctx context.Context) context.Context {
	if len(f.state) > maxStateBytes {
		f.state = ""
	}
	if len(f.parent) <= maxParentBytes {
		ctx = propagation.TraceContext{}.Extract(ctx, f)
	}
	bag, err := baggage.Parse(f.baggage)
	if err != nil { // it says nothing that could be trusted in part
		return ctx
	}
	for _, key := range [...]string{BaggageSession, BaggageUser} {
		if m := bag.Member(key); m.Key() != "" && !presentable(m.Value()) {
			bag = bag.DeleteMember(key)
		}
	}
	if bag.Len() == 0 {
		return ctx
	}
	return baggage.ContextWithBaggage(ctx, bag)
}

// NewLink returns a link to a span of another trace, by the lower-case
// hexadecimal ids that records and headers show: 32 digits and 16. Give it to
// [Operation].Links, or to the AddLink of a span that has started.
func NewLink(traceID, spanID string, kvs ...attribute.KeyValue) (trace.Link, error) {
	tid, err := trace.TraceIDFromHex(traceID)
	if err != nil {
		return trace.Link{}, fmt.Errorf("genai: link to trace %.40q: %w", traceID, err)
	}
	sid, err := trace.SpanIDFromHex(spanID)
	if err != nil {
		return trace.Link{}, fmt.Errorf("genai: link to span %.24q: %w", spanID, err)
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: tid, SpanID: sid, Remote: true})
	return trace.Link{SpanContext: sc, Attributes: kvs}, nil
}
