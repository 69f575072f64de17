package audit

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// committer gives entries their place. It belongs to whoever has the turn: a
// caller that found nobody at it, or the goroutine that runs work.
type committer struct {
	head   Checkpoint // covers the entries that have their place
	writes [2][]*write
	groups [2]group // one is written to the segment while the other is filled
	at     int      // which of them is next
	fresh  map[ulid.ULID]int
	// clock is the latest time at which a group was made, or the checkpoint
	// published before.
	clock time.Time
	flush time.Duration // what the last one took
	// pending is to be applied: while the store is locked, and beside the next
	// flush if that comes at once.
	pending job
}

// work takes the turn whenever it is handed over, and ends when the queue is
// closed and empty.
func (l *Ledger) work() {
	for range l.queue.wake {
		for {
			if l.cfg.SyncDelay > 0 {
				l.applyPending()
				time.Sleep(l.cfg.SyncDelay)
			}
			if l.turn() {
				continue
			}
			l.applyPending()
			if idle, done := l.queue.idle(); done {
				return
			} else if idle {
				break
			}
		}
	}
}

// turn takes one group of writes from the queue to the receipts, and reports
// whether there was one. The caller has the turn.
func (l *Ledger) turn() bool {
	c := &l.committer
	l.queue.settle(c.flush, len(c.groups[c.at^1].buf))
	writes := l.queue.take(c.writes[c.at][:0])
	c.writes[c.at] = writes
	if len(writes) == 0 {
		return false
	}
	if r := l.rotating.Swap(nil); r != nil {
		writes = slices.Clone(writes) // the other buffers are in use after this
		r.err = l.changeKey(r)
	}
	if back := l.clockBack(); back != nil {
		writes = slices.Clone(writes) // the other buffers are in use after this
		jump := back[0].entries[0].Time
		if err := l.acknowledge(back); err != nil {
			l.refuse(back, err) // those that follow will have the same answer
		} else {
			l.committer.clock = jump
		}
	}
	if err := l.acknowledge(writes); err != nil {
		l.refuse(writes, err)
	}
	return true
}

// acknowledge makes writes durable and answers them, or returns what to refuse
// them with.
func (l *Ledger) acknowledge(writes []*write) error {
	if err := l.failed(); err != nil {
		return err
	}
	c := &l.committer
	g := &c.groups[c.at]
	if err := l.sequence(g, writes); err != nil {
		return fmt.Errorf("look for duplicates: %w", err)
	}
	if g.len() > 0 {
		if err := l.secure(g); errors.Is(err, ErrNoSpace) {
			return err
		} else if err != nil {
			return l.fail(err)
		}
		head, err := l.commit(g)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnconfirmed, l.fail(err))
		}
		c.head = head
	}
	l.applyPending()
	// Locked from before the answers until the lines are written: whoever has
	// a receipt finds the entry.
	l.store.mu.Lock()
	l.queue.expect(waiting(writes))
	answer(writes, c.head)
	l.store.beginWriting()
	c.pending = job{apply: g, head: c.head, done: writes}
	c.at ^= 1 // what is there was written before the store could be locked
	return nil
}

// applyPending has the scribe write the group before, unless it does already.
func (l *Ledger) applyPending() {
	if c := &l.committer; c.pending.apply != nil {
		l.scribe.jobs <- c.pending
		c.pending = job{}
	}
}

// commit makes g durable and returns the signed checkpoint that covers it. It
// holds the only sync on the way to an acknowledgement: an entry is durable
// exactly when commit has returned nil.
//
// Hashing and signing run while the disk works. A checkpoint signed for
// entries that then fail to become durable is dropped here, seen by nobody.
func (l *Ledger) commit(g *group) (Checkpoint, error) {
	pos, opens := l.ring.next(len(g.buf))
	if opens {
		l.applyPending() // the keeper must not wait for it
		if err := l.keeper.waitDurable(l.ring.needed(pos)); err != nil {
			return Checkpoint{}, err
		}
	}
	j := l.committer.pending
	j.extend, l.committer.pending = g, job{}
	l.scribe.jobs <- j
	start := time.Now()
	err := l.ring.write(pos, g, l.committer.head.Root, l.keeper.durableTo())
	l.committer.flush = time.Since(start)
	head := <-l.scribe.heads
	if err != nil {
		return Checkpoint{}, fmt.Errorf("write ring: %w", err)
	}
	if opens && l.ring.lsn > 1 {
		l.keeper.wake() // the section before is complete: have it synced
	}
	return head, nil
}

