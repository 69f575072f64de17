package sampling

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TailProcessor holds the spans of a trace until its local root ends, the span
// below which everything of this process hangs, and then passes all of them to
// the next processor or none. A trace is kept when
//
//   - one of its spans has the status error,
//   - a local root took longer than [TailConfig].Slow,
//   - its model calls cost more than [TailConfig].CostNanoUSD: the sum of
//     kaizen.cost.nano_usd over the spans whose kaizen.kind is "model", or
//   - the ratio chooses its id, as OpenTelemetry's ratio sampler would.
//
// Once one of these is known, what is held passes on and later spans do so at
// once. Spans that end after the decision follow it. A trace with several local
// roots at once is decided when the last one ends.
//
// What starts passes on at once, so a run is announced while it goes on. The run
// span of a trace that is dropped passes on when it ends, alone and marked
// [SampledOut]: a run that was announced and never ended would look killed.
//
// It is for spans that are sampled; others pass through. All methods may be
// called at once; nothing of the next processor is called under a lock.
type TailProcessor struct {
	next  sdktrace.SpanProcessor
	cfg   TailConfig
	bound uint64

	stop     chan struct{} // closed by Shutdown
	watching sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	traces  map[trace.TraceID]*held
	order   list.List // of *held, the one held longest first
	waiting list.List // of *held with spans, likewise
	spans   int
	bytes   int64
	decided *decisions
	passing map[chan struct{}]struct{} // batches on their way to next
	stats   Stats
}

// batch is what leaves under one decision.
type batch struct {
	spans []sdktrace.ReadOnlySpan
	done  chan struct{} // closed when they have passed on; nil for an empty batch
}

// join appends a batch that is not empty.
func join(batches []batch, b batch) []batch {
	if b.done == nil {
		return batches
	}
	return append(batches, b)
}

// NewTail returns a processor in front of next. It has a goroutine until its
// Shutdown, which the tracer provider calls, and which shuts down next.
func NewTail(next sdktrace.SpanProcessor, cfg TailConfig) (*TailProcessor, error) {
	if next == nil {
		return nil, errors.New("sampling: new tail: no next processor")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("sampling: new tail: %w", err)
	}
	p := &TailProcessor{
		next: next, cfg: cfg, bound: ratioBound(cfg.Ratio),
		stop: make(chan struct{}), traces: make(map[trace.TraceID]*held),
		decided: newDecisions(cfg.MaxDecided), passing: make(map[chan struct{}]struct{}),
		stats: Stats{Kept: map[Reason]int64{}, Dropped: map[Reason]int64{}, DroppedSpans: map[Reason]int64{}},
	}
	p.watching.Go(p.watchAge)
	return p, nil
}

// OnStart passes the start on and notes a local root.
func (p *TailProcessor) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	p.next.OnStart(ctx, s)
	if !s.SpanContext().IsSampled() || !isLocalRoot(s) {
		return
	}
	for _, b := range p.begin(s) {
		p.pass(context.Background(), b)
	}
}

// begin notes a local root. It returns what had to make room.
func (p *TailProcessor) begin(s sdktrace.ReadOnlySpan) []batch {
	sc := s.SpanContext()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil
	}
	h := p.traces[sc.TraceID()]
	if h == nil {
		if kept, known := p.decided.get(sc.TraceID()); known && kept {
			return nil
		}
		h = p.hold(sc.TraceID())
	}
	h.roots = append(h.roots, root{sc.SpanID(), s.StartTime()})
	return p.makeRoom(nil)
}

// OnEnd holds the span, passes it on or drops it.
func (p *TailProcessor) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		p.next.OnEnd(s)
		return
	}
	now, batches := p.end(s, factsOf(s))
	for _, b := range batches {
		p.pass(context.Background(), b)
	}
	if now != nil {
		p.next.OnEnd(now)
	}
}

