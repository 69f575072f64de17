package agentlog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/internal/runctx"
)

// handler is one logger with the attributes and groups that With and WithGroup
// gave it. It never changes once made.
type handler struct {
	logs  *Logs
	state *loggerState

	// ops is everything that With and WithGroup added, in order. pre is the
	// same encoded: the inside of the context object, open groups left open.
	ops     []op
	pre     []byte
	open    int      // groups that pre leaves open
	pending []string // groups that no attribute has opened yet
	prefix  string   // text format: open and pending groups, each with a dot

	keys  []string // names at the level that is open now
	first []string // names at the first level
	clash bool     // a group has the name of an attribute beside it
	ids   ids      // of attributes at the first level
}

// op is one With or one WithGroup.
type op struct {
	group string
	attrs []slog.Attr
}

// ids are the identifiers that stand at the top of a line.
type ids struct{ trace, span, agent, session, run, user string }

// lift takes an attribute that is an id out of the rest.
func (i *ids) lift(a slog.Attr) bool {
	if a.Value.Kind() != slog.KindString {
		return false
	}
	switch a.Key {
	case "trace_id":
		i.trace = a.Value.String()
	case "span_id":
		i.span = a.Value.String()
	case "agent_id":
		i.agent = a.Value.String()
	case "session_id":
		i.session = a.Value.String()
	case "run_id":
		i.run = a.Value.String()
	case "user_id":
		i.user = a.Value.String()
	default:
		return false
	}
	return true
}

// clean redacts ids that came as attributes.
func (i *ids) clean(e *encoder) {
	i.trace, i.span, i.agent = e.clean(i.trace), e.clean(i.span), e.clean(i.agent)
	i.session, i.run, i.user = e.clean(i.session), e.clean(i.run), e.clean(i.user)
}

// mayLift tells names that lift does not look for, before it is asked.
func mayLift(key string) bool { return len(key) > 5 && key[len(key)-3:] == "_id" }

// persistent is the context that all loggers of a Logs share.
type persistent struct {
	attrs   []slog.Attr
	ids     ids
	keys    []string
	encoded [][]byte // one per key
}

func (l *Logs) newPersistent(attrs []slog.Attr) *persistent {
	p := &persistent{attrs: attrs}
	for _, a := range attrs {
		e := l.encoder()
		if p.ids.lift(a) {
			p.ids.clean(e)
			l.release(e)
			continue
		}
		e.buf = append(e.buf[:0], '{')
		if e.attr(a, "") {
			p.keys = append(p.keys, a.Key)
			p.encoded = append(p.encoded, slices.Clone(e.buf[1:]))
		}
		l.release(e)
	}
	return p
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return int64(level) >= h.state.level.Load()
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	next := *h
	attrs = slices.Clone(attrs)
	e := h.logs.encoder()
	defer h.logs.release(e)
	e.buf = append(e.buf[:0], '{')
	e.buf = append(e.buf, h.pre...)
	opened := e.openGroups(h.pending)
	inner := len(e.buf)
	top := len(h.ops) == 0 || !slices.ContainsFunc(h.ops, func(o op) bool { return o.group != "" })
	keys := slices.Clone(h.keys)
	for i := range attrs {
		attrs[i].Value = attrs[i].Value.Resolve()
		if top && next.ids.lift(attrs[i]) {
			next.ids.clean(e)
			continue
		}
		if e.attr(attrs[i], h.prefix) {
			keys = appendKeys(keys, attrs[i])
		}
	}
	next.ops = append(slices.Clip(h.ops), op{attrs: attrs})
	if len(e.buf) == inner {
		return &next // only ids, or nothing
	}
	next.pre = slices.Clone(e.buf[1:])
	if opened {
		if h.open == 0 {
			next.first = append(slices.Clip(h.first), h.pending[0])
		}
		next.open += len(h.pending)
		next.pending = nil
	}
	next.keys = keys
	if top {
		next.first = keys
	}
	return &next
}

