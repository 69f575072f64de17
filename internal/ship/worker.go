package ship

import (
	"errors"
	"log/slog"
	"time"
)

const (
	// adoptEvery is how often a live process looks for the spools of dead ones.
	adoptEvery = time.Minute
	// dropLogEvery bounds the log lines about drops.
	dropLogEvery = time.Minute
)

// worker is the one goroutine of a [Shipper]: it alone touches the network and
// the spool, and never while it holds the lock.
type worker[T any] struct {
	*Shipper[T]
	gatherer[T]
	spool *spool // nil without one
	held  *batch // could be neither sent nor spooled; younger than the spool

	failed    int       // failures in a row
	nextTry   time.Time // no attempt before; zero while the server is well
	asked     bool      // nextTry is what the server asked for
	dueAt     time.Time // when the oldest waiting record has waited enough
	nextAdopt time.Time
	flushSeen int64
	closeSeen bool
	logged    int64 // drops that were logged
	nextLog   time.Time
}

// view is what the worker needs to know of the queue.
type view struct {
	waiting bool
	due     bool
	closing bool
}

func (w *worker[T]) run() {
	defer close(w.done)
	for {
		w.reportDrops(false)
		v := w.look()
		switch {
		case w.held != nil && w.ctx.Err() != nil:
			w.keep(w.held)
		case w.held == nil && v.due:
			w.advance()
			if w.backlog() && w.mayTry() {
				w.drain()
			}
		case w.backlog() && w.mayTry():
			w.drain()
		case v.closing && w.ctx.Err() != nil, v.closing && !w.backlog():
			w.reportDrops(true)
			w.closeSpool()
			return
		case v.closing && w.spool != nil:
			// The server does not take anything now: the disk will.
			w.cancel()
		default:
			w.sleep(v)
		}
	}
}

// look takes in what has changed for the worker.
func (w *worker[T]) look() view {
	now := time.Now()
	w.mu.Lock()
	n := len(w.pending) + w.waiting()
	full := len(w.pending) >= w.cfg.BatchItems || w.pendingBytes >= int64(w.cfg.BatchBytes)
	flushing := w.flushTarget > w.count.resolved
	// With a spool, a server known to be away costs a shutdown no attempt.
	kicked := w.flushes != w.flushSeen || (w.closing && !w.closeSeen && w.spool == nil)
	w.flushSeen, w.closeSeen = w.flushes, w.closing
	v := view{waiting: n > 0, closing: w.closing}
	w.mu.Unlock()

	if kicked && !w.asked {
		w.nextTry = time.Time{}
	}
	switch {
	case n == 0:
		w.dueAt = time.Time{}
	case w.dueAt.IsZero():
		w.dueAt = now.Add(w.cfg.FlushDelay)
	}
	v.due = n > 0 && (full || flushing || v.closing || !now.Before(w.dueAt))
	if w.spool != nil && !v.closing && !now.Before(w.nextAdopt) {
		w.adopt()
	}
	return v
}

// backlog says whether something older than the queue waits to be sent.
func (w *worker[T]) backlog() bool {
	return w.held != nil || (w.spool != nil && len(w.spool.entries) > 0)
}

func (w *worker[T]) mayTry() bool {
	return w.ctx.Err() == nil && !time.Now().Before(w.nextTry)
}

// sleep waits for the next thing to do.
func (w *worker[T]) sleep(v view) {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if v.waiting && w.held == nil {
		sooner(w.dueAt)
	}
	if w.backlog() {
		sooner(w.nextTry)
	}
	if w.spool != nil && !v.closing {
		sooner(w.nextAdopt)
	}
	var alarm <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-w.wake:
	case <-alarm:
	case <-w.ctx.Done():
	}
}

// advance moves one batch out of the queue: to the server, or behind what waits
// for the server already.
func (w *worker[T]) advance() {
	if w.ctx.Err() != nil && w.spool == nil {
		w.abandon()
		return
	}
	b := w.gather()
	if b == nil {
		return
	}
	if w.backlog() || !w.mayTry() || !w.send(b) {
		w.keep(b)
	}
}