// end notes that s ended. It returns the span if that passes on at once, and
// the batches that pass on before it.
func (p *TailProcessor) end(s sdktrace.ReadOnlySpan, f facts) (now sdktrace.ReadOnlySpan, batches []batch) {
	id := s.SpanContext().TraceID()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		p.stats.DroppedSpans[DroppedStopped]++
		return nil, nil
	}
	h := p.traces[id]
	if h == nil {
		if kept, known := p.decided.get(id); known {
			return p.late(s, kept, f.run), nil
		}
		h = p.hold(id)
	}
	isRoot := isLocalRoot(s)
	p.note(h, s, f, isRoot)
	if h.keep != "" {
		now = s
		batches = join(batches, p.release(h))
	} else {
		p.add(h, s, f)
	}
	if h.close(s.SpanContext().SpanID()); isRoot && len(h.roots) == 0 {
		batches = join(batches, p.decide(h, DroppedRatio))
	}
	return now, p.makeRoom(batches)
}

// late returns what passes on of a span whose trace is decided.
func (p *TailProcessor) late(s sdktrace.ReadOnlySpan, kept, run bool) sdktrace.ReadOnlySpan {
	switch {
	case kept:
		return s
	case run:
		p.stats.SampledOut++
		return sampledOut{s}
	}
	p.stats.DroppedSpans[DroppedLate]++
	return nil
}

// hold opens a trace.
func (p *TailProcessor) hold(id trace.TraceID) *held {
	h := &held{id: id, since: time.Now()}
	if chosen(id, p.bound) {
		h.keep = KeptRatio
	}
	h.place = p.order.PushBack(h)
	p.traces[id] = h
	return h
}

// note adds what s says to what is known of its trace.
func (p *TailProcessor) note(h *held, s sdktrace.ReadOnlySpan, f facts, isRoot bool) {
	h.cost = addCost(h.cost, f.cost)
	switch {
	case f.failed || h.keep == KeptError:
		h.keep = KeptError
	case h.keep == KeptSlow || isRoot && p.slow(s.EndTime().Sub(s.StartTime())):
		h.keep = KeptSlow
	case p.cfg.CostNanoUSD != Off && h.cost > p.cfg.CostNanoUSD:
		h.keep = KeptCost
	}
}

func (p *TailProcessor) slow(d time.Duration) bool { return p.cfg.Slow != Off && d > p.cfg.Slow }

// add lets s wait for the decision.
func (p *TailProcessor) add(h *held, s sdktrace.ReadOnlySpan, f facts) {
	if f.run {
		h.runs = append(h.runs, len(h.spans))
	}
	h.spans = append(h.spans, s)
	h.bytes += f.bytes
	p.spans++
	p.bytes += f.bytes
	if h.waiting == nil {
		h.waiting = p.waiting.PushBack(h)
	}
}

// release takes the spans of a trace out.
func (p *TailProcessor) release(h *held) batch {
	if h.waiting == nil {
		return batch{}
	}
	p.waiting.Remove(h.waiting)
	p.spans -= len(h.spans)
	p.bytes -= h.bytes
	b := batch{spans: h.spans, done: make(chan struct{})}
	h.spans, h.bytes, h.waiting = nil, 0, nil
	p.passing[b.done] = struct{}{}
	return b
}

// decide ends the holding of a trace by what is known of it; why is the reason
// if it is dropped. The batch must be passed on.
func (p *TailProcessor) decide(h *held, why Reason) batch {
	for _, r := range h.roots {
		if h.keep == "" && p.slow(time.Since(r.start)) {
			h.keep = KeptSlow
		}
	}
	p.order.Remove(h.place)
	delete(p.traces, h.id)
	p.decided.put(h.id, h.keep != "")
	b := p.release(h)
	if h.keep != "" {
		p.stats.Kept[h.keep]++
		return b
	}
	p.stats.Dropped[why]++
	p.stats.DroppedSpans[why] += int64(len(b.spans) - len(h.runs))
	p.stats.SampledOut += int64(len(h.runs))
	runs := make([]sdktrace.ReadOnlySpan, len(h.runs))
	for i, at := range h.runs {
		runs[i] = sampledOut{b.spans[at]}
	}
	b.spans = runs
	return b
}