func answer(writes []*write, head Checkpoint) {
	for _, w := range writes {
		for i := range w.receipts {
			w.receipts[i].Checkpoint = head
		}
		w.finish()
	}
}

// waiting counts the callers that will be answered.
func waiting(writes []*write) (n int) {
	for _, w := range writes {
		if !w.async {
			n++
		}
	}
	return n
}

func (l *Ledger) refuse(writes []*write, err error) {
	for _, w := range writes {
		if w.async {
			l.asyncFailed.Add(int64(len(w.ends)))
		}
		w.err = err
		w.finish()
		w.release(1)
	}
}

// sequence gives each new entry the next index, and entries whose id is known
// the receipt of the first. It fills g with the new ones. On an error, of
// reading sealed segments, nothing was given a place.
func (l *Ledger) sequence(g *group, writes []*write) error {
	g.reset(l.committer.head.Size, writes)
	for _, w := range writes {
		if w.named {
			return l.deduplicate(g, writes)
		}
	}
	for _, w := range writes {
		at := int64(g.len()) + g.base
		for i := range w.ends {
			w.receipts = append(w.receipts, Receipt{ID: w.entries[i].ID, LeafHash: w.leaves[i], Index: at + int64(i)})
		}
		g.addAll(w)
	}
	return nil
}

// deduplicate is sequence for writes with ids of the callers' own, any of
// which may be in the ledger already, or twice among them.
func (l *Ledger) deduplicate(g *group, writes []*write) error {
	fresh := l.committer.fresh // position in g of ids that are new here
	clear(fresh)
	l.applyPending()
	l.store.mu.RLock() // waits until the group before is in the index
	defer l.store.mu.RUnlock()
	for _, w := range writes {
		if at := g.base + int64(g.len()); w.placed && w.first != at {
			w.err = fmt.Errorf("%w: it has %d entries", ErrPosition, at)
			continue
		}
		for i, id := range w.ids {
			r := Receipt{ID: w.entries[i].ID, LeafHash: w.leaves[i], Index: g.base + int64(g.len())}
			if at, ok := fresh[id]; ok {
				r.Index, r.LeafHash, r.Duplicate = g.base+int64(at), g.leaves[at], true
			} else if at, leaf, ok, err := l.store.lookup(id); err != nil {
				return err
			} else if ok {
				r.Index, r.LeafHash, r.Duplicate = at, leaf, true
			} else {
				fresh[id] = g.len()
				g.add(w, i)
			}
			w.receipts = append(w.receipts, r)
		}
	}
	return nil
}

// reset empties g for entries from base on, and makes room for those of
// writes. Its memory is used again.
func (g *group) reset(base int64, writes []*write) {
	n := 0
	for _, w := range writes {
		n += len(w.buf)
	}
	if int64(len(g.frame)) < frameSize(n) {
		g.frame = durable.AlignedBuffer(int(frameSize(n)))
	}
	clear(g.entries)
	*g = group{
		base: base, frame: g.frame, buf: g.frame[frameHeaderLen:frameHeaderLen],
		ends: g.ends[:0], leaves: g.leaves[:0], entries: g.entries[:0], ids: g.ids[:0],
	}
}

// addAll adds the entries of w.
func (g *group) addAll(w *write) {
	start := len(g.buf)
	g.buf = append(g.buf, w.buf...)
	for i, end := range w.ends {
		g.ends = append(g.ends, start+end)
		g.entries = append(g.entries, &w.entries[i])
	}
	g.leaves = append(g.leaves, w.leaves...)
	g.ids = append(g.ids, w.ids...)
}

// add adds the i-th entry of w.
func (g *group) add(w *write, i int) {
	start := 0
	if i > 0 {
		start = w.ends[i-1]
	}
	g.buf = append(g.buf, w.buf[start:w.ends[i]]...)
	g.ends = append(g.ends, len(g.buf))
	g.leaves = append(g.leaves, w.leaves[i])
	g.ids = append(g.ids, w.ids[i])
	g.entries = append(g.entries, &w.entries[i])
}
