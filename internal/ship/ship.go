// Package ship carries the records of one signal to one URL: it takes them
// without blocking, gathers them into batches, posts those, and keeps on disk
// what the server cannot take now.
//
//	s, err := ship.New(ship.Config[[]byte]{
//		Name: "audit", URL: url, ContentType: "application/x-ndjson",
//		Encode: func(dst, line []byte) ([]byte, error) { return append(dst, line...), nil },
//		Frame:  joinLines,
//	})
//	s.Offer(line) // false: dropped and counted
//	err = s.Shutdown(ctx)
//
// # Order and repetition
//
// Batches are sent one at a time, oldest first, through the spool as well. A
// batch whose answer was lost is sent again with the same bytes, so a server
// can recognise it by a hash of the body. Delivery is at least once.
//
// # Bounds
//
// In memory: Config.QueueBytes by the estimate of Config.Cost, for waiting
// records and for the batch under way, plus that batch's encoded and compressed
// form. On disk: Config.SpoolBytes. When the spool is full, the oldest batches
// stay (what was spooled is never given up unsent) and new ones wait in memory;
// when that is full too, the newest records are refused.
//
// # Accounting
//
// At any moment Offered + Adopted = Sent + Dropped + Queued + Spooled.
package ship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// ErrClosed is returned by Flush when the shipper has stopped before all was
// acknowledged.
var ErrClosed = errors.New("shipper is shut down")

// Reason says why records were dropped.
type Reason string

// The reasons. Each drop is counted under exactly one of them.
const (
	QueueFull Reason = "queue_full" // the memory queue had no room
	SpoolFull Reason = "spool_full" // neither the spool nor the memory queue had room
	Rejected  Reason = "rejected"   // the server refused it for good, whole or in part
	TooLarge  Reason = "too_large"  // bigger than the queue, or the server answered 413
	Stopped   Reason = "shutdown"   // offered after, or unsent and unspoolable at, shutdown
	Encode    Reason = "encode"     // the record could not be encoded
	Corrupt   Reason = "corrupt"    // its spool file was damaged; the file is kept aside
)

// Defaults and fixed bounds.
const (
	DefaultQueueBytes = 32 << 20
	DefaultBatchBytes = 4 << 20
	// DefaultBatchItems keeps one batch's work short when records are tiny.
	DefaultBatchItems = 8192
	DefaultSpoolBytes = 256 << 20
	DefaultFlushDelay = time.Second
	DefaultTimeout    = 10 * time.Second
	DefaultRetryMin   = 500 * time.Millisecond
	DefaultRetryMax   = 30 * time.Second

	// maxRetryAfter bounds what a server can ask for: a wrong header must not
	// silence a process for a day.
	maxRetryAfter = 5 * time.Minute
	// shutdownTime is the time for sending when Shutdown has no deadline.
	shutdownTime = 10 * time.Second
	// entryOverhead is what a waiting record costs beside its own bytes.
	entryOverhead = 64
)

// Part is one encoded record on its way into a batch.
type Part[T any] struct {
	Item T
	Data []byte
}

