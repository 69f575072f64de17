package llmhttp

import (
	"bytes"
	"io"
	"mime"
	"net/http"

	"github.com/tidwall/gjson"
)

// maxInjectBytes bounds the requests that a stream's usage is asked for in: they
// are held in memory.
const maxInjectBytes = 8 << 20

// wantsUsage reports whether the usage of the stream that req asks for can be
// asked for on behalf of the caller: nothing may stand in the way of changing
// the body, or of taking the answer's additional event out again.
func (t *transport) wantsUsage(req *http.Request, c Call) bool {
	if !t.cfg.InjectStreamUsage || c.Dialect != OpenAIChat || !c.Stream {
		return false
	}
	for _, name := range [...]string{
		"Accept-Encoding", // the caller will undo it: we would have to do it again
		"Content-Encoding", "Content-MD5", "Digest", "Content-Digest", "Signature", "X-Amz-Content-Sha256",
	} {
		if req.Header.Get(name) != "" {
			return false
		}
	}
	return true
}

var (
	usageOption  = []byte(`"include_usage":true`)
	usageOptions = []byte(`"stream_options":{"include_usage":true}`)
)

// askForUsage returns a request body that asks for the usage of its stream and
// is otherwise the same, byte for byte; false if the body asks already, or is
// nothing that can be changed without doubt.
func askForUsage(body []byte) ([]byte, bool) {
	if !gjson.ValidBytes(body) || !gjson.ParseBytes(body).IsObject() {
		return nil, false
	}
	var options []gjson.Result
	fields := 0
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		fields++
		if k.Str == "stream_options" {
			options = append(options, v)
		}
		return true
	})
	switch {
	case fields == 0 || len(options) > 1: // of two, servers may choose either
		return nil, false
	case len(options) == 0:
		return within(body, bytes.IndexByte(body, '{')+1, 0, append(bytes.Clone(usageOptions), ',')), true
	}
	o := options[0]
	switch {
	case !stands(o, body):
		return nil, false
	case o.Type == gjson.Null:
		return within(body, o.Index, len(o.Raw), append(append([]byte("{"), usageOption...), '}')), true
	case !o.IsObject():
		return nil, false
	}
	var said []gjson.Result
	others := 0
	o.ForEach(func(k, v gjson.Result) bool {
		if k.Str == "include_usage" {
			said = append(said, v)
		} else {
			others++
		}
		return true
	})
	switch {
	case len(said) == 1 && (said[0].Type == gjson.False || said[0].Type == gjson.Null) && stands(said[0], body):
		return within(body, said[0].Index, len(said[0].Raw), []byte("true")), true
	case len(said) > 0:
		return nil, false
	case others == 0:
		return within(body, o.Index+1, 0, usageOption), true
	}
	return within(body, o.Index+1, 0, append(bytes.Clone(usageOption), ',')), true
}

// stands reports whether v stands in body where it says.
func stands(v gjson.Result, body []byte) bool {
	return v.Index > 0 && bytes.HasPrefix(body[min(v.Index, len(body)):], []byte(v.Raw))
}

// within returns body with n bytes at index i replaced.
func within(body []byte, i, n int, by []byte) []byte {
	out := make([]byte, 0, len(body)+len(by))
	out = append(out, body[:i]...)
	out = append(out, by...)
	return append(out, body[i+n:]...)
}

// withBody returns sent with another body. The one that it had is closed with it.
func withBody(sent *http.Request, body []byte) *http.Request {
	changed := sent.WithContext(sent.Context())
	changed.Body = replaced{bytes.NewReader(body), sent.Body}
	if sent.ContentLength > 0 {
		changed.ContentLength = int64(len(body))
	}
	if sent.GetBody != nil {
		changed.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	return changed
}

type replaced struct {
	io.Reader
	io.Closer
}

// hideUsage keeps the event with the usage from the caller, who has not asked for it.
func hideUsage(resp *http.Response) {
	if resp == nil || resp.StatusCode != http.StatusOK || resp.Body == nil || resp.Body == http.NoBody {
		return
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "text/event-stream" {
		return
	}
	if resp.Header.Get("Content-Encoding") != "" { // against what was asked for
		return
	}
	if resp.ContentLength >= 0 {
		resp.ContentLength = -1
		resp.Header.Del("Content-Length")
	}
	resp.Body = &withoutUsage{ReadCloser: resp.Body}
}

// maxUsageEvent bounds the events that are held until they are whole; a longer
// one is not the usage, which has some hundred bytes.
const maxUsageEvent = 16 << 10

// withoutUsage is a stream of events without the one that has the usage and no
// choices. Each event is passed on when it is whole; all others stay as they are.
type withoutUsage struct {
	io.ReadCloser
	out   []byte // for the caller
	event []byte // the one that has begun
	long  bool   // it is too long to be held
	text  bool   // the line that has begun is not empty
	err   error  // of the body
	buf   []byte
}

// Read implements [io.Reader].
func (w *withoutUsage) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(w.out) == 0 {
		if w.err != nil {
			return 0, w.err
		}
		if w.buf == nil {
			w.buf = make([]byte, 8<<10)
		}
		var n int
		w.out = w.out[:0]
		n, w.err = w.ReadCloser.Read(w.buf)
		w.take(w.buf[:n])
		if w.err != nil {
			w.endEvent()
		}
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}

// take cuts b into events.
func (w *withoutUsage) take(b []byte) {
	for _, c := range b {
		w.event = append(w.event, c)
		switch c {
		case '\n':
			if !w.text {
				w.endEvent()
			}
			w.text = false
		case '\r':
		default:
			w.text = true
		}
	}
	if w.long || len(w.event) > maxUsageEvent {
		w.long = true
		w.out, w.event = append(w.out, w.event...), w.event[:0]
	}
}

// endEvent passes the event on, unless it is the usage.
func (w *withoutUsage) endEvent() {
	if w.long || !isUsage(w.event) {
		w.out = append(w.out, w.event...)
	}
	w.event, w.long, w.text = w.event[:0], false, false
}

// isUsage reports whether an event is the one that was asked for: one line of
// data, with a usage and an empty list of choices.
func isUsage(event []byte) bool {
	data, ok := bytes.CutPrefix(bytes.TrimSpace(event), dataField)
	if !ok || bytes.IndexByte(data, '\n') >= 0 || !gjson.ValidBytes(data) {
		return false
	}
	choices := gjson.GetBytes(data, "choices")
	return choices.IsArray() && len(choices.Array()) == 0 && gjson.GetBytes(data, "usage").IsObject()
}
