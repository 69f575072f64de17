package prom

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// federated are the families that the federation page shows unless it is asked
// for others: what agents push, by the names that their sources give them.
const federated = `kaizen_.+|gen_ai_.+|mcp_.+|go_.+|process_.+|target_info`

// maxScrapers bounds the scrapers whose last visit is remembered.
const maxScrapers = 64

// federation is the page from which another Prometheus scrapes what was pushed
// here.
type federation struct {
	db  *DB
	own func(labels.Labels) bool

	mu    sync.Mutex
	seen  map[string]time.Time // last visit by scraper
	order []string
}

// Federation returns the handler of a page that another Prometheus scrapes, with
// honor_labels, to have what agents pushed to this store: the newest sample of
// each series that has one in the last five minutes, in the format that the
// scraper prefers, with type, help, native histograms and exemplars. Series that
// ended are not there. Series of own, which are on a page of their own, are left
// out. The families are those of agents; parameters match[] ask for others.
//
// A counter or histogram that appeared since the scraper's last visit shows its
// oldest sample first and its newest from the next visit on: who begins to count
// with what a series stands at would never see how it got there.
func (db *DB) Federation(own map[string]string) http.Handler {
	return &federation{db: db, seen: map[string]time.Time{}, own: func(ls labels.Labels) bool {
		for name, v := range own {
			if ls.Get(name) != v {
				return false
			}
		}
		return ls.Get(model.InstanceLabel) == ""
	}}
}

func (f *federation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	families, err := f.gather(r)
	if err != nil {
		code := http.StatusInternalServerError
		var bad *apiError
		switch {
		case errors.As(err, &bad):
			code = bad.typ.status()
		case errors.Is(err, ErrClosed):
			code = http.StatusServiceUnavailable
		}
		http.Error(w, err.Error(), code)
		return
	}
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	for _, mf := range families {
		if err := enc.Encode(mf); err != nil {
			f.db.cfg.Logger.Debug("prom: federate", "err", err) // the scraper has gone
			return
		}
	}
	if c, ok := enc.(expfmt.Closer); ok {
		if err := c.Close(); err != nil {
			f.db.cfg.Logger.Debug("prom: federate", "err", err)
		}
	}
}

// visit notes that a scraper came and returns when it last did.
func (f *federation) visit(r *http.Request, now time.Time) time.Time {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	who := host + " " + r.UserAgent()
	f.mu.Lock()
	defer f.mu.Unlock()
	last, known := f.seen[who]
	if !known {
		if len(f.order) == maxScrapers {
			delete(f.seen, f.order[0])
			f.order = f.order[1:]
		}
		f.order = append(f.order, who)
	}
	f.seen[who] = now
	return last
}

func (f *federation) gather(r *http.Request) ([]*dto.MetricFamily, error) {
	leave, err := f.db.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	sets, err := f.matchers(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), f.db.cfg.QueryTimeout)
	defer cancel()
	now := f.db.cfg.now()
	b := &familyBuilder{meta: f.db.meta, byName: map[string]*building{}}
	if b.exemplars, err = f.exemplars(ctx, sets, now); err != nil {
		return nil, err
	}
	last := f.visit(r, now).UnixMilli()
	q, err := f.db.tsdb.Querier(now.Add(-lookback).UnixMilli(), now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("prom: federate: %w", err)
	}
	defer func() { _ = q.Close() }() // it has only read
	var all []storage.SeriesSet
	for _, ms := range sets {
		all = append(all, q.Select(ctx, true, nil, ms...))
	}
	set := storage.NewMergeSeriesSet(all, 0, storage.ChainedSeriesMerge)
	for set.Next() {
		s := set.At()
		if f.own(s.Labels()) {
			continue
		}
		first, newest, ok, err := ends(s.Iterator(nil))
		if err != nil {
			return nil, fmt.Errorf("prom: federate %s: %w", s.Labels(), err)
		}
		if ok {
			b.add(s.Labels(), first, newest, first.t > last)
		}
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("prom: federate: %w", err)
	}
	return b.families(), nil
}

func (f *federation) matchers(r *http.Request) ([][]*labels.Matcher, error) {
	if err := r.ParseForm(); err != nil {
		return nil, &apiError{errBadData, err}
	}
	asked := r.Form["match[]"]
	if len(asked) == 0 {
		m, err := labels.NewMatcher(labels.MatchRegexp, model.MetricNameLabel, federated)
		return [][]*labels.Matcher{{m}}, err
	}
	sets, err := f.db.parser.ParseMetricSelectors(asked)
	if err != nil {
		return nil, badParam("match[]", err)
	}
	return sets, nil
}

// ends returns the first and the last sample of a series; ok is false when it
// has none or has ended.
func ends(it chunkenc.Iterator) (first, last sample, ok bool, err error) {
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		last = take(it, typ)
		if !ok || last.ends() {
			first = last
		}
		ok = !last.ends()
		if !ok {
			first = sample{}
		}
	}
	return first, last, ok, it.Err()
}

// exemplars returns the newest exemplar of each series of the last minutes.
func (f *federation) exemplars(ctx context.Context, sets [][]*labels.Matcher, now time.Time) (map[string]exemplar.Exemplar, error) {
	q, err := f.db.tsdb.ExemplarQuerier(ctx)
	if err != nil {
		return nil, fmt.Errorf("prom: federate: %w", err)
	}
	found, err := q.Select(now.Add(-lookback).UnixMilli(), now.UnixMilli(), sets...)
	if err != nil {
		return nil, fmt.Errorf("prom: federate: %w", err)
	}
	newest := make(map[string]exemplar.Exemplar, len(found))
	for _, s := range found {
		if n := len(s.Exemplars); n > 0 {
			newest[string(s.SeriesLabels.Bytes(nil))] = s.Exemplars[n-1]
		}
	}
	return newest, nil
}

// nativeToDTO is the inverse of nativeFromDTO.
func nativeToDTO(s sample) *dto.Histogram {
	spans := func(in []histogram.Span) []*dto.BucketSpan {
		out := make([]*dto.BucketSpan, len(in))
		for i, sp := range in {
			out[i] = &dto.BucketSpan{Offset: &sp.Offset, Length: &sp.Length}
		}
		return out
	}
	if h := s.h; h != nil {
		return &dto.Histogram{
			SampleCount: &h.Count, SampleSum: &h.Sum, Schema: &h.Schema, ZeroThreshold: &h.ZeroThreshold, ZeroCount: &h.ZeroCount,
			PositiveSpan: spans(h.PositiveSpans), PositiveDelta: h.PositiveBuckets,
			NegativeSpan: spans(h.NegativeSpans), NegativeDelta: h.NegativeBuckets,
		}
	}
	h := s.fh
	return &dto.Histogram{
		SampleCountFloat: &h.Count, SampleSum: &h.Sum, Schema: &h.Schema, ZeroThreshold: &h.ZeroThreshold, ZeroCountFloat: &h.ZeroCount,
		PositiveSpan: spans(h.PositiveSpans), PositiveCount: h.PositiveBuckets,
		NegativeSpan: spans(h.NegativeSpans), NegativeCount: h.NegativeBuckets,
	}
}