// appendKeys adds the name of an attribute, or those of a group without a
// name, which stand on the level of the group itself.
func appendKeys(keys []string, a slog.Attr) []string {
	if a.Key == "" && a.Value.Kind() == slog.KindGroup {
		for _, inner := range a.Value.Group() {
			keys = appendKeys(keys, inner)
		}
		return keys
	}
	return append(keys, a.Key)
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.ops = append(slices.Clip(h.ops), op{group: name})
	next.pending = append(slices.Clip(h.pending), name)
	next.prefix = h.prefix + name + "."
	next.clash = h.clash || slices.Contains(h.keys, name)
	next.keys = nil
	return &next
}

// grouped reports whether attributes of a call stand in a group.
func (h *handler) grouped() bool { return h.open+len(h.pending) > 0 }

// Handle implements [slog.Handler]. It always returns nil: what goes wrong is
// counted in [Stats], never the caller's to deal with.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	l := h.logs
	if !l.keep(h.state, &r) {
		return nil
	}
	e := l.encoder()
	defer l.release(e)
	rec := &e.record
	if !h.encodeSafely(ctx, &r, e) {
		l.failed.Add(1)
		*rec = Record{Time: r.Time, Level: r.Level, Severity: severity(r.Level), Logger: h.state.name, Message: "[a log record could not be encoded]"}
		e.found, e.inside = ids{}, nil
		e.buf = e.buf[:0]
		e.head(l.cfg.Format, rec, &e.found)
		e.tail(l.cfg.Format)
	}
	rec.Line = e.buf
	l.written.Add(1)
	if l.formats != nil {
		h.writeFormats(&r, e)
		return nil
	}
	for _, sink := range l.cfg.Sinks {
		if !writeSafely(sink, rec) {
			l.errors.Add(1)
		}
	}
	return nil
}

// encodeSafely keeps a panic of foreign code, such as an Error method, from
// reaching who logs.
func (h *handler) encodeSafely(ctx context.Context, r *slog.Record, e *encoder) (ok bool) {
	defer func() { ok = recover() == nil }()
	h.encode(ctx, r, e)
	return true
}

func writeSafely(sink Sink, r *Record) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return sink.Write(r) == nil
}

// encode fills e.buf with the line and e.record with the rest.
func (h *handler) encode(ctx context.Context, r *slog.Record, e *encoder) {
	l := h.logs
	base := l.base.Load()
	found := &e.found
	h.collect(ctx, e, base, found)
	duplicates := h.survey(r, e, base, found)
	h.identify(e, found)
	rec := &e.record
	rec.Time, rec.Level, rec.Severity, rec.Logger = r.Time, r.Level, severity(r.Level), h.state.name
	rec.Message = e.clean(r.Message)
	e.head(l.cfg.Format, rec, found)
	mark := len(e.buf)
	e.openContext(l.cfg.Format)
	start := len(e.buf)
	if l.wantAttrs || duplicates {
		h.encodeAll(r, e, base, duplicates)
	} else {
		h.encodeContext(r, e, base)
	}
	inside := e.buf[start:]
	if len(inside) == 0 {
		e.buf = e.buf[:mark]
	} else {
		e.closeContext(l.cfg.Format)
	}
	e.tail(l.cfg.Format)
	e.inside = e.buf[start : start+len(inside)] // the buffer may have moved since
}

// encodeAll writes the attributes the slower way, from the attributes
// themselves, and fills those of the record if a sink wants them.
func (h *handler) encodeAll(r *slog.Record, e *encoder, base *persistent, duplicates bool) {
	var attrs []slog.Attr
	plain := false
	if !duplicates {
		attrs, plain = h.plain(r, e, base)
	}
	if !plain {
		attrs = h.all(r, base)
	}
	if e.red != nil {
		for i := range attrs {
			attrs[i] = e.red.Attr(attrs[i])
		}
		e.red = nil // once is enough
	}
	for _, a := range attrs {
		e.attr(a, "")
	}
	if h.logs.wantAttrs {
		e.record.Attrs = e.flatten(e.record.Attrs[:0], attrs, "")
	}
}

