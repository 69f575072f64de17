package llmhttp

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"
)

// keepBytes bounds what is kept of a body or an event to look into. Of longer
// ones the wanted values are found as they pass.
const keepBytes = 1 << 20

// keepEmbeddings is the same for embeddings: all but their edges is vectors.
const keepEmbeddings = 32 << 10

// tap is a response body that is looked into as the caller reads it. The
// caller gets the bytes and errors of the body beneath, and nothing else.
type tap struct {
	io.ReadCloser
	ended atomic.Bool // nothing more to see: reads go straight through

	// mu guards what follows: the caller's reads, a Close from another
	// goroutine and the end of the context may meet. Nothing foreign runs under it.
	mu      sync.Mutex
	read    reader
	answer  answer
	decoded func([]byte) // takes the body without its encoding
	inflate *inflater    // nil for a body that is not compressed
	events  splitter     // of a stream, or
	whole   *document    // of an answer that is not

	started time.Time
	done    func(Result)
	release func() bool // lets go of the context
	onPanic func(any)
}

// splitter cuts a stream into its events.
type splitter interface {
	write([]byte)
	// flush is called once at the end of the stream.
	flush()
}

// document keeps a body up to a limit, and finds the wanted values in a longer one.
type document struct {
	limit int
	kept  []byte
	over  *scanner
}

func (d *document) write(b []byte) {
	if d.over == nil && len(d.kept)+len(b) > d.limit {
		d.over = newScanner(wanted, maxValueBytes)
		d.over.write(d.kept)
		d.kept = nil
	}
	if d.over != nil {
		d.over.write(b)
		return
	}
	d.kept = append(d.kept, b...)
}

// doc returns the document and whether it is all there.
func (d *document) doc() (doc, bool) {
	if d.over != nil {
		return doc{found: d.over.found}, d.over.done
	}
	return doc{raw: d.kept}, gjson.ValidBytes(d.kept)
}

// newTap prepares the look into resp. Ctx is the request's.
func newTap(ctx context.Context, resp *http.Response, o *observed) *tap {
	t := &tap{
		ReadCloser: resp.Body, read: o.dialect.reader, started: o.started, done: o.done, onPanic: o.onPanic,
		answer: answer{content: o.content, budget: o.maxContent},
	}
	t.answer.res = responseHead(resp)
	t.answer.errorType, _, _ = strings.Cut(resp.Header.Get("X-Amzn-Errortype"), ":")
	limit := keepBytes
	if o.content {
		limit = max(limit, o.maxContent)
	}
	if o.dialect.operation == "embeddings" {
		limit = keepEmbeddings
	}
	t.decoded = func(b []byte) { t.detect(resp, o, b, limit) }
	if encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding != "" && encoding != "identity" && !resp.Uncompressed {
		t.inflate = newInflater(encoding, func(b []byte) { t.decoded(b) })
		if t.inflate == nil {
			t.decoded = func([]byte) {} // an encoding, or a list of them, that we cannot undo
		}
	}
	// A caller that forgets the body, or stops reading, still cancels its context.
	// The lock keeps a context that has ended already from ending the call before release is set.
	t.mu.Lock()
	t.release = context.AfterFunc(ctx, func() { t.end(ctx.Err()) })
	t.mu.Unlock()
	return t
}

// responseHead is what the head of a response says.
func responseHead(resp *http.Response) Result {
	return Result{
		StatusCode: resp.StatusCode, RequestID: requestID(resp.Header), RetryAfter: retryAfter(resp.Header, time.Now()),
		Retryable: retryable(resp),
	}
}

