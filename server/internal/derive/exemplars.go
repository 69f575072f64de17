package derive

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/server/internal/prom"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Source yields the stored spans that start in [since, until), newest first.
type Source interface {
	Spans(since, until time.Time) iter.Seq[*record.Span]
}

// Bounds of one search for exemplars. A graph shows some hundred at most.
const (
	maxExemplarSpans = 50_000
	maxExemplars     = 1_000
	maxPerSeries     = 100
	// longestSpan widens the search: spans are found by their start, exemplars
	// stand at their end.
	longestSpan = time.Hour
)

// Exemplars lets query_exemplars find stored spans: each is an exemplar of the
// metrics that it stands for. labels are those which the store's own series have
// besides the family's (job and instance, as given to SelfScrape).
func Exemplars(src Source, labels map[string]string) prom.ExemplarSource {
	x := &exemplars{src: src, labels: labels, buckets: map[string][]float64{}}
	for _, f := range metrics.Families() {
		x.buckets[f.Name] = f.Buckets
	}
	return x
}

type exemplars struct {
	src     Source
	labels  map[string]string
	buckets map[string][]float64 // by family; nil for what is no histogram
}

// Exemplars implements [prom.ExemplarSource].
func (x *exemplars) Exemplars(ctx context.Context, matchers []*prom.Matcher, start, end time.Time) ([]prom.ExemplarSeries, error) {
	if !x.derivable(matchers) {
		return nil, nil
	}
	found := map[string]*prom.ExemplarSeries{}
	spans, total := 0, 0
	for s := range x.src.Spans(window(start, end)) {
		if spans++; spans > maxExemplarSpans || total >= maxExemplars {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if at := exemplarTime(s); pushed(s) || at.Before(start) || at.After(end) {
			continue
		}
		for _, o := range Observations(s) {
			ls := x.series(o)
			if !matches(ls, matchers) {
				continue
			}
			series := seriesOf(found, ls)
			if len(series.Exemplars) < maxPerSeries {
				total++
				series.Exemplars = append(series.Exemplars, prom.Exemplar{
					Labels: map[string]string{"trace_id": s.TraceID.String(), "span_id": s.SpanID.String()},
					Value:  o.Value,
					Time:   exemplarTime(s),
				})
			}
		}
	}
	return sorted(found), nil
}

// window returns when a span with an exemplar from start to end may have begun.
// Prometheus's open ends, far outside what time can count, become no bound.
func window(start, end time.Time) (since, until time.Time) {
	if start.Year() > 1970 {
		since = start.Add(-longestSpan)
	}
	if end.Year() < 9999 {
		until = end.Add(time.Nanosecond)
	}
	return since, until
}

// derivable reports whether the matchers can name a family that spans stand for
// at all, so that a query for another metric costs no search.
func (x *exemplars) derivable(matchers []*prom.Matcher) bool {
	for _, m := range matchers {
		if m.Name != "__name__" {
			continue
		}
		for name := range x.buckets {
			if m.Matches(name) || m.Matches(name+"_bucket") {
				return true
			}
		}
		return false
	}
	return true
}

// series returns the labels of the stored series that an observation went into;
// of a histogram, its bucket.
func (x *exemplars) series(o Observation) map[string]string {
	ls := make(map[string]string, len(o.Labels)+len(x.labels)+2)
	for k, v := range o.Labels {
		if v != "" {
			ls[k] = v
		}
	}
	maps.Copy(ls, x.labels)
	ls["__name__"] = o.Metric
	if o.Type == metrics.TypeHistogram {
		ls["__name__"] = o.Metric + "_bucket"
		ls["le"] = strconv.FormatFloat(bucketOf(x.buckets[o.Metric], o.Value), 'f', -1, 64)
	}
	return ls
}

func matches(ls map[string]string, matchers []*prom.Matcher) bool {
	return !slices.ContainsFunc(matchers, func(m *prom.Matcher) bool { return !m.Matches(ls[m.Name]) })
}

func seriesOf(found map[string]*prom.ExemplarSeries, ls map[string]string) *prom.ExemplarSeries {
	key := keyOf(ls)
	s, ok := found[key]
	if !ok {
		s = &prom.ExemplarSeries{Labels: ls}
		found[key] = s
	}
	return s
}

func keyOf(ls map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(ls)) {
		b.WriteString(k)
		b.WriteByte(0xff)
		b.WriteString(ls[k])
		b.WriteByte(0xff)
	}
	return b.String()
}

func sorted(found map[string]*prom.ExemplarSeries) []prom.ExemplarSeries {
	out := make([]prom.ExemplarSeries, 0, len(found))
	for _, k := range slices.Sorted(maps.Keys(found)) {
		s := found[k]
		slices.SortStableFunc(s.Exemplars, func(a, b prom.Exemplar) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })
		out = append(out, *s)
	}
	return out
}
