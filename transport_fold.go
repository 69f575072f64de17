package kaizen

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
	"github.com/kaizen-go/kaizen/llmhttp"
)

// A call of a model is one operation over all attempts that a client library
// makes inside of itself. On the wire each attempt stands alone, so an operation
// whose attempt failed in a way that libraries try again is held open: the next
// attempt goes on with it. What the caller receives, and when, is not touched;
// only the record of a call that is given up comes later, with the times of its
// last attempt.

const (
	// maxHeld bounds the calls that are held at once. A call beyond them is
	// recorded as one operation for each attempt, and counted.
	maxHeld = 256
	// backOff is how long a next attempt is waited for: the libraries of OpenAI
	// and Anthropic wait 8 s at most, and the request takes its time.
	backOff = 10 * time.Second
	// backOffAmazon is the same for Amazon's, which wait up to 20 s.
	backOffAmazon = 22 * time.Second
	// maxRetryAfter is the longest wait that libraries let a server ask for.
	maxRetryAfter = 60 * time.Second
)

// folds holds the calls of one observer that may be tried again.
type folds struct {
	mu     sync.Mutex
	held   map[foldKey][]*heldCall // oldest first
	count  int
	closed bool

	unfolded atomic.Int64 // calls that would have been held, but for the bound
}

// foldKey is what the attempts of one call have in common.
type foldKey struct {
	trace       trace.TraceID // of the span that the call is made in
	span        trace.SpanID
	run         string
	fingerprint uint64
}

// heldCall is a call whose last attempt failed.
type heldCall struct {
	key     foldKey
	op      *hook.Op
	ctx     context.Context // that the operation runs in
	w       *wire
	began   time.Time // the call, and
	tried   time.Time // the last attempt
	counted bool      // by the library
	attempt int       // the last one's number, from 0
	failed  llmhttp.Result
	at      time.Time // when it failed

	timer   *time.Timer
	release func() bool // lets go of the caller's context
}

func keyOf(ctx context.Context, c llmhttp.Call) foldKey {
	sc := trace.SpanContextFromContext(ctx)
	run, _ := runctx.From(ctx)
	return foldKey{sc.TraceID(), sc.SpanID(), run.RunID, c.Fingerprint}
}

// take returns the held call that c is a further attempt of, or nil. A library
// that counts says which attempt it is: calls that ask the same at the same time
// are not mixed up, and its first try is a call of its own.
func (f *folds) take(key foldKey, c llmhttp.Call) *heldCall {
	if c.Counted && c.Attempt == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, h := range f.held[key] {
		if h.counted == c.Counted && (!c.Counted || h.attempt == c.Attempt-1) {
			f.remove(h, i)
			return h
		}
	}
	return nil
}

// again tells the operation of a further attempt, and returns the context to
// make it in: the attempt's own, within the operation.
func (h *heldCall) again(ctx context.Context, c llmhttp.Call, now time.Time) context.Context {
	h.w.attempt(h.ctx, h)
	h.op.Update(func(p hook.Payload) { sent(p.(*hook.ModelCall), c) })
	h.attempt, h.tried = h.attempt+1, now
	ctx = h.op.In(trace.ContextWithSpan(ctx, trace.SpanFromContext(h.ctx)))
	return context.WithValue(ctx, attemptKey{}, h.op)
}

// remove takes the i-th call of its key out, whose owner is then who called.
func (f *folds) remove(h *heldCall, i int) {
	list := f.held[h.key]
	if len(list) == 1 {
		delete(f.held, h.key)
	} else {
		f.held[h.key] = append(list[:i:i], list[i+1:]...)
	}
	f.count--
	h.timer.Stop()
	if h.release != nil {
		h.release()
	}
}

// hold keeps h until its next attempt, the end of the caller's context ctx, or
// the end of the wait. It returns false if h must end now.
func (f *folds) hold(ctx context.Context, h *heldCall, wait time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	if f.count == maxHeld {
		f.unfolded.Add(1)
		return false
	}
	if f.held == nil {
		f.held = map[foldKey][]*heldCall{}
	}
	f.held[h.key] = append(f.held[h.key], h)
	f.count++
	h.timer = time.AfterFunc(wait, func() { f.giveUp(h) })
	h.release = nil
	if _, limited := ctx.Deadline(); !limited {
		// A context with a deadline may be the attempt's own (of http.Client's
		// Timeout, or a library's), which ends with each attempt.
		h.release = context.AfterFunc(ctx, func() { f.giveUp(h) })
	}
	return true
}

// giveUp ends h, unless somebody has taken it.
func (f *folds) giveUp(h *heldCall) {
	f.mu.Lock()
	for i, other := range f.held[h.key] {
		if other == h {
			f.remove(h, i)
			f.mu.Unlock()
			h.end()
			return
		}
	}
	f.mu.Unlock()
}

// flush ends all held calls. With closed, no others are held from then on.
func (f *folds) flush(closed bool) {
	f.mu.Lock()
	f.closed = f.closed || closed
	var all []*heldCall
	for _, list := range f.held {
		all = append(all, list...)
	}
	for _, h := range all {
		for i, other := range f.held[h.key] {
			if other == h {
				f.remove(h, i)
				break
			}
		}
	}
	f.mu.Unlock()
	for _, h := range all {
		h.end()
	}
}

// end ends the operation as its last attempt ended it, when that did. It may run
// on a goroutine of a timer, where a panic of a user's log sink would end the
// program: it is contained, as llmhttp contains it on the caller's goroutine.
func (h *heldCall) end() {
	defer func() { _ = recover() }()
	if h.attempt > 0 {
		h.w.attempt(h.ctx, h)
	}
	h.op.EndAt(h.failed.Err, h.at)
}

// ended is told how an attempt of h ended.
func (f *folds) ended(ctx context.Context, h *heldCall, c llmhttp.Call, r llmhttp.Result) {
	if r.FirstChunk > 0 { // counts from the start of the call
		r.FirstChunk += h.tried.Sub(h.began)
	}
	h.op.Update(func(p hook.Payload) { received(p.(*hook.ModelCall), r) })
	h.failed, h.at = r, time.Now()
	last := c.MaxAttempts > 0 && c.Attempt+1 >= c.MaxAttempts
	if r.Retryable && !last && !errors.Is(r.Err, context.Canceled) && f.hold(ctx, h, waitFor(c, r)) {
		return
	}
	h.end()
}

// waitFor is how long to wait for the attempt after one that ended so.
func waitFor(c llmhttp.Call, r llmhttp.Result) time.Duration {
	wait := backOff
	if c.MaxAttempts > 0 {
		wait = backOffAmazon
	}
	if r.RetryAfter > 0 && r.RetryAfter <= maxRetryAfter {
		wait = max(wait, r.RetryAfter+r.RetryAfter/4+time.Second) // libraries add some at random
	}
	return wait
}
