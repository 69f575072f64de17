package audit

import (
	"context"
	"fmt"
	"iter"
)

// Reading through the key store: names are looked up before a query, and what
// it yields is decrypted.

func (v *vault) get(ctx context.Context, s entries, index int64) (Entry, error) {
	e, err := s.read(ctx, index)
	if err != nil {
		return Entry{}, err
	}
	if err := v.reveal(&e); err != nil {
		return Entry{}, fmt.Errorf("audit: get entry %d: %w", index, err)
	}
	return e, nil
}

// variants is q in the words of the stored lines. There may be none, if
// nothing is known of the subject, and two: a user's name stands in lines
// without a subject, and its token in the others. No line matches both.
func (v *vault) variants(q Query) []Query {
	if q.Subject != "" && !isToken(q.Subject) {
		s := v.find(q.Subject)
		if s == nil {
			return nil
		}
		q.Subject = s.token
	}
	if q.UserID == "" || isToken(q.UserID) {
		return []Query{q}
	}
	s := v.find(q.UserID)
	if s == nil {
		return []Query{q}
	}
	sealed := q
	sealed.UserID = s.token
	return []Query{q, sealed}
}

func (v *vault) query(ctx context.Context, s entries, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for e, err := range v.stored(ctx, s, q) {
			if err == nil && !q.Stored {
				if err = v.reveal(&e); err != nil {
					e, err = Entry{}, fmt.Errorf("audit: query: %w", err)
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// stored yields what q selects, as the lines have it.
func (v *vault) stored(ctx context.Context, s entries, q Query) iter.Seq2[Entry, error] {
	switch qs := v.variants(q); len(qs) {
	case 0:
		return func(func(Entry, error) bool) {}
	case 1:
		return s.query(ctx, qs[0])
	default:
		return merged(s.query(ctx, qs[0]), s.query(ctx, qs[1]), q)
	}
}

// merged yields the entries of two answers in the order of q, up to its limit.
func merged(a, b iter.Seq2[Entry, error], q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		nextA, stopA := iter.Pull2(a)
		defer stopA()
		nextB, stopB := iter.Pull2(b)
		defer stopB()
		ea, errA, okA := nextA()
		eb, errB, okB := nextB()
		for left := q.Limit; okA || okB; {
			first := okA && (!okB || errA != nil || errB == nil && (ea.Index < eb.Index) != q.Descending)
			e, err := eb, errB
			if first {
				e, err = ea, errA
			}
			if left--; !yield(e, err) || err != nil || left == 0 {
				return
			}
			if first {
				ea, errA, okA = nextA()
			} else {
				eb, errB, okB = nextB()
			}
		}
	}
}

func (v *vault) count(ctx context.Context, s entries, q Query) (int64, error) {
	var sum int64
	for _, variant := range v.variants(q) {
		n, err := s.count(ctx, variant)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
