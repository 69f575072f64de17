package audit

import "fmt"

// scribe is the committer's second hand, with a goroutine of its own: it adds
// entries to the tree and signs while the disk makes them durable, and writes
// lines to their segment after the callers were answered, while the disk makes
// the next group durable. Jobs are done in the order in which they come.
type scribe struct {
	l     *Ledger
	jobs  chan job
	heads chan Checkpoint // answers of extend, one each
	ended chan struct{}
}

// job is up to two things to do, in this order: to extend the tree by a group,
// and to write the lines of the group before to their segment.
type job struct {
	extend *group
	apply  *group
	head   Checkpoint // covers apply
	done   []*write   // answered; the scribe lets go of them
}

func newScribe(l *Ledger) *scribe {
	return &scribe{l: l, jobs: make(chan job, 2), heads: make(chan Checkpoint, 1), ended: make(chan struct{})}
}

func (s *scribe) run() {
	defer close(s.ended)
	for j := range s.jobs {
		if j.extend != nil {
			s.heads <- s.l.extend(j.extend)
		}
		if j.apply != nil {
			s.write(j)
		}
	}
}

// write puts the lines of a durable group where they are read. The store was
// locked by the committer before it answered the callers, so that whoever has
// a receipt finds the entry; it is unlocked here.
func (s *scribe) write(j job) {
	var err error
	if j.apply.len() > 0 && s.l.failed() == nil { // after a failure nothing may be written behind a gap
		err = s.l.store.apply(j.apply, j.head)
	}
	for _, w := range j.done {
		w.release(1)
	}
	s.l.store.mu.Unlock() // from here on the committer may use group and writes again
	if err != nil {
		// The entries are durable in the ring, where the next Open finds them.
		_ = s.l.fail(fmt.Errorf("write segment: %w", err))
	}
}

// stop waits for the jobs that were given.
func (s *scribe) stop() {
	close(s.jobs)
	<-s.ended
}

// extend adds the leaves of g to the tree and signs its new root.
func (l *Ledger) extend(g *group) Checkpoint {
	l.tree.AppendAll(g.leaves)
	return l.signer.Load().checkpoint(l.tree.Size(), l.tree.Root())
}