// abandon drops everything in memory: the time for sending is over and there is
// no spool.
func (w *worker[T]) abandon() {
	for _, c := range w.costs {
		w.dropEntry(entry[T]{cost: c}, Stopped)
	}
	w.parts, w.costs, w.bytes = nil, nil, 0
	for e, ok := w.nextEntry(); ok; e, ok = w.nextEntry() {
		w.dropEntry(e, Stopped)
	}
}

// send tries a batch from memory and says whether it is settled.
func (w *worker[T]) send(b *batch) bool {
	o := w.deliver(b.wire, b.gzipped, b.items)
	if o.kind == retry {
		return false
	}
	w.update(func(c *counts) {
		c.Queued -= b.items
		c.QueuedBytes -= b.cost
		c.resolve(b.items, o.lost, o.reason, b.own)
	})
	return true
}

// keep puts a batch from memory on disk. Where that cannot be, the batch is held
// until the server takes it or the disk has room, and nothing younger leaves the
// queue; after the time for sending it is dropped.
func (w *worker[T]) keep(b *batch) {
	w.held = nil
	full := QueueFull
	if w.spool != nil {
		added, err := w.spool.put(b)
		if err == nil {
			w.update(func(c *counts) {
				c.Queued -= b.items
				c.QueuedBytes -= b.cost
				c.Spooled += b.items
				c.SpoolBytes += added
				c.SpoolFiles++
			})
			w.setFull(QueueFull)
			return
		}
		if errors.Is(err, errSpoolFull) {
			full = SpoolFull
		} else {
			w.spoolFault("write", err)
		}
	}
	if w.ctx.Err() == nil {
		w.held = b
		w.setFull(full)
		return
	}
	reason := Stopped
	if full == SpoolFull {
		reason = SpoolFull
	}
	w.update(func(c *counts) {
		c.Queued -= b.items
		c.QueuedBytes -= b.cost
		c.resolve(b.items, b.items, reason, b.own)
		c.unsaved += b.items
	})
}

func (w *worker[T]) setFull(reason Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full = reason
}

// drain tries the oldest batch that waits for the server.
func (w *worker[T]) drain() {
	if w.spool != nil && len(w.spool.entries) > 0 {
		w.drainSpool()
	} else if b := w.held; w.send(b) {
		w.held = nil
		w.setFull(QueueFull)
	}
	// The disk may have room now, and the queue may move on.
	if w.held != nil && w.spool != nil {
		w.keep(w.held)
	}
}

func (w *worker[T]) drainSpool() {
	e := w.spool.entries[0]
	b, err := w.spool.read(e)
	if err != nil {
		w.log("spool file is damaged and kept aside", slog.String("file", e.name), slog.Any("error", err))
		err = w.spool.setAside(e)
		w.settleSpooled(e, outcome{lost: e.items, reason: Corrupt})
		w.update(func(c *counts) { c.SpoolCorrupt++ })
		if err != nil {
			w.spoolFault("set aside", err)
		}
		return
	}
	o := w.deliver(b.wire, b.gzipped, e.items)
	if o.kind == retry {
		return
	}
	if err := w.spool.remove(e); err != nil {
		w.spoolFault("remove", err)
	}
	w.settleSpooled(e, o)
}

func (w *worker[T]) settleSpooled(e spooled, o outcome) {
	w.update(func(c *counts) {
		c.Spooled -= e.items
		c.SpoolBytes -= e.size
		c.SpoolFiles--
		c.resolve(e.items, o.lost, o.reason, e.own)
	})
}

// outcome is what became of a batch that was delivered or refused.
type outcome struct {
	kind   kind
	lost   int64
	reason Reason
}

// deliver posts a batch of so many records and reads the answer. Where the
// server refuses it and the signal can split it, the halves are tried. If one of
// them has to be retried, the whole is: what was taken already is recognised by
// the server.
func (w *worker[T]) deliver(wire []byte, gzipped bool, items int64) outcome {
	a := w.post(wire, gzipped)
	if a.failure != "" {
		w.update(func(c *counts) { c.Failures[a.failure]++ })
	}
	if a.kind == retry {
		w.failedAttempt(a)
		return outcome{kind: retry}
	}
	w.recovered()
	if a.kind == refused {
		return w.refusedBatch(a, wire, gzipped, items)
	}
	o := outcome{reason: Rejected}
	if w.cfg.PartialSuccess != nil {
		n, message := w.cfg.PartialSuccess(a.body)
		o.lost = min(max(n, 0), items)
		if o.lost > 0 {
			w.log("server refused records", slog.Int64("records", o.lost), slog.String("message", message))
		}
	}
	return o
}