// makeRoom decides early until the bounds hold.
func (p *TailProcessor) makeRoom(batches []batch) []batch {
	for {
		switch {
		case len(p.traces) > p.cfg.MaxTraces:
			batches = join(batches, p.decide(p.order.Front().Value.(*held), DroppedMaxTraces))
		case p.spans > p.cfg.MaxSpans:
			batches = join(batches, p.decide(p.waiting.Front().Value.(*held), DroppedMaxSpans))
		case p.bytes > p.cfg.MaxBytes:
			batches = join(batches, p.decide(p.waiting.Front().Value.(*held), DroppedMaxBytes))
		default:
			return batches
		}
	}
}

// pass hands a batch to the next processor, as far as ctx gives time.
func (p *TailProcessor) pass(ctx context.Context, b batch) {
	if b.done == nil {
		return
	}
	left := len(b.spans)
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if left > 0 {
			p.stats.DroppedSpans[DroppedDeadline] += int64(left)
		}
		delete(p.passing, b.done)
		close(b.done)
	}()
	for _, s := range b.spans {
		if ctx.Err() != nil {
			return
		}
		p.next.OnEnd(s)
		left--
	}
}

// watchAge decides on traces that are held for too long, until Shutdown.
func (p *TailProcessor) watchAge() {
	tick := time.NewTicker(max(p.cfg.MaxAge/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		for _, b := range p.expire() {
			p.pass(context.Background(), b)
		}
	}
}

func (p *TailProcessor) expire() (batches []batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.order.Front(); e != nil; e = p.order.Front() {
		h := e.Value.(*held)
		if time.Since(h.since) < p.cfg.MaxAge {
			break
		}
		batches = join(batches, p.decide(h, DroppedMaxAge))
	}
	return batches
}

// ForceFlush decides on everything held by what is known now, also on traces
// whose root is still open, and flushes the next processor. What it had no time
// for stays held.
func (p *TailProcessor) ForceFlush(ctx context.Context) error {
	err := p.decideAll(ctx, false)
	return errors.Join(err, p.next.ForceFlush(ctx))
}

// Shutdown decides on everything held as ForceFlush does, drops and counts what
// it had no time for, and shuts down the next processor. Only the first call
// does anything.
func (p *TailProcessor) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	again := p.stopped
	p.stopped = true
	p.mu.Unlock()
	if again {
		return nil
	}
	close(p.stop)
	err := p.decideAll(ctx, true)
	p.abandon()
	return errors.Join(err, p.next.Shutdown(ctx))
}

// decideAll decides on what is held now and waits until that, and what was
// decided before, has passed on or ctx is done. Then the rest of a batch that is
// on its way is dropped if stopping; else it goes on.
func (p *TailProcessor) decideAll(ctx context.Context, stopping bool) error {
	done, passing := make(chan struct{}), ctx
	if !stopping {
		passing = context.WithoutCancel(ctx)
	}
	// The next processor may block without regard to ctx. Then this goroutine
	// is left behind, and ends when the one call that blocks returns.
	go func() {
		defer close(done)
		for range p.Stats().HeldTraces { // not what comes meanwhile
			b, ok := p.decideOldest(ctx)
			if !ok {
				break
			}
			p.pass(passing, b)
		}
		for _, passed := range p.onTheWay() {
			select {
			case <-passed:
			case <-ctx.Done():
			}
		}
		if stopping {
			p.watching.Wait()
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return fmt.Errorf("sampling: decide on what is held: %w", context.Cause(ctx))
	}
	return nil
}

// decideOldest decides on the trace that is held longest, while there is time.
func (p *TailProcessor) decideOldest(ctx context.Context) (b batch, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.order.Front()
	if e == nil || ctx.Err() != nil {
		return batch{}, false
	}
	return p.decide(e.Value.(*held), DroppedFlush), true
}

// onTheWay returns what is closed when the batches of now have passed on.
func (p *TailProcessor) onTheWay() []chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.passing))
}

// abandon drops what Shutdown had no time for.
func (p *TailProcessor) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.traces {
		p.stats.Dropped[DroppedDeadline]++
		if len(h.spans) > 0 {
			p.stats.DroppedSpans[DroppedDeadline] += int64(len(h.spans))
		}
	}
	clear(p.traces)
	p.order.Init()
	p.waiting.Init()
	p.spans, p.bytes = 0, 0
}