// Config describes a [Shipper] of records of type T. Name, URL, Encode and
// Frame are required.
type Config[T any] struct {
	// Name of the signal: part of errors and of the spool's path. Lower-case
	// letters, digits and dashes.
	Name string
	// URL that batches are posted to.
	URL string
	// ContentType of a batch.
	ContentType string
	// Headers go with every request.
	Headers map[string]string
	// Client sends the requests. If nil, a client with a pool of its own.
	Client *http.Client
	// Timeout bounds one request, its answer included. If zero, 10 s.
	Timeout time.Duration
	// NoGzip sends bodies as they are.
	NoGzip bool

	// Cost estimates the memory that a record holds, in bytes. It is called on
	// the caller's path. If nil, a record costs nothing beside its slot.
	Cost func(T) int
	// Encode appends the record's bytes to dst. It is called by the shipper's
	// goroutine. A record that it returns an error for is dropped.
	Encode func(dst []byte, item T) ([]byte, error)
	// Frame appends the body of a batch to dst.
	Frame func(dst []byte, parts []Part[T]) []byte
	// PartialSuccess reads from the body of a 200 answer how many records the
	// server refused, and why. If nil, 200 means all were taken.
	PartialSuccess func(body []byte) (rejected int64, message string)
	// Split halves a body that the server refused with 400, 413 or 422, so that
	// one bad record does not take the others with it; it also says how many
	// records each half holds. If nil, or where a half is empty, the whole is
	// dropped.
	Split func(body []byte) (a, b []byte, na, nb int)

	// QueueBytes bounds the records in memory. If zero, 32 MiB.
	QueueBytes int64
	// BatchBytes bounds a body before compression; a record above it is sent
	// alone. If zero, 4 MiB.
	BatchBytes int
	// BatchItems bounds the records of a batch. If zero, 8192.
	BatchItems int
	// FlushDelay is how long the oldest record waits for others. If zero, 1 s.
	FlushDelay time.Duration
	// RetryMin and RetryMax bound the pause between attempts, which doubles
	// with each failure and is jittered by half. If zero, 500 ms and 30 s. A
	// Retry-After that is longer wins, up to 5 minutes.
	RetryMin, RetryMax time.Duration

	// SpoolDir is the directory of the spool, shared by all signals and
	// processes. If empty, there is no spool: the oldest batch is retried from
	// memory until it is taken or the shipper is shut down.
	SpoolDir string
	// SpoolBytes bounds this shipper's files on disk, in whole 4 KiB blocks. If
	// zero, 256 MiB.
	SpoolBytes int64

	// Logger hears of outages and drops. If nil, nobody does.
	Logger *slog.Logger

	fs fsys // the disk; tests put a failing one here
}

// Shipper sends the records of one signal. Its methods may be called at once.
type Shipper[T any] struct {
	cfg    Config[T]
	wake   chan struct{}   // holds one token: something changed for the worker
	done   chan struct{}   // closed when the worker has returned
	ctx    context.Context // cancelled when the time for sending is over
	cancel context.CancelFunc

	mu           sync.Mutex
	pending      []entry[T] // not yet taken by the worker
	pendingBytes int64
	closing      bool
	flushTarget  int64         // records that a Flush waits for, by count
	flushes      int64         // calls of Flush so far
	changed      chan struct{} // closed and replaced when counts move, for waiters
	full         Reason        // what a refusal for lack of room is counted as
	count        counts
}

// entry is a waiting record and what it was accounted with.
type entry[T any] struct {
	item T
	cost int64
}

// counts are the numbers behind [Stats], and those that Flush needs.
type counts struct {
	Stats
	accepted int64 // offered and not refused
	resolved int64 // of those: acknowledged or dropped
	lost     int64 // of those: dropped
	unsaved  int64 // of those: dropped because the shipper was shut down
}

// New opens the spool, if there is one, adopts what dead processes left there,
// and starts sending. Shutdown must be called.
func New[T any](cfg Config[T]) (*Shipper[T], error) {
	if cfg.Name == "" || cfg.Encode == nil || cfg.Frame == nil {
		return nil, errors.New("ship: a name, an encoder and a framer are required")
	}
	cfg = cfg.withDefaults()
	s := &Shipper[T]{
		cfg:     cfg,
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		changed: make(chan struct{}),
		full:    QueueFull,
	}
	s.count.Dropped, s.count.Failures = map[Reason]int64{}, map[string]int64{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	w := &worker[T]{Shipper: s}
	if cfg.SpoolDir != "" {
		spool, err := openSpool(cfg.fs, cfg.SpoolDir, cfg.Name, cfg.SpoolBytes)
		if err != nil {
			s.cancel()
			return nil, fmt.Errorf("ship: open spool of %s: %w", cfg.Name, err)
		}
		w.spool = spool
		w.adopt()
	}
	go w.run()
	return s, nil
}

func (c Config[T]) withDefaults() Config[T] {
	set(&c.QueueBytes, DefaultQueueBytes)
	set(&c.BatchBytes, DefaultBatchBytes)
	set(&c.BatchItems, DefaultBatchItems)
	set(&c.SpoolBytes, DefaultSpoolBytes)
	set(&c.FlushDelay, DefaultFlushDelay)
	set(&c.Timeout, DefaultTimeout)
	set(&c.RetryMin, DefaultRetryMin)
	set(&c.RetryMax, DefaultRetryMax)
	if c.Client == nil {
		c.Client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}}
	}
	if c.Cost == nil {
		c.Cost = func(T) int { return 0 }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.fs == nil {
		c.fs = osFS{}
	}
	return c
}

