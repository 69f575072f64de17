package prom

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// sampleAt returns the stored sample of a series at one time.
func (db *DB) sampleAt(ctx context.Context, ls labels.Labels, t int64) (s sample, found bool, err error) {
	err = db.read(ctx, ls, t, t, func(it chunkenc.Iterator) {
		if typ := it.Seek(t); typ != chunkenc.ValNone && it.AtT() == t {
			s, found = take(it, typ), true
		}
	})
	return s, found, err
}

// newestSample returns the newest sample in memory of a series, unless it says
// that the series ended.
func (db *DB) newestSample(ctx context.Context, ls labels.Labels) (s sample, found bool, err error) {
	err = db.read(ctx, ls, db.tsdb.Head().MinTime(), math.MaxInt64, func(it chunkenc.Iterator) {
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			s, found = take(it, typ), true
		}
	})
	return s, found && !s.ends(), err
}

// read calls f with the samples of exactly one series, if it exists.
func (db *DB) read(ctx context.Context, ls labels.Labels, from, to int64, f func(chunkenc.Iterator)) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("prom: read back %s: %w", ls, err)
		}
	}()
	q, err := db.tsdb.Querier(from, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	var ms []*labels.Matcher
	ls.Range(func(l labels.Label) {
		ms = append(ms, &labels.Matcher{Type: labels.MatchEqual, Name: l.Name, Value: l.Value})
	})
	set := q.Select(ctx, false, &storage.SelectHints{Start: from, End: to}, ms...)
	for set.Next() {
		if s := set.At(); labels.Equal(s.Labels(), ls) { // others have more labels
			it := s.Iterator(nil)
			f(it)
			if err := it.Err(); err != nil {
				return err
			}
		}
	}
	return set.Err()
}

// take returns the sample an iterator stands at; it owns its histogram.
func take(it chunkenc.Iterator, typ chunkenc.ValueType) (s sample) {
	switch typ {
	case chunkenc.ValFloat:
		s.t, s.v = it.At()
	case chunkenc.ValHistogram:
		s.t, s.h = it.AtHistogram(nil)
	case chunkenc.ValFloatHistogram:
		s.t, s.fh = it.AtFloatHistogram(nil)
	}
	return s
}

// restoreNumber reads a running total back. A series that is not in memory
// begins anew.
func (b *deltaBatch) restoreNumber(ls labels.Labels) (*deltaTotal, error) {
	if b.batch.ref(ls) == 0 {
		return nil, nil
	}
	s, ok, err := b.batch.db.newestSample(b.batch.ctx, ls)
	if err != nil || !ok || s.h != nil || s.fh != nil {
		return nil, err
	}
	return &deltaTotal{restored: true, t: s.t, used: b.now, number: s.v}, nil
}

// restoreExplicit reads the total of a classic histogram with the bounds of h back.
func (b *deltaBatch) restoreExplicit(name string, base labels.Labels, h explicit) (*deltaTotal, error) {
	total := explicit{bounds: h.bounds, counts: make([]float64, len(h.bounds)+1), hasSum: h.hasSum}
	t := int64(math.MinInt64)
	bucket, below := 0, 0.0
	for _, want := range classicSamples(name, base, 0, h, false, nil) {
		if b.batch.ref(want.labels) == 0 {
			return nil, nil
		}
		s, ok, err := b.batch.db.newestSample(b.batch.ctx, want.labels)
		if err != nil || !ok {
			return nil, err
		}
		t = max(t, s.t)
		switch want.labels.Get(model.MetricNameLabel) {
		case name + "_sum":
			total.sum = s.v
		case name + "_count":
			total.count = s.v
		default:
			total.counts[bucket] = s.v - below
			bucket, below = bucket+1, s.v
		}
	}
	return &deltaTotal{restored: true, t: t, used: b.now, explicit: total}, nil
}

// restoreNative reads the total of a native histogram back.
func (b *deltaBatch) restoreNative(ls labels.Labels) (*deltaTotal, error) {
	if b.batch.ref(ls) == 0 {
		return nil, nil
	}
	s, ok, err := b.batch.db.newestSample(b.batch.ctx, ls)
	if err != nil || !ok || s.fh == nil {
		return nil, err
	}
	return &deltaTotal{restored: true, t: s.t, used: b.now, native: s.fh}, nil
}