func (w *worker[T]) refusedBatch(a answer, wire []byte, gzipped bool, items int64) outcome {
	if o, ok := w.halves(a, wire, gzipped, items); ok {
		return o
	}
	w.log("server refused a batch", slog.Int64("records", items), slog.String("answer", a.detail))
	reason := Rejected
	if a.status == 413 {
		reason = TooLarge
	}
	return outcome{kind: refused, lost: items, reason: reason}
}

// halves tries both halves of a refused batch, if it has two.
func (w *worker[T]) halves(a answer, wire []byte, gzipped bool, items int64) (outcome, bool) {
	if w.cfg.Split == nil || items < 2 || (a.status != 400 && a.status != 413 && a.status != 422) {
		return outcome{}, false
	}
	body, err := unpack(wire, gzipped)
	if err != nil {
		return outcome{}, false // we packed it and its CRC held: the server decides
	}
	left, right, nl, nr := w.cfg.Split(body)
	if nl == 0 || nr == 0 || int64(nl+nr) != items {
		return outcome{}, false
	}
	sum := outcome{reason: Rejected}
	for _, half := range []struct {
		body []byte
		n    int
	}{{left, nl}, {right, nr}} {
		packed, zipped := w.pack(half.body)
		o := w.deliver(packed, zipped, int64(half.n))
		if o.kind == retry {
			return o, true
		}
		sum.lost += o.lost
		if o.lost > 0 {
			sum.reason = o.reason
		}
	}
	return sum, true
}

func (w *worker[T]) failedAttempt(a answer) {
	w.failed++
	pause := backoff(w.failed, w.cfg.RetryMin, w.cfg.RetryMax)
	w.asked = a.retryAfter > 0
	w.nextTry = time.Now().Add(max(pause, a.retryAfter))
	if w.failed == 1 && w.ctx.Err() == nil {
		w.log("server is away; records are kept", slog.String("reason", a.failure), slog.String("error", a.detail))
	}
}

func (w *worker[T]) recovered() {
	if w.failed > 0 {
		w.cfg.Logger.Info("server is back", slog.String("signal", w.cfg.Name), slog.Int("failed_attempts", w.failed))
	}
	w.failed, w.asked, w.nextTry = 0, false, time.Time{}
}

func (w *worker[T]) log(message string, attrs ...any) {
	w.cfg.Logger.With(slog.String("signal", w.cfg.Name)).Warn(message, attrs...)
}

func (w *worker[T]) spoolFault(what string, err error) {
	w.update(func(c *counts) { c.SpoolErrors++ })
	w.log("spool: "+what, slog.Any("error", err))
}

// reportDrops logs new drops, once a minute at most and at the end.
func (w *worker[T]) reportDrops(last bool) {
	now := time.Now()
	if !last && now.Before(w.nextLog) {
		return
	}
	w.mu.Lock()
	total := w.count.TotalDropped()
	w.mu.Unlock()
	if total == w.logged {
		return
	}
	w.logged, w.nextLog = total, now.Add(dropLogEvery)
	w.log("records dropped since the start", slog.Any("by_reason", w.Stats().Dropped))
}

// adopt takes over what dead processes have left in the spool.
func (w *worker[T]) adopt() {
	w.nextAdopt = time.Now().Add(adoptEvery)
	got, err := w.spool.adopt()
	if err != nil {
		w.spoolFault("adopt", err)
	}
	if got.files == 0 && got.corrupt == 0 {
		return
	}
	w.update(func(c *counts) {
		c.Adopted += got.items
		c.Spooled += got.items
		c.SpoolBytes += got.bytes
		c.SpoolFiles += got.files
		c.SpoolCorrupt += got.corrupt
	})
}

func (w *worker[T]) closeSpool() {
	if w.spool == nil {
		return
	}
	if err := w.spool.close(); err != nil {
		w.spoolFault("close", err)
	}
}
