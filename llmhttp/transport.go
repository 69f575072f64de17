package llmhttp

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"net/http"
	"sync"
	"time"
)

// Transport returns a round tripper that sends requests through base and tells
// o of the model calls among them, once for each attempt of a call. A nil base
// is [http.DefaultTransport], which is not modified.
//
// A request is a model call if it is a POST, its path ends in
// /chat/completions, /responses, /embeddings, /messages, :generateContent,
// :streamGenerateContent, :embedContent, :batchEmbedContents, /api/chat,
// /api/generate, /api/embed, /converse or /converse-stream, and its body has
// the fields of such a request. The body is read ahead of sending it: from
// GetBody where there is one, up to 32 MiB, otherwise from Body, up to 1 MiB,
// which are then sent from memory and the rest as it comes. Requests are not
// modified: what is sent is a shallow copy with the observer's context.
//
// A call ends at the first of: the last event of a stream, the end of the
// body, an error, Close, the end of the request's context. Bodies of 101
// responses are not wrapped. A body in gzip, deflate, brotli or zstd is inflated
// on the side, within bounds; of one in another encoding nothing but its size is
// known.
//
// The round tripper implements CloseIdleConnections if base does. It is safe for concurrent
// use if base and o are.
func Transport(base http.RoundTripper, o Observer, cfg Config) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	if cfg.MaxContentBytes <= 0 {
		cfg.MaxContentBytes = 1 << 20
	}
	return &transport{base: base, observer: o, cfg: cfg}
}

type transport struct {
	base     http.RoundTripper
	observer Observer
	cfg      Config
}

// observed is a call that an observer has been told of.
type observed struct {
	dialect    *dialect
	started    time.Time
	done       func(Result)
	onPanic    func(any)
	stream     bool // was asked for
	content    bool
	maxContent int
}

// CloseIdleConnections forwards to the base transport; [http.Client] calls it.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	d := dialectOf(req)
	if d == nil || t.observer == nil {
		return t.base.RoundTrip(req)
	}
	ahead := readAhead(req, d.fields, t.cfg)
	sent := req
	if ahead.body != nil {
		sent = req.WithContext(req.Context())
		sent.Body = ahead.body
	}
	call, ok := t.call(req, d, ahead)
	if !ok {
		return t.send(req, sent)
	}
	ctx, o := t.start(req.Context(), call)
	if o == nil {
		return t.send(req, sent)
	}
	o.dialect = d
	if err, refused := ctx.Value(refusalKey{}).(error); refused {
		return nil, o.refuse(sent, err)
	}
	sent = sent.WithContext(valueContext{Context: req.Context(), values: ctx})
	injected := false
	if t.wantsUsage(req, call) {
		if body, ok := askForUsage(ahead.all); ok {
			sent, injected = withBody(sent, body), true
		}
	}
	returned := false
	defer func() {
		if !returned { // base panics: not ours to stop, but the call has ended
			o.done(Result{Err: errPanic, ErrorType: ErrorConnection})
		}
	}()
	resp, err := t.send(req, sent)
	returned = true
	t.watch(req.Context(), resp, err, o)
	if injected {
		hideUsage(resp)
	}
	return resp, err
}

type refusalKey struct{}

// Refuse returns a context with which [Observer.Start] keeps a request from
// being sent: its caller gets err.
func Refuse(ctx context.Context, err error) context.Context {
	return context.WithValue(ctx, refusalKey{}, err)
}

// refuse ends a call that was not sent. A round tripper closes the body on
// every path.
func (o *observed) refuse(req *http.Request, err error) error {
	if req.Body != nil {
		err = errors.Join(err, req.Body.Close())
	}
	o.done(Result{Err: err, ErrorType: ErrorRefused})
	return err
}

var errPanic = errors.New("llmhttp: the base transport panicked")

// send sends a copy of req and gives the response the request that the caller made.
func (t *transport) send(req, sent *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(sent)
	if resp != nil && resp.Request == sent {
		resp.Request = req
	}
	return resp, err
}

// valueContext has the caller's deadline and cancellation and the observer's
// values: to observe a call is not to change when it ends.
type valueContext struct {
	context.Context
	values context.Context
}

func (c valueContext) Value(key any) any { return c.values.Value(key) }

