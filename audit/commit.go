package audit

import (
	"fmt"

	"github.com/oklog/ulid/v2"
)

// run is the committer: the one goroutine that gives entries their place. It
// ends when the queue is closed and empty.
func (l *Ledger) run() {
	for {
		writes, open := l.queue.take(l.cfg.SyncDelay)
		if !open {
			return
		}
		l.handle(writes)
	}
}

// handle takes one group of writes from the queue to the receipts.
func (l *Ledger) handle(writes []*write) {
	if err := l.failed(); err != nil {
		l.refuse(writes, err)
		return
	}
	g := l.sequence(writes)
	head := l.store.checkpoint()
	if g.len() > 0 {
		var err error
		if head, err = l.commit(g); err != nil {
			l.refuse(writes, fmt.Errorf("%w: %w", ErrUnconfirmed, l.fail(err)))
			return
		}
	}
	if err := l.release(writes, g, head); err != nil {
		// The entries are durable in the ring, where the next Open finds them.
		_ = l.fail(fmt.Errorf("write segment: %w", err))
	}
}

// release answers the callers and then writes the lines to their segment. The
// lock is taken before the receipts go out and held until the lines are there:
// whoever has a receipt finds the entry.
func (l *Ledger) release(writes []*write, g *group, head Checkpoint) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	answer(writes, head)
	if g.len() == 0 {
		return nil
	}
	return l.store.apply(g, head)
}

// sequence gives each new entry the next index, and entries whose id is known
// the receipt of the first. It returns the new ones.
func (l *Ledger) sequence(writes []*write) *group {
	g := &group{base: l.tree.Size()}
	if len(writes) == 1 && len(writes[0].ends) == 1 {
		// One entry is the common case at low load: nothing is copied.
		w := writes[0]
		if w.receipts = []Receipt{l.known(w, 0, nil)}; !w.receipts[0].Duplicate {
			w.receipts[0].Index = g.base
			g.buf, g.ends, g.leaves, g.entries = w.buf, w.ends, w.leaves, []*Entry{&w.entries[0]}
		}
		return g
	}
	fresh := make(map[ulid.ULID]int) // position in g of ids that are new here
	for _, w := range writes {
		w.receipts = make([]Receipt, len(w.ends))
		for i := range w.ends {
			r := l.known(w, i, func(id ulid.ULID) (int64, [32]byte, bool) {
				at, ok := fresh[id]
				if !ok {
					return 0, [32]byte{}, false
				}
				return g.base + int64(at), g.leaves[at], true
			})
			if !r.Duplicate {
				r.Index = g.base + int64(g.len())
				fresh[w.ids[i]] = g.len()
				g.add(w, i)
			}
			w.receipts[i] = r
		}
	}
	return g
}

// known is the receipt of the i-th entry of w: complete if the ledger, or the
// group so far, has its id already. Only the committer changes the index, so
// it may look without the lock.
func (l *Ledger) known(w *write, i int, inGroup func(ulid.ULID) (int64, [32]byte, bool)) Receipt {
	r := Receipt{ID: w.entries[i].ID, LeafHash: w.leaves[i]}
	if at, ok := l.store.idx.lookup(w.ids[i]); ok {
		r.Index, r.LeafHash, r.Duplicate = at, l.store.tree.Leaf(at), true
	} else if inGroup != nil {
		if at, leaf, ok := inGroup(w.ids[i]); ok {
			r.Index, r.LeafHash, r.Duplicate = at, leaf, true
		}
	}
	return r
}

func (g *group) add(w *write, i int) {
	start := 0
	if i > 0 {
		start = w.ends[i-1]
	}
	g.buf = append(g.buf, w.buf[start:w.ends[i]]...)
	g.ends = append(g.ends, len(g.buf))
	g.leaves = append(g.leaves, w.leaves[i])
	g.entries = append(g.entries, &w.entries[i])
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
		if err := l.keeper.waitDurable(l.ring.ends[l.ring.section(pos)]); err != nil {
			return Checkpoint{}, err
		}
	}
	if err := l.ring.write(pos, g, l.tree.Root(), l.keeper.durableTo()); err != nil {
		return Checkpoint{}, fmt.Errorf("write ring: %w", err)
	}
	signed := make(chan Checkpoint, 1)
	go func() { signed <- l.extend(g) }()
	err := l.ring.file.Sync()
	head := <-signed
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sync ring: %w", err)
	}
	if opens && l.ring.lsn > 1 {
		l.keeper.wake() // the section before is complete: have it synced
	}
	return head, nil
}

// extend adds the leaves of g to the tree and signs its new root.
func (l *Ledger) extend(g *group) Checkpoint {
	for i := range g.leaves {
		l.tree.Append(g.leaves[i])
	}
	return l.signer.checkpoint(l.tree.Size(), l.tree.Root())
}

func answer(writes []*write, head Checkpoint) {
	for _, w := range writes {
		for i := range w.receipts {
			w.receipts[i].Checkpoint = head
		}
		close(w.done)
	}
}

func (l *Ledger) refuse(writes []*write, err error) {
	for _, w := range writes {
		if w.async {
			l.asyncFailed.Add(int64(len(w.ends)))
		}
		w.err = err
		close(w.done)
	}
}
