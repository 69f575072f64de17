package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Field names a property of entries that they can be grouped by.
type Field string

// The fields that [Ledger.Group] takes.
const (
	ByAgent   Field = "agent_id"
	ByUser    Field = "user_id"
	BySubject Field = "subject"
	ByAction  Field = "action"
	ByResult  Field = "result"
)

// column is the field's column in index files.
func (f Field) column() (int, error) {
	switch f {
	case ByAgent:
		return colAgent, nil
	case ByUser:
		return colUser, nil
	case BySubject:
		return colSubject, nil
	case ByAction:
		return colAction, nil
	case ByResult:
		return colResult, nil
	}
	return 0, fmt.Errorf("entries cannot be grouped by %q", string(f))
}

// GroupCount is the number of entries that share a value.
type GroupCount struct {
	// Value is the field's text; empty for entries without.
	Value string
	// Count is the number of entries that have it.
	Count int64
}

// Group counts the entries that match q, whose Limit, Descending and After do
// not matter, for each value of a field, and returns the top largest counts,
// the largest first, equal ones by value; all of them if top is zero or less.
// Users and subjects are counted by name; those that were erased by token.
// Like [Ledger.Count] it reads the index alone, unless q names a span. An error
// says that the field is not one of those above, or that of reading.
func (l *Ledger) Group(ctx context.Context, q Query, by Field, top int) ([]GroupCount, error) {
	return l.vault.groupBy(ctx, l.store, q, by, top)
}

// groupBy is the store's, with names for tokens.
func (v *vault) groupBy(ctx context.Context, s *store, q Query, by Field, top int) ([]GroupCount, error) {
	total := map[string]int64{}
	for _, variant := range v.variants(q) {
		counts, err := s.groupBy(ctx, variant, by)
		if err != nil {
			return nil, err
		}
		for value, n := range counts {
			if (by == ByUser || by == BySubject) && isToken(value) && !q.Stored {
				value, _ = v.who(value)
			}
			total[value] += n
		}
	}
	return topCounts(total, top), nil
}

// Group is [Ledger.Group], of the entries that the reader shows.
func (r *Reader) Group(ctx context.Context, q Query, by Field, top int) ([]GroupCount, error) {
	return r.vault.groupBy(ctx, r.store, q, by, top)
}

func (s *store) groupBy(ctx context.Context, q Query, by Field) (map[string]int64, error) {
	col, err := by.column()
	if err != nil {
		return nil, fmt.Errorf("audit: group: %w", err)
	}
	q.Limit, q.After, q.Descending = 0, 0, false
	t := tally{s: s, col: col, total: map[string]int64{}}
	for f, err := range s.find(ctx, &q) {
		if err == nil && !f.scan.exact() {
			err = s.confirm(f, &q)
		}
		if err == nil {
			err = t.add(f)
		}
		if err != nil {
			return nil, fmt.Errorf("audit: group: %w", err)
		}
	}
	if err := t.flush(); err != nil {
		return nil, fmt.Errorf("audit: group: %w", err)
	}
	return t.total, nil
}

// topCounts are the largest counts.
func topCounts(total map[string]int64, top int) []GroupCount {
	out := make([]GroupCount, 0, len(total))
	for value, n := range total {
		out = append(out, GroupCount{value, n})
	}
	slices.SortFunc(out, func(a, b GroupCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	if top > 0 && len(out) > top {
		out = out[:top]
	}
	return out
}

// tally counts by the codes of one segment, and turns these into texts when the
// segment is done.
type tally struct {
	s     *store
	col   int
	total map[string]int64

	seg    *segment
	scan   scanner
	data   *column
	counts []int64
}

func (t *tally) add(f *found) error {
	if f.seg != t.seg {
		if err := t.flush(); err != nil {
			return err
		}
		if err := t.begin(f); err != nil {
			return err
		}
	}
	switch sc := f.scan.(type) {
	case *scan:
		if err := sc.tally(t.data, t.col, f.g, &f.hits, t.counts); err != nil {
			return derived(t.seg.idxPath(), err)
		}
	case *rawScan:
		sc.tally(t, f)
	}
	return nil
}

// begin makes room for the codes of a segment.
func (t *tally) begin(f *found) error {
	t.seg, t.scan, t.counts = f.seg, f.scan, nil
	if sc, ok := f.scan.(*scan); ok {
		n := int(resultCode(Denied)) + 1
		if t.col != colResult {
			b, err := sc.x.section(secTexts + t.col)
			if err != nil {
				return err
			}
			n = 1
			for range texts(b).all {
				n++
			}
		}
		t.counts = make([]int64, n)
		var err error
		t.data, err = sc.x.column(secCodes + t.col)
		return err
	}
	return nil
}

// flush adds the counts of the segment to the total.
func (t *tally) flush() error {
	if t.seg == nil {
		return nil
	}
	put := func(code int, text string) {
		if code < len(t.counts) && t.counts[code] > 0 {
			t.total[text] += t.counts[code]
		}
	}
	defer func() { t.seg = nil }()
	if t.col == colResult {
		for _, r := range []Result{Success, Failure, Denied} {
			put(int(resultCode(r)), string(r))
		}
		return nil
	}
	put(0, "")
	sc, ok := t.scan.(*scan)
	if !ok {
		t.s.mu.RLock()
		defer t.s.mu.RUnlock()
		for text, code := range t.seg.idx.terms {
			if code > 0 {
				put(int(code), text)
			}
		}
		return nil
	}
	b, err := sc.x.section(secTexts + t.col)
	if err != nil {
		return err
	}
	for code, text := range texts(b).all {
		put(int(code), string(text))
	}
	return nil
}

// tally counts the hits in a segment that is not sealed.
func (r *rawScan) tally(t *tally, f *found) {
	r.s.mu.RLock()
	defer r.s.mu.RUnlock()
	if n := len(r.x.terms); len(t.counts) < n {
		t.counts = append(t.counts, make([]int64, max(n, 4)-len(t.counts))...)
	}
	b := r.x.blocks[f.g]
	for i := range groupLen {
		if !f.hits.has(i) {
			continue
		}
		code := uint32(b.result[i])
		switch t.col {
		case colAgent:
			code = b.agent[i]
		case colUser:
			code = b.user[i]
		case colSubject:
			code = b.subjectOf(i)
		case colAction:
			code = b.action[i]
		}
		t.counts[code]++
	}
}
