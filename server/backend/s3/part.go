package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"iter"

	"github.com/kaizen-go/kaizen/audit"
)

// partBytes is how much of a chunk is read at once: some 20 MB with what is
// parsed from it, besides the cache.
const partBytes = 8 << 20

// part is a run of whole batches of a chunk: what is in memory at once. A chunk
// is one part, unless it is large.
type part struct {
	ref
	at    int64 // where it begins in the chunk's object
	whole bool  // it is all of the chunk
}

// parts yields the parts that want accepts of the chunks that it accepts, as
// chunks does.
func (l *Ledger) parts(ctx context.Context, rs refs, descending bool, want func(*ref) bool) iter.Seq2[*part, error] {
	return func(yield func(*part, error) bool) {
		for r, err := range l.chunks(ctx, rs, descending, want) {
			var list []part
			if err == nil {
				list, err = l.partsOf(ctx, r)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range list {
				p := &list[i]
				if descending {
					p = &list[len(list)-1-i]
				}
				if want(&p.ref) && !yield(p, nil) {
					return
				}
			}
		}
	}
}

// partsOf divides a chunk. For a large one all of its batches are read once, one
// at a time, and compared with what was signed for the whole.
func (l *Ledger) partsOf(ctx context.Context, r *ref) ([]part, error) {
	if r.Stored <= l.cfg.partBytes {
		return []part{{ref: *r, whole: true}}, nil
	}
	if list, ok := l.cache.partsOf(r.Batch); ok {
		return list, nil
	}
	d := divider{of: r, most: l.cfg.partBytes, sum: sha256.New()}
	for n := r.Batch; n < r.Batch+r.Batches; n++ {
		body, err := l.batch(ctx, n, r.Stored)
		if err != nil {
			return nil, err
		}
		h, _, rest, err := cutBatch(body)
		if err != nil || len(rest) > 0 {
			return nil, &audit.TamperError{Path: numbered(batchPrefix, n), Index: r.Base + d.count, Reason: "not one batch"}
		}
		d.add(n, h.Count, body)
	}
	list, sum := d.end()
	if sum != r.Sum || d.count != r.Count {
		return nil, &audit.TamperError{Path: numbered(batchPrefix, r.Batch), Index: r.Base, Reason: "batches are not those that were signed", Want: r.Sum, Got: sum}
	}
	l.cache.addParts(r.Batch, list)
	return list, nil
}

// divider makes parts of the batches of a chunk.
type divider struct {
	of    *ref
	most  int64     // bytes of a part, unless one batch has more
	sum   hash.Hash // of all
	last  hash.Hash // of the part that is being filled
	list  []part
	at    int64
	count int64
}

// add appends batch n.
func (d *divider) add(n, count int64, body []byte) {
	size := int64(len(body))
	if k := len(d.list); k == 0 || d.list[k-1].Stored+size > d.most {
		d.seal()
		// Its times are not known: those of the chunk hold for it too.
		p := part{ref: *d.of, at: d.at}
		p.Batch, p.Base, p.Batches, p.Count, p.Stored = n, d.of.Base+d.count, 0, 0, 0
		d.list, d.last = append(d.list, p), sha256.New()
	}
	p := &d.list[len(d.list)-1]
	p.Batches, p.Count, p.Stored = p.Batches+1, p.Count+count, p.Stored+size
	d.at, d.count = d.at+size, d.count+count
	d.sum.Write(body)
	d.last.Write(body)
}

// seal ends the last part.
func (d *divider) seal() {
	if k := len(d.list); k > 0 {
		d.list[k-1].Sum = hex.EncodeToString(d.last.Sum(nil))
	}
}

// end returns the parts, and the SHA-256 of all batches.
func (d *divider) end() ([]part, string) {
	d.seal()
	return d.list, hex.EncodeToString(d.sum.Sum(nil))
}
