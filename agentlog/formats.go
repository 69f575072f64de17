package agentlog

import (
	"fmt"
	"log/slog"
)

// formatsOf asks the sinks for the formats that they want. It returns nil when
// the format of the Config does for all of them, the usual case.
func formatsOf(cfg Config) ([]Format, error) {
	formats := make([]Format, len(cfg.Sinks))
	same := true
	for i, sink := range cfg.Sinks {
		formats[i] = cfg.Format
		if w, ok := sink.(interface{ WantsFormat() Format }); ok {
			formats[i] = w.WantsFormat()
		}
		if formats[i] > FormatText {
			return nil, fmt.Errorf("agentlog: new: sink %d wants unknown format %d", i, formats[i])
		}
		same = same && formats[i] == cfg.Format
	}
	if same {
		return nil, nil
	}
	return formats, nil
}

// writeFormats gives each sink the record with the line in its own format. e
// holds the record and its line in the format of the Config; each further
// format is encoded once.
func (h *handler) writeFormats(r *slog.Record, e *encoder) {
	l := h.logs
	var more [FormatText + 1]*encoder
	for i, sink := range l.cfg.Sinks {
		from := e
		if f := l.formats[i]; f != l.cfg.Format {
			if more[f] == nil {
				more[f] = h.translate(r, e, f)
			}
			from = more[f]
		}
		e.record.Line = from.buf
		if !writeSafely(sink, &e.record) {
			l.errors.Add(1)
		}
	}
	for _, o := range more {
		if o != nil {
			l.release(o)
		}
	}
}

// translate writes the record of e in another format. The inside of the
// context is the same in JSON and ECS; between those and text the attributes
// are encoded again.
func (h *handler) translate(r *slog.Record, e *encoder, format Format) *encoder {
	o := h.logs.encoder()
	o.text = format == FormatText
	o.head(format, &e.record, &e.found)
	if len(e.inside) > 0 {
		o.openContext(format)
		if start := len(o.buf); o.text == e.text {
			o.buf = append(o.buf, e.inside...)
		} else if !h.againSafely(r, o) {
			o.buf = append(o.buf[:start], o.lost()...)
		}
		o.closeContext(format)
	}
	o.tail(format)
	return o
}

// lost stands in the context for attributes that could be encoded once, but
// not a second time.
func (e *encoder) lost() string {
	if e.text {
		return ` !ERROR="a log record could not be encoded"`
	}
	return `"!ERROR":"a log record could not be encoded"`
}

func (h *handler) againSafely(r *slog.Record, e *encoder) (ok bool) {
	defer func() { ok = recover() == nil }()
	h.encodeAll(r, e, h.logs.base.Load(), true)
	return true
}
