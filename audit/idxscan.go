package audit

import (
	"encoding/binary"
	"math/bits"
)

// hitSet has a bit for each entry of a group.
type hitSet [groupLen / 64]uint64

func (h *hitSet) set(i int)      { h[i/64] |= 1 << (i % 64) }
func (h *hitSet) has(i int) bool { return h[i/64]>>(i%64)&1 == 1 }

func (h *hitSet) and(o *hitSet) (some bool) {
	for i := range h {
		h[i] &= o[i]
		some = some || h[i] != 0
	}
	return some
}

func (h *hitSet) count() (n int) {
	for _, w := range h {
		n += bits.OnesCount64(w)
	}
	return n
}

// between is the set of from to to-1.
func between(from, to int) (h hitSet) {
	for w := range h {
		lo, hi := max(from-w*64, 0), min(to-w*64, 64)
		if lo < hi {
			h[w] = (^uint64(0) >> (64 - (hi - lo))) << lo
		}
	}
	return h
}

// scan is a query in terms of one sealed segment's index.
type scan struct {
	x     *sealedIndex
	zones zones
	// filters are the columns and the codes that one of must stand there.
	filters []filter
	times   *column
	timed   bool
	since   int64
	until   int64
	spans   *column
	span    uint16
	// impossible says that the segment has no such value.
	impossible bool
}

type filter struct {
	col   int
	codes []uint32
	data  *column
}

// newScan looks up what q asks for in the dictionaries of a sealed segment,
// and takes the columns that decide.
func newScan(x *sealedIndex, q *Query, since, until int64) (*scan, error) {
	z, err := x.zones()
	if err != nil {
		return nil, err
	}
	s := &scan{x: x, zones: z, since: since, until: until}
	for col, want := range [numCoded]string{
		colAgent: q.AgentID, colUser: q.UserID, colSubject: q.Subject, colAction: q.Action, colResult: string(q.Result),
		colSession: q.SessionID, colRun: q.RunID, colTrace: q.TraceID,
	} {
		if want == "" {
			continue
		}
		codes, err := x.lookup(col, want)
		if err != nil {
			return nil, err
		}
		if len(codes) == 0 {
			return &scan{impossible: true}, nil
		}
		s.filters = append(s.filters, filter{col: col, codes: codes})
	}
	if q.SpanID != "" {
		s.span = shortPrint([]byte(q.SpanID))
		if s.spans, err = x.column(secSpans); err != nil {
			return nil, err
		}
	}
	s.timed = !q.Since.IsZero() || !q.Until.IsZero()
	return s, nil
}

// exact reports whether the index alone decides.
func (s *scan) exact() bool { return s.spans == nil }

// group finds the hits of group g among the entries from to to-1 of it.
func (s *scan) group(g, from, to int) (hits hitSet, some bool, err error) {
	if s.timed && (s.zones.maxTime(g) < s.since || s.zones.minTime(g) > s.until) {
		return hits, false, nil
	}
	for i := range s.filters {
		if !s.filters[i].mayMatch(s.zones, g) {
			return hits, false, nil
		}
	}
	hits = between(from, to)
	for i := range s.filters {
		more, err := s.filters[i].match(s, g)
		if err != nil {
			return hits, false, err
		}
		if !hits.and(&more) {
			return hits, false, nil
		}
	}
	if s.timed && (s.zones.minTime(g) < s.since || s.zones.maxTime(g) > s.until) {
		more, err := s.matchTimes(g)
		if err != nil || !hits.and(&more) {
			return hits, false, err
		}
	}
	if s.spans != nil {
		more := equal(s.spans.group(g), uint64(s.span), 16)
		if !hits.and(&more) {
			return hits, false, nil
		}
	}
	return hits, true, nil
}

// mayMatch asks the zone alone.
func (f *filter) mayMatch(z zones, g int) bool {
	lo, width := uint64(z.min(g, f.col)), z.width(g, f.col)
	for _, c := range f.codes {
		if uint64(c) >= lo && (uint64(c)-lo)>>width == 0 {
			return true
		}
	}
	return false
}

func (f *filter) match(s *scan, g int) (hits hitSet, err error) {
	if f.data == nil {
		if f.data, err = s.x.column(secCodes + f.col); err != nil {
			return hits, err
		}
	}
	lo, width := s.zones.min(g, f.col), s.zones.width(g, f.col)
	for _, c := range f.codes {
		if c < lo || uint64(c-lo)>>width != 0 {
			continue
		}
		more := equal(f.data.group(g), uint64(c-lo), width)
		for i := range hits {
			hits[i] |= more[i]
		}
	}
	return hits, nil
}

// equal finds the values of a group that are want.
func equal(src []byte, want uint64, width uint) (hits hitSet) {
	if width == 0 {
		return between(0, groupLen)
	}
	if width > 56 {
		for i := range groupLen {
			if unpack(src, i, width) == want {
				hits.set(i)
			}
		}
		return hits
	}
	mask, pos := uint64(1)<<width-1, uint(0)
	for w := range hits {
		var word uint64
		for b := range 64 {
			if binary.LittleEndian.Uint64(src[pos/8:])>>(pos%8)&mask == want {
				word |= 1 << b
			}
			pos += width
		}
		hits[w] = word
	}
	return hits
}

func (s *scan) matchTimes(g int) (hits hitSet, err error) {
	if s.times == nil {
		if s.times, err = s.x.column(secTimes); err != nil {
			return hits, err
		}
	}
	src, width := s.times.group(g), s.zones.timeWidth(g)
	t := s.zones.firstTime(g)
	for i := range groupLen {
		t += unzigzag(unpack(src, i, width))
		if t >= s.since && t <= s.until {
			hits.set(i)
		}
	}
	return hits, nil
}

// tally adds, for each hit in group g, one to its code's count in a column.
func (s *scan) tally(col *column, c, g int, hits *hitSet, counts []int64) error {
	lo, width, src := s.zones.min(g, c), s.zones.width(g, c), col.group(g)
	for w, word := range hits {
		for ; word != 0; word &= word - 1 {
			i := w*64 + bits.TrailingZeros64(word)
			code := uint64(lo) + unpack(src, i, width)
			if code >= uint64(len(counts)) {
				return badIndex{errNoSuchCode}
			}
			counts[code]++
		}
	}
	return nil
}