// watch ends the call, or has the response's body end it.
func (t *transport) watch(ctx context.Context, resp *http.Response, err error, o *observed) {
	switch {
	case err != nil:
		o.done(Result{Err: err, ErrorType: errorType(err, false), Retryable: !errors.Is(ctx.Err(), context.Canceled)})
	case resp == nil || resp.Body == nil: // against the rules, but not ours to punish
		o.done(Result{Partial: true})
	case resp.StatusCode == http.StatusSwitchingProtocols:
		res := responseHead(resp)
		res.Partial = true // what follows is another protocol
		o.done(res)
	case resp.Body == http.NoBody: // callers compare it, so it stays
		newTap(ctx, resp, o).end(io.EOF)
	default:
		resp.Body = newTap(ctx, resp, o)
	}
}

// start tells the observer. It returns nil if that panics.
func (t *transport) start(ctx context.Context, call Call) (_ context.Context, o *observed) {
	o = &observed{started: time.Now(), stream: call.Stream, onPanic: t.cfg.OnPanic, content: t.cfg.Content, maxContent: t.cfg.MaxContentBytes}
	defer func() {
		if r := recover(); r != nil {
			o = nil
			t.panicked(r)
		}
	}()
	with, end := t.observer.Start(ctx, call)
	if with == nil {
		with = ctx
	}
	o.done = func(r Result) {
		if end == nil {
			return
		}
		defer func() {
			if r := recover(); r != nil {
				t.panicked(r)
			}
		}()
		end(r)
	}
	return with, o
}

func (t *transport) panicked(value any) {
	if t.cfg.OnPanic != nil {
		t.cfg.OnPanic(value)
	}
}

// readAheadBytes is how much of a body without GetBody is read before it is sent.
const readAheadBytes = 1 << 20

// maxScanBytes bounds what is read of a body with GetBody, to bound the time.
const maxScanBytes = 32 << 20

// ahead is what is known of a request's body before it is sent.
type ahead struct {
	body io.ReadCloser // to send in place of the request's; nil if that is untouched
	scan *scanner      // the fields of the body
	all  []byte        // the body itself, if it is wanted and not too long
	hash maphash.Hash  // of what was read of it
}

// hashSeed is the seed of all fingerprints: they are compared with each other.
var hashSeed = maphash.MakeSeed()

// requestFields are the fields of a request that are kept, of the OpenAI and
// Anthropic formats.
var requestFields = []string{"model", "stream", "max_tokens", "max_completion_tokens", "max_output_tokens", "temperature", "top_p", "conversation"}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// readAhead reads the fields of a request.
func readAhead(req *http.Request, fields []string, cfg Config) *ahead {
	a := &ahead{scan: newScanner(fields, 1<<10)}
	a.hash.SetSeed(hashSeed)
	keep := 0
	if cfg.Content {
		keep = cfg.MaxContentBytes
	}
	if cfg.InjectStreamUsage {
		keep = max(keep, maxInjectBytes)
	}
	if req.GetBody != nil {
		if body, err := req.GetBody(); err == nil {
			a.read(body, keep, maxScanBytes)
			_ = body.Close() // a copy made for reading; the one that is sent is not touched
		}
		return a
	}
	// The body is there once: what is read must be kept to be sent.
	stop := context.AfterFunc(req.Context(), func() { _ = req.Body.Close() }) // or a body that blocks would block us
	defer stop()
	limit := max(readAheadBytes, keep+1)
	head, err := io.ReadAll(io.LimitReader(req.Body, int64(limit)))
	a.scan.write(head)
	_, _ = a.hash.Write(head) // has no error
	if keep > 0 && len(head) <= keep && err == nil {
		a.all = head
	}
	a.body = &restored{head: head, err: err, ReadCloser: req.Body}
	return a
}

// read passes a body through the scanner and keeps it if it has at most keep bytes.
func (a *ahead) read(body io.Reader, keep, limit int) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	kept := keep > 0
	for total := 0; total < limit; {
		n, err := body.Read(*buf)
		total += n
		a.scan.write((*buf)[:n])
		_, _ = a.hash.Write((*buf)[:n])
		if kept = kept && len(a.all)+n <= keep; kept {
			a.all = append(a.all, (*buf)[:n]...)
		}
		if err != nil {
			kept = kept && err == io.EOF
			break
		}
	}
	if !kept {
		a.all = nil
	}
}

// restored is a body of which the head has been read.
type restored struct {
	head []byte
	err  error // that reading the head ended with
	io.ReadCloser
}

func (r *restored) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	if r.err != nil {
		return 0, r.err
	}
	return r.ReadCloser.Read(p)
}