// detect chooses, at the first bytes, how to read the body.
func (t *tap) detect(resp *http.Response, o *observed, b []byte, limit int) {
	if len(b) == 0 {
		return
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	first := byte('{')
	if text := bytes.TrimLeft(b, jsonSpace); len(text) > 0 {
		first = text[0]
	}
	isJSON := strings.HasSuffix(kind, "json")
	array := first == '[' && o.dialect.stream == always // Gemini's stream without alt=sse is one array, and so is its error
	lines := first == '{' && (o.dialect.stream == unlessSaid && o.stream || strings.HasSuffix(kind, "ndjson"))
	switch good := resp.StatusCode < 400; {
	case kind == "text/event-stream":
		t.events = &sse{limit: limit, emit: t.event}
	case kind == "application/vnd.amazon.eventstream":
		t.events = &eventStream{limit: limit, emit: t.event}
	case (array || lines) && good:
		t.events = &objects{limit: limit, emit: t.event}
	case array:
		t.events = &objects{limit: limit, emit: func(d doc) { t.read.whole(&t.answer, d) }}
	case !isJSON && first != '{' && first != '[' && good:
		t.events = &sse{limit: limit, emit: t.event}
	}
	if t.events != nil {
		t.decoded = t.events.write
	} else {
		t.whole = &document{limit: limit}
		t.decoded = t.whole.write
	}
	t.decoded(b)
}

// event takes an event of a stream.
func (t *tap) event(d doc) {
	if t.answer.terminal {
		return
	}
	if t.answer.res.Chunks == 0 {
		t.answer.res.FirstChunk = time.Since(t.started)
	}
	t.answer.res.Chunks++
	t.read.event(&t.answer, d)
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if !t.ended.Load() {
		t.saw(p[:n], err)
	}
	return n, err
}

// Close ends the call, if the caller has not read it to its end.
func (t *tap) Close() error {
	err := t.ReadCloser.Close()
	if !t.ended.Load() {
		t.end(nil)
	}
	return err
}

// saw looks at what the caller is about to get.
func (t *tap) saw(b []byte, err error) {
	t.mu.Lock()
	if t.ended.Load() {
		t.mu.Unlock()
		return
	}
	t.answer.res.Bytes += int64(len(b))
	caught := t.take(b)
	terminal := t.answer.terminal
	t.mu.Unlock()
	t.report(caught)
	switch {
	case err == io.EOF || terminal:
		t.end(io.EOF)
	case err != nil:
		t.end(err)
	}
}

// take reads b. A bug of ours in there must not break the caller's answer: a
// panic is returned, and nothing more is looked at.
func (t *tap) take(b []byte) (caught any) {
	defer func() {
		if caught = recover(); caught != nil {
			t.decoded, t.inflate, t.events, t.whole = func([]byte) {}, nil, nil, nil
		}
	}()
	if t.inflate != nil {
		t.inflate.write(b)
	} else {
		t.decoded(b)
	}
	return nil
}

// end ends the call, once. Err is io.EOF at the end of the body or of the
// stream in it, nil when the caller closes, or what went wrong.
func (t *tap) end(err error) {
	t.mu.Lock()
	if t.ended.Swap(true) {
		t.mu.Unlock()
		return
	}
	complete, caught := t.finish()
	res := t.answer.result()
	release := t.release
	t.answer, t.whole, t.events, t.inflate = answer{}, nil, nil, nil // the caller may keep the body
	t.decoded = func([]byte) {}
	t.mu.Unlock()

	release()
	res.conclude(complete, err)
	t.report(caught)
	t.done(res)
}

// completeness is how much of the answer came.
type completeness int

const (
	unknown completeness = iota // nothing, or not what the dialect sends
	partly
	fully
)

// finish reads what the end of the body makes readable.
func (t *tap) finish() (c completeness, caught any) {
	defer func() {
		if r := recover(); r != nil {
			caught = r
		}
	}()
	if t.inflate != nil {
		t.inflate.end()
	}
	switch {
	case t.events != nil:
		t.events.flush()
		c = partly
		if t.answer.terminal || t.answer.finished {
			c = fully
		}
	case t.whole != nil:
		d, all := t.whole.doc()
		switch {
		case all:
			c = fully
		case t.inflate != nil && t.inflate.cut:
			t.answer.res.Truncated = true // by us: it may well have been whole
		case d.cut() || bytes.HasPrefix(bytes.TrimLeft(d.raw, jsonSpace), []byte{'{'}):
			c = partly
		}
		if c != unknown {
			t.read.whole(&t.answer, d)
		}
	}
	if t.answer.failure != nil {
		t.answer.failure.Status = t.answer.res.StatusCode
		t.answer.res.Err = t.answer.failure
	}
	return c, nil
}

// conclude says how the call ended, from what came and what ended it.
func (r *Result) conclude(c completeness, err error) {
	good := r.StatusCode < 400
	if r.Err != nil {
		c = partly // an error inside the answer ends it too soon
	}
	switch {
	case r.Err != nil: // the provider's own word
	case !good:
		r.Err = &APIError{Status: r.StatusCode}
	case c == fully:
	case err == io.EOF && c == partly:
		r.Err = ErrIncomplete
	case err != io.EOF:
		r.Err = err
	}
	r.Partial = good && c != fully && !(c == unknown && err == io.EOF)
	if r.Err != nil {
		r.ErrorType = errorType(r.Err, true)
	}
}

func (t *tap) report(caught any) {
	if caught != nil && t.onPanic != nil {
		t.onPanic(caught)
	}
}
