package ship

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
)

// batch is a framed request. Its wire bytes never change: every attempt sends
// the same, from memory or from the spool.
type batch struct {
	wire    []byte
	gzipped bool
	items   int64
	cost    int64 // of its records, while they are accounted as queued
	own     bool  // false: adopted from a dead process
}

// keptSlots bounds the slots that an emptied queue keeps for the next records.
const keptSlots = 1 << 15

// gatherer turns waiting records into batches. The worker owns it.
type gatherer[T any] struct {
	taken []entry[T] // taken from the queue, not yet encoded
	next  int        // first of taken that is left
	parts []Part[T]  // encoded, not yet framed
	costs []int64    // of parts
	bytes int        // sum of the parts' data
	arena []byte     // holds the parts' data
	frame []byte     // the last body, kept for its capacity
	zip   *gzip.Writer
}

func (g *gatherer[T]) waiting() int { return len(g.taken) - g.next + len(g.parts) }

// gather makes the next batch; nil when no record is left that can be encoded.
func (w *worker[T]) gather() *batch {
	w.encodeParts()
	n, size := 0, 0
	for n < len(w.parts) && (n == 0 || size+len(w.parts[n].Data) <= w.cfg.BatchBytes) {
		size += len(w.parts[n].Data)
		n++
	}
	if n == 0 {
		return nil
	}
	// The envelope counts too, and only the framer knows it.
	body := w.cfg.Frame(w.frame[:0], w.parts[:n])
	for len(body) > w.cfg.BatchBytes && n > 1 {
		n = max(1, min(n-1, n*w.cfg.BatchBytes/len(body)))
		body = w.cfg.Frame(body[:0], w.parts[:n])
	}
	b := &batch{items: int64(n), own: true}
	for _, c := range w.costs[:n] {
		b.cost += c
	}
	b.wire, b.gzipped = w.pack(body)
	w.forget(n, body)
	return b
}

// encodeParts encodes records until they fill a batch or there are no more.
func (w *worker[T]) encodeParts() {
	if len(w.parts) == 0 {
		w.arena = w.arena[:0] // nothing points into it
	}
	for w.bytes < w.cfg.BatchBytes && len(w.parts) < w.cfg.BatchItems {
		e, ok := w.nextEntry()
		if !ok {
			return
		}
		start := len(w.arena)
		arena, err := w.cfg.Encode(w.arena, e.item)
		if err != nil {
			w.dropEntry(e, Encode)
			continue
		}
		w.arena = arena
		data := arena[start:len(arena):len(arena)]
		w.parts = append(w.parts, Part[T]{e.item, data})
		w.costs = append(w.costs, e.cost)
		w.bytes += len(data)
	}
}

// nextEntry takes one record, swapping the queue out when the last swap is used up.
func (w *worker[T]) nextEntry() (entry[T], bool) {
	if w.next == len(w.taken) {
		spare := w.taken[:0]
		if cap(spare) > keptSlots {
			spare = nil
		}
		w.mu.Lock()
		w.taken, w.pending, w.pendingBytes = w.pending, spare, 0
		w.mu.Unlock()
		w.next = 0
	}
	if w.next == len(w.taken) {
		return entry[T]{}, false
	}
	e := w.taken[w.next]
	w.taken[w.next] = entry[T]{} // let go of the record
	w.next++
	return e, true
}

func (w *worker[T]) dropEntry(e entry[T], reason Reason) {
	w.update(func(c *counts) {
		c.Queued--
		c.QueuedBytes -= e.cost
		c.resolve(1, 1, reason, true)
		if reason == Stopped {
			c.unsaved++
		}
	})
}

// pack makes the wire bytes of a body.
func (w *worker[T]) pack(body []byte) (wire []byte, gzipped bool) {
	if w.cfg.NoGzip {
		return bytes.Clone(body), false
	}
	var out bytes.Buffer
	out.Grow(len(body)/4 + 64)
	if w.zip == nil {
		// The fastest level: the receiver is near as a rule, the CPU is the agent's.
		w.zip, _ = gzip.NewWriterLevel(&out, gzip.BestSpeed) // errs on a bad level only
	} else {
		w.zip.Reset(&out)
	}
	// A bytes.Buffer takes every write.
	_, _ = w.zip.Write(body)
	_ = w.zip.Close()
	return out.Bytes(), true
}

// unpack is the inverse of pack.
func unpack(wire []byte, gzipped bool) ([]byte, error) {
	if !gzipped {
		return wire, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(wire))
	if err != nil {
		return nil, fmt.Errorf("ship: unpack a batch: %w", err)
	}
	body, err := io.ReadAll(zr)
	if err != nil {
		return nil, fmt.Errorf("ship: unpack a batch: %w", err)
	}
	return body, nil
}

// forget lets go of the first n parts, which are in body now.
func (w *worker[T]) forget(n int, body []byte) {
	for _, p := range w.parts[:n] {
		w.bytes -= len(p.Data)
	}
	rest := copy(w.parts, w.parts[n:])
	clear(w.parts[rest:])
	w.parts = w.parts[:rest]
	w.costs = w.costs[:copy(w.costs, w.costs[n:])]
	w.frame = body
	// One giant record must not pin its buffers for ever.
	if cap(w.frame) > 2*w.cfg.BatchBytes {
		w.frame = nil
	}
	if rest == 0 && cap(w.arena) > 2*w.cfg.BatchBytes {
		w.arena = nil
	}
}
