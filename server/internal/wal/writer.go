package wal

import (
	"errors"
	"fmt"
)

// run is the writer: the only goroutine that writes to the active segment.
func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case w := <-l.queue:
			l.commit(l.gather(w))
		case <-l.closing:
			l.closed = l.finish()
			return
		}
	}
}

// gather collects what waits at this moment: while one group syncs, the next
// one forms at the queue.
func (l *Log) gather(first *write) []*write {
	group, size := []*write{first}, first.rec.size()
	for len(group) < maxGroup && size < maxGroupBytes {
		select {
		case w := <-l.queue:
			group = append(group, w)
			size += w.rec.size()
		default:
			return group
		}
	}
	return group
}

// commit makes group durable and tells its callers. It holds the package's
// only sync of records: one is durable exactly when commit gave it no error.
func (l *Log) commit(group []*write) {
	err := l.broken
	if err == nil {
		err = l.writeGroup(group)
	}
	for _, w := range group {
		w.err = err
		close(w.done)
	}
}

func (l *Log) writeGroup(group []*write) error {
	l.buf = l.buf[:0]
	if cap(l.buf) > 2*maxGroupBytes {
		l.buf = nil // one huge record should not keep its memory
	}
	if err := l.rotate(); err != nil {
		return err
	}
	for i, w := range group {
		w.rec.seq = l.last + 1 + uint64(i)
		w.rec.place = uint16(i)
		l.buf = w.rec.append(l.buf, l.salt)
	}
	if err := l.writeSynced(l.buf); err != nil {
		return err
	}
	l.last += uint64(len(group))
	return nil
}

// writeSynced appends b to the active segment. A write that fails is taken
// back, so that a full disk is survived; after a failed sync, or a write that
// cannot be taken back, the log is broken.
func (l *Log) writeSynced(b []byte) error {
	size := l.activeSize()
	if _, err := l.active.Write(b); err != nil {
		if back := errors.Join(l.active.Truncate(size), l.active.Sync()); back != nil {
			return l.fail(fmt.Errorf("write: %w; taking it back: %w", err, back))
		}
		return fmt.Errorf("wal: write %d bytes to segment of %s: %w", len(b), l.dir, err)
	}
	if err := l.active.Sync(); err != nil {
		return l.fail(fmt.Errorf("sync: %w", err))
	}
	l.mu.Lock()
	l.segments[len(l.segments)-1].size += int64(len(b))
	l.mu.Unlock()
	return nil
}

func (l *Log) activeSize() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[len(l.segments)-1].size
}

func (l *Log) fail(cause error) error {
	l.broken = fmt.Errorf("wal: %s: %w: %w", l.dir, ErrBroken, cause)
	l.cfg.Logger.Error("write-ahead log refuses writes until it is opened again", "dir", l.dir, "error", cause)
	return l.broken
}

// rotate begins a new segment when the active one is full. Everything in the
// old one is synced by then.
func (l *Log) rotate() error {
	if l.activeSize() < l.cfg.SegmentBytes {
		return nil
	}
	old := l.active
	if err := l.createSegment(l.last + 1); err != nil {
		return err // the old one is still active and larger than it should be
	}
	if err := old.Close(); err != nil {
		l.cfg.Logger.Warn("closing a full segment", "dir", l.dir, "error", err)
	}
	return nil
}

// finish writes the mark that says that nothing is missing at the end.
func (l *Log) finish() error {
	var err error
	if l.broken == nil {
		mark := stored{seq: l.last, received: 0, flags: flagClosed}
		err = l.writeSynced(mark.append(nil, l.salt))
	}
	if err = errors.Join(err, l.active.Close(), l.enc.Close()); err != nil {
		return fmt.Errorf("wal: close %s: %w", l.dir, err)
	}
	return nil
}
