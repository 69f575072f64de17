package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/kaizen-go/kaizen/audit"
)

// ref is a run of batches that is not in memory: a chunk, or a page of refs. Its
// ranges say whether a query can find something in it.
type ref struct {
	// Batch is the first one, Batches how many there are.
	Batch   int64 `json:"batch"`
	Batches int64 `json:"batches"`
	// Base is the first index, Count the number of entries.
	Base  int64 `json:"base"`
	Count int64 `json:"count"`
	// Bytes is the size of the lines, Stored that of the batches.
	Bytes  int64 `json:"bytes"`
	Stored int64 `json:"stored"`
	// Oldest and Newest bound the entries' times, in nanoseconds since 1970,
	// MinID and MaxID the times of their ids, in milliseconds.
	Oldest int64  `json:"oldest"`
	Newest int64  `json:"newest"`
	MinID  uint64 `json:"min_id"`
	MaxID  uint64 `json:"max_id"`
	// Sum is the SHA-256 of the batches one after the other, or of the page.
	Sum string `json:"sha256"`
}

func (r *ref) end() int64 { return r.Base + r.Count }

// emptyRef is a run that begins at that batch and index.
func emptyRef(batch, base int64) ref {
	return ref{Batch: batch, Base: base, Oldest: math.MaxInt64, Newest: math.MinInt64, MinID: math.MaxUint64}
}

// join adds the run that follows.
func (r *ref) join(next *ref) {
	r.Batches, r.Count, r.Bytes, r.Stored = r.Batches+next.Batches, r.Count+next.Count, r.Bytes+next.Bytes, r.Stored+next.Stored
	r.Oldest, r.Newest = min(r.Oldest, next.Oldest), max(r.Newest, next.Newest)
	r.MinID, r.MaxID = min(r.MinID, next.MinID), max(r.MaxID, next.MaxID)
}

// fan is how many refs make a page, but for tests.
const fan = 64

// refs are all runs before the tail: by level, the highest first in the order of
// the entries. It is never changed: add returns another.
type refs [][]ref

// add appends a chunk. Whenever a level has a page full, the page becomes an
// object, and one ref of the next level.
func (rs refs) add(r ref, fan int) (refs, []derived, error) {
	out := slices.Clone(rs)
	var pages []derived
	for level := 0; ; level++ {
		if level == len(out) {
			out = append(out, nil)
		}
		out[level] = append(slices.Clip(out[level]), r)
		if len(out[level]) < fan {
			return out, pages, nil
		}
		body, err := json.Marshal(out[level])
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(body)
		first := out[level][0]
		r = emptyRef(first.Batch, first.Base)
		for i := range out[level] {
			r.join(&out[level][i])
		}
		r.Sum = hex.EncodeToString(sum[:])
		pages = append(pages, derived{leveled(pagePrefix, level+1, r.Batch), body})
		out[level] = nil
	}
}

// total is the sum of all runs, which must follow each other without a gap.
func (rs refs) total() (ref, error) {
	all := emptyRef(0, 0)
	for level := len(rs) - 1; level >= 0; level-- {
		for i := range rs[level] {
			r := &rs[level][i]
			if r.Batch != all.Batches || r.Base != all.Count || r.Count < 1 || r.Batches < 1 {
				return all, fmt.Errorf("run of batches at %d is not where it should be", r.Batch)
			}
			all.join(r)
		}
	}
	return all, nil
}

// chunks yields the chunks that want accepts, in the order of their entries or
// backwards. A page is read only if want accepts the whole of it.
func (l *Ledger) chunks(ctx context.Context, rs refs, descending bool, want func(*ref) bool) iter.Seq2[*ref, error] {
	return func(yield func(*ref, error) bool) {
		for i := range rs {
			level := len(rs) - 1 - i
			if descending {
				level = i
			}
			if !l.chunksIn(ctx, level, rs[level], descending, want, yield) {
				return
			}
		}
	}
}

func (l *Ledger) chunksIn(ctx context.Context, level int, list []ref, descending bool, want func(*ref) bool, yield func(*ref, error) bool) bool {
	for i := range list {
		r := &list[i]
		if descending {
			r = &list[len(list)-1-i]
		}
		if !want(r) {
			continue
		}
		if level == 0 {
			if !yield(r, nil) {
				return false
			}
			continue
		}
		page, err := l.page(ctx, level, r)
		if err != nil {
			yield(nil, err)
			return false
		}
		if !l.chunksIn(ctx, level-1, page, descending, want, yield) {
			return false
		}
	}
	return true
}

// page reads the refs under r.
func (l *Ledger) page(ctx context.Context, level int, r *ref) ([]ref, error) {
	name := leveled(pagePrefix, level, r.Batch)
	if list, ok := l.cache.page(name); ok {
		return list, nil
	}
	body, err := l.object(ctx, name)
	if err != nil {
		return nil, err
	}
	var list []ref
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != r.Sum || json.Unmarshal(body, &list) != nil {
		return nil, &audit.TamperError{Path: name, Index: -1, Reason: "page is not the one that was signed", Want: r.Sum, Got: hex.EncodeToString(sum[:])}
	}
	l.cache.addPage(name, list)
	return list, nil
}

// chunkOf finds the part of a chunk with an index.
func (l *Ledger) chunkOf(ctx context.Context, rs refs, index int64) (*chunk, error) {
	for p, err := range l.parts(ctx, rs, false, func(r *ref) bool { return r.Base <= index && index < r.end() }) {
		if err != nil {
			return nil, err
		}
		return l.chunk(ctx, p)
	}
	return nil, audit.ErrNotFound
}