// encodeContext writes the attributes when no name stands twice: what is
// encoded already, then those of the call.
func (h *handler) encodeContext(r *slog.Record, e *encoder, base *persistent) {
	for i := range base.encoded {
		e.comma()
		e.buf = append(e.buf, base.encoded[i]...)
	}
	if len(h.pre) > 0 {
		e.comma()
		e.buf = append(e.buf, h.pre...)
	}
	mark := len(e.buf)
	opened := e.openGroups(h.pending)
	inner := len(e.buf)
	top := !h.grouped()
	var skip ids
	r.Attrs(func(a slog.Attr) bool {
		if top && mayLift(a.Key) {
			a.Value = a.Value.Resolve()
			if skip.lift(a) {
				return true
			}
		}
		e.attr(a, h.prefix)
		return true
	})
	open := h.open
	if opened && len(e.buf) == inner {
		e.buf = e.buf[:mark]
	} else {
		open += len(h.pending)
	}
	e.closeGroups(open)
}

// collect finds the ids: those of the logger's attributes come before the
// context's, and those before the persistent ones.
func (h *handler) collect(ctx context.Context, e *encoder, base *persistent, found *ids) {
	rec := &e.record
	*found = base.ids
	run, ok := runctx.From(ctx)
	rec.ParentRunID, rec.AgentName = run.ParentRunID, run.AgentName
	if ok {
		found.agent = or(run.AgentID, found.agent)
		found.session = or(run.SessionID, found.session)
		found.run = or(run.RunID, found.run)
		found.user = or(e.clean(run.UserID), found.user)
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		rec.TraceID, rec.SpanID = sc.TraceID(), sc.SpanID()
		found.trace, found.span = "", ""
	}
	if own := &h.ids; *own != (ids{}) {
		found.trace, found.span = or(own.trace, found.trace), or(own.span, found.span)
		found.agent, found.session = or(own.agent, found.agent), or(own.session, found.session)
		found.run, found.user = or(own.run, found.run), or(own.user, found.user)
	}
}

// survey goes through the attributes of the call once: it takes the ids among
// them, which come before all others, and reports whether a name may stand
// twice on one level: readers of JSON disagree on which counts, and some
// refuse the line.
func (h *handler) survey(r *slog.Record, e *encoder, base *persistent, found *ids) (duplicates bool) {
	var seen nameSet
	dup := h.clash
	if len(h.pending) > 0 && h.open == 0 {
		seen.add(h.pending[0])
	}
	for _, k := range h.first {
		dup = seen.add(k) || dup
	}
	for _, k := range base.keys {
		dup = seen.add(k) || dup
	}
	grouped := h.grouped()
	if grouped {
		seen = nameSet{}
		for _, k := range h.keys {
			dup = seen.add(k) || dup
		}
	}
	r.Attrs(func(a slog.Attr) bool {
		dup = seen.add(a.Key) || dup || a.Key == ""
		if !grouped && mayLift(a.Key) {
			a.Value = a.Value.Resolve()
			if found.lift(a) {
				found.clean(e)
			}
		}
		return true
	})
	return dup
}

// identify writes the ids into the record. A trace or span id that came as a
// text takes the place of the span's.
func (h *handler) identify(e *encoder, found *ids) {
	rec := &e.record
	if found.trace != "" {
		rec.TraceID = trace.TraceID{}
		if id, err := trace.TraceIDFromHex(found.trace); err == nil {
			rec.TraceID, found.trace = id, ""
		}
	}
	if found.span != "" {
		rec.SpanID = trace.SpanID{}
		if id, err := trace.SpanIDFromHex(found.span); err == nil {
			rec.SpanID, found.span = id, ""
		}
	}
	rec.AgentID, rec.SessionID, rec.RunID, rec.UserID = found.agent, found.session, found.run, found.user
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// nameSet is a set of names that errs on the side of "seen": on average one
// line of ten names in 23 is encoded the slower way for nothing.
type nameSet [16]uint64

func (s *nameSet) add(name string) (seen bool) {
	n := len(name)
	h := uint32(n) * 0x9e3779b1
	if n > 0 {
		h = (h ^ uint32(name[0]) ^ uint32(name[n/2])<<8 ^ uint32(name[n-1])<<16) * 0x85ebca6b
	}
	h >>= 22
	bit := uint64(1) << (h & 63)
	seen = s[h>>6]&bit != 0
	s[h>>6] |= bit
	return seen
}

// plain is all for a record that has no groups, nor a name twice: in the
// encoder's room, without allocations. It reports false where there are groups.
func (h *handler) plain(r *slog.Record, e *encoder, base *persistent) ([]slog.Attr, bool) {
	if h.grouped() {
		return nil, false
	}
	e.attrs = e.attrs[:0]
	ok := true
	for _, a := range base.attrs {
		ok = ok && e.keep(a)
	}
	for _, o := range h.ops {
		for _, a := range o.attrs {
			ok = ok && e.keep(a)
		}
	}
	r.Attrs(func(a slog.Attr) bool {
		a.Value = a.Value.Resolve()
		ok = ok && e.keep(a)
		return ok
	})
	return e.attrs, ok
}

// keep adds an attribute to e.attrs, but for ids and empty ones. It reports false
// for a group.
func (e *encoder) keep(a slog.Attr) bool {
	if a.Value.Kind() == slog.KindGroup {
		return false
	}
	var skip ids
	if (a.Key != "" || a.Value.Any() != nil) && !(mayLift(a.Key) && skip.lift(a)) {
		e.attrs = append(e.attrs, a)
	}
	return true
}

// all returns every attribute of a record, groups nested, each name once per
// level: the last one counts.
func (h *handler) all(r *slog.Record, base *persistent) []slog.Attr {
	call := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		call = append(call, a)
		return true
	})
	attrs := h.nest(h.ops, call)
	var skip ids
	out := slices.DeleteFunc(slices.Clone(base.attrs), func(a slog.Attr) bool { return skip.lift(a) })
	for _, a := range expand(attrs, 0) {
		if !skip.lift(a) {
			out = append(out, a)
		}
	}
	return unique(out, 0)
}

