package audit

import (
	"errors"
	"fmt"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// An entry is acknowledged when it is in the ring, and gets to its segment
// later. So that a full disk is found out before that, blocks for the segment
// are reserved before entries go to the ring, this many bytes of lines ahead.
const reserveBytes = 8 << 20

// minLineBytes is less than the shortest line: so many hashes at most belong
// to reserved lines.
const minLineBytes = 128

// secure makes sure that there is room for g in its segment. An [ErrNoSpace]
// leaves everything as it was.
func (l *Ledger) secure(g *group) error {
	s, need := l.store, int64(len(g.buf))
	s.owed.Add(need) // first: whoever begins a segment from here on has room for it there
	if s.room.Load() < need {
		l.applyPending()
		s.mu.Lock()
		err := s.reserve(g.base, need)
		s.mu.Unlock()
		if err != nil {
			s.owed.Add(-need)
			return err
		}
	}
	s.room.Add(-need)
	return nil
}

// reserve gets blocks for at least need bytes of lines, in a new segment that
// begins with the entry base if the last one is full. The caller holds mu.
func (s *store) reserve(base, need int64) error {
	if s.full() {
		if err := s.rotate(base); err != nil {
			return err
		}
	}
	// Not beyond the end of the segment: the next one is begun here, too.
	n := max(need, min(reserveBytes, s.segmentBytes-s.segs[len(s.segs)-1].size))
	err := s.reserveLines(base, n)
	if durable.IsNoSpace(err) && n > need { // the last that there is
		n = need
		err = s.reserveLines(base, n)
	}
	if durable.IsNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	if err == nil {
		s.room.Store(n)
	}
	return err
}

func (s *store) reserveLines(base, n int64) error {
	seg := s.segs[len(s.segs)-1]
	err := durable.Reserve(seg.lines, seg.size, n)
	if err == nil {
		err = durable.Reserve(seg.hashes, (base-seg.base)*32, n/minLineBytes*32+32)
	}
	return err
}

// full reports whether the last segment gets no more entries.
func (s *store) full() bool { return s.segs[len(s.segs)-1].size >= s.segmentBytes }

// rotate begins a new segment, for the entries from base on. What is full is
// made durable at once, so that only the last segment ever has something
// outstanding. The caller holds mu.
func (s *store) rotate(base int64) error {
	seg := s.segs[len(s.segs)-1]
	if err := s.syncSegment(seg); err != nil {
		return err
	}
	if err := s.createSegment(base); durable.IsNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	} else if err != nil {
		return err
	}
	if err := s.reserveOwed(base); err != nil {
		return err
	}
	if err := seg.giveBack(base); err != nil {
		return err
	}
	if s.rotated != nil {
		s.rotated()
	}
	return nil
}

// reserveOwed gets blocks in the segment that was just begun for the group that
// is on its way to the ring: it was promised room in the segment before. Without
// room there is no new segment. The caller holds mu.
func (s *store) reserveOwed(base int64) error {
	owed := s.owed.Load()
	if owed <= 0 {
		return nil
	}
	err := s.reserveLines(base, owed)
	if !durable.IsNoSpace(err) {
		return err
	}
	last := len(s.segs) - 1
	seg := s.segs[last]
	s.segs = s.segs[:last:last]
	undo := seg.close()
	for _, name := range []string{seg.path(), seg.hashPath()} {
		undo = errors.Join(undo, s.fsys.Remove(s.path(name)))
	}
	if undo = errors.Join(undo, s.fsys.SyncDir(s.path(segDir))); undo != nil {
		return errors.Join(undo, err)
	}
	return fmt.Errorf("%w: %w", ErrNoSpace, err)
}

// trim gives back what the last segment has too much.
func (s *store) trim() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room.Store(0)
	return s.segs[len(s.segs)-1].giveBack(s.head.Size)
}

// giveBack frees what was reserved for the segment that ends before entry end,
// and not used.
func (s *segment) giveBack(end int64) error {
	return errors.Join(s.lines.Truncate(s.size), s.hashes.Truncate((end-s.base)*32))
}