func set[V comparable](field *V, value V) {
	var zero V
	if *field == zero {
		*field = value
	}
}

// Offer takes a record, or refuses it, which is counted. It never waits for
// anything but a short lock that is not held during I/O.
func (s *Shipper[T]) Offer(item T) bool {
	cost := int64(s.cfg.Cost(item)) + entryOverhead
	s.mu.Lock()
	s.count.Offered++
	if reason := s.refusal(cost); reason != "" {
		s.count.Dropped[reason]++
		s.mu.Unlock()
		return false
	}
	s.pending = append(s.pending, entry[T]{item, cost})
	s.pendingBytes += cost
	s.count.Queued++
	s.count.QueuedBytes += cost
	s.count.accepted++
	// The first record starts the flush delay; reaching a batch ends it. In
	// between the worker has nothing to learn.
	n, batch := len(s.pending), int64(s.cfg.BatchBytes)
	wake := n == 1 || n == s.cfg.BatchItems || (s.pendingBytes >= batch && s.pendingBytes-cost < batch)
	s.mu.Unlock()
	if wake {
		s.signal()
	}
	return true
}

// refusal says why a record of this cost cannot be taken. Callers hold s.mu.
func (s *Shipper[T]) refusal(cost int64) Reason {
	switch {
	case s.closing:
		return Stopped
	case cost > s.cfg.QueueBytes:
		return TooLarge
	case s.count.QueuedBytes+cost > s.cfg.QueueBytes:
		return s.full
	}
	return ""
}

// Drop counts a record that the signal itself had to give up before Offer, so
// that the accounting stays whole.
func (s *Shipper[T]) Drop(n int64, reason Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.Offered += n
	s.count.Dropped[reason] += n
}

func (s *Shipper[T]) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Flush sends what was offered before the call, at once and without regard to
// the pause after a failure, and waits for the answers. It returns nil when all
// of it was acknowledged; an error when some was dropped meanwhile, or was
// still in memory or in the spool when ctx ended.
func (s *Shipper[T]) Flush(ctx context.Context) error {
	s.mu.Lock()
	target, lost := s.count.accepted, s.count.lost
	s.flushTarget = max(s.flushTarget, target)
	s.flushes++
	s.mu.Unlock()
	s.signal()
	for {
		s.mu.Lock()
		left, dropped, changed := target-s.count.resolved, s.count.lost-lost, s.changed
		s.mu.Unlock()
		switch {
		case left <= 0 && dropped > 0:
			return fmt.Errorf("ship: flush %s: %d records dropped", s.cfg.Name, dropped)
		case left <= 0:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("ship: flush %s: %d records unacknowledged: %w", s.cfg.Name, left, context.Cause(ctx))
		case <-s.done:
			if s.outstanding(target) > 0 {
				return fmt.Errorf("ship: flush %s: %d records unacknowledged: %w", s.cfg.Name, s.outstanding(target), ErrClosed)
			}
		}
	}
}

func (s *Shipper[T]) outstanding(target int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return target - s.count.resolved
}

// Shutdown refuses further records, sends what is waiting, and puts what cannot
// be sent into the spool; without a spool it retries until shortly before the
// deadline and then drops and counts. An error says that records were dropped
// or, when ctx ended first, that the disk had not answered yet. Without a
// deadline it takes 10 s at most for sending. A second call waits for the first.
func (s *Shipper[T]) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closing
	s.closing = true
	s.mu.Unlock()
	if first {
		timer := time.AfterFunc(s.sendTime(ctx), s.cancel)
		defer timer.Stop()
		stop := context.AfterFunc(ctx, s.cancel)
		defer stop()
		s.signal()
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		select {
		case <-s.done: // both: what was done counts
		default:
			s.cancel()
			return fmt.Errorf("ship: shut down %s: %w", s.cfg.Name, context.Cause(ctx))
		}
	}
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.count.unsaved; n > 0 {
		return fmt.Errorf("ship: shut down %s: %d records dropped", s.cfg.Name, n)
	}
	return nil
}

// sendTime is the part of the deadline in which sending may go on; the rest is
// kept for the spool.
func (s *Shipper[T]) sendTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return shutdownTime
	}
	left := time.Until(deadline)
	if s.cfg.SpoolDir == "" {
		return left - min(left/10, 100*time.Millisecond)
	}
	return left - min(left/4, time.Second)
}