// nest applies With and WithGroup to the attributes of a call.
func (h *handler) nest(ops []op, call []slog.Attr) []slog.Attr {
	var out []slog.Attr
	for i, o := range ops {
		if o.group != "" {
			return append(out, slog.Attr{Key: o.group, Value: slog.GroupValue(h.nest(ops[i+1:], call)...)})
		}
		out = append(out, o.attrs...)
	}
	return append(out, call...)
}

// expand resolves values and puts the members of groups without a name in
// their place.
func expand(attrs []slog.Attr, depth int) []slog.Attr {
	out := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		a.Value = a.Value.Resolve()
		switch {
		case a.Value.Kind() != slog.KindGroup:
			if a.Key != "" || a.Value.Any() != nil {
				out = append(out, a)
			}
		case depth > maxDepth:
		case a.Key == "":
			out = append(out, expand(a.Value.Group(), depth+1)...)
		default:
			if members := expand(a.Value.Group(), depth+1); len(members) > 0 {
				out = append(out, slog.Attr{Key: a.Key, Value: slog.GroupValue(members...)})
			}
		}
	}
	return out
}

// unique keeps the last attribute of each name on each level.
func unique(attrs []slog.Attr, depth int) []slog.Attr {
	if depth > maxDepth {
		return attrs
	}
	last := make(map[string]int, len(attrs))
	for i, a := range attrs {
		last[a.Key] = i
	}
	out := attrs[:0:0]
	for i, a := range attrs {
		if last[a.Key] != i {
			continue
		}
		if a.Value.Kind() == slog.KindGroup {
			a.Value = slog.GroupValue(unique(a.Value.Group(), depth+1)...)
		}
		out = append(out, a)
	}
	return out
}

// flatten turns attributes into those of OpenTelemetry.
func (e *encoder) flatten(out []attribute.KeyValue, attrs []slog.Attr, prefix string) []attribute.KeyValue {
	for _, a := range attrs {
		key, v := prefix+a.Key, a.Value
		switch v.Kind() {
		case slog.KindGroup:
			out = e.flatten(out, v.Group(), key+".")
		case slog.KindBool:
			out = append(out, attribute.Bool(key, v.Bool()))
		case slog.KindInt64:
			out = append(out, attribute.Int64(key, v.Int64()))
		case slog.KindFloat64:
			out = append(out, attribute.Float64(key, v.Float64()))
		case slog.KindString:
			out = append(out, attribute.String(key, e.cut(v.String())))
		case slog.KindAny:
			out = append(out, attribute.String(key, e.cut(textOf(v.Any()))))
		default: // uint64, duration, time
			out = append(out, attribute.String(key, fmt.Sprint(v.Any())))
		}
	}
	return out
}
