package prom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// engineVersion is the Prometheus release whose storage and engine are built
// in. Clients such as Grafana read it to know what they may ask.
const engineVersion = "3.16.0"

// lookup is what labels, label values and series have in common.
type lookup struct {
	q        storage.Querier
	matchers [][]*labels.Matcher
	limit    int
	start    int64
	end      int64
}

func (db *DB) lookup(r *http.Request) (l lookup, err error) {
	if l.limit, err = limitParam(r, "limit"); err != nil {
		return l, err
	}
	start, end, err := rangeParams(r)
	if err != nil {
		return l, err
	}
	l.start, l.end = timestamp.FromTime(start), timestamp.FromTime(end)
	if l.matchers, err = db.matchers(r); err != nil {
		return l, &apiError{errBadData, err}
	}
	if l.q, err = db.tsdb.Querier(l.start, l.end); err != nil {
		return l, queryError(err)
	}
	return l, nil
}

// hint is one more than the limit, so that a cut is noticed.
func (l lookup) hint() int {
	if l.limit == 0 {
		return 0
	}
	return l.limit + 1
}

// strings answers a list of names or values: the union over the selectors.
func (l lookup) strings(ctx context.Context, one func(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error)) (answer, error) {
	sets := l.matchers
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	var a answer
	found := map[string]struct{}{}
	for _, set := range sets {
		vals, warnings, err := one(ctx, &storage.LabelHints{Limit: l.hint()}, set...)
		if err != nil {
			return a, err
		}
		a.warnings.Merge(warnings)
		for _, v := range vals {
			found[v] = struct{}{}
		}
	}
	list := sortedKeys(found)
	if l.limit > 0 && len(list) > l.limit {
		list = list[:l.limit]
		a.warnings = a.warnings.Add(errTruncated)
	}
	a.data = list
	return a, nil
}

// release closes the querier. Names and values may lie in the mapped memory of
// a block, so it is done after the answer is written, not before.
func (l lookup) release(log *slog.Logger) func() {
	return func() {
		if err := l.q.Close(); err != nil {
			log.Warn("prom: close querier", "err", err)
		}
	}
}

func (db *DB) labelNames(r *http.Request) (answer, error) {
	l, err := db.lookup(r)
	if err != nil {
		return answer{}, err
	}
	a, err := l.strings(r.Context(), l.q.LabelNames)
	a.done = l.release(db.cfg.Logger)
	return a, err
}

func (db *DB) labelValues(r *http.Request) (answer, error) {
	name := r.PathValue("name")
	if strings.HasPrefix(name, "U__") {
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return answer{}, &apiError{errBadData, fmt.Errorf("invalid label name: %q", name)}
	}
	l, err := db.lookup(r)
	if err != nil {
		return answer{}, err
	}
	a, err := l.strings(r.Context(), func(ctx context.Context, h *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
		return l.q.LabelValues(ctx, name, h, ms...)
	})
	a.done = l.release(db.cfg.Logger)
	return a, err
}

func (db *DB) series(r *http.Request) (answer, error) {
	if len(r.Form["match[]"]) == 0 {
		return answer{}, &apiError{errBadData, errors.New("no match[] parameter provided")}
	}
	l, err := db.lookup(r)
	if err != nil {
		return answer{}, err
	}
	a := answer{done: l.release(db.cfg.Logger)}
	// "series" is no function; it tells the storage that no samples are needed.
	hints := &storage.SelectHints{Start: l.start, End: l.end, Func: "series", Limit: l.hint()}
	sets := make([]storage.SeriesSet, len(l.matchers))
	for i, ms := range l.matchers {
		sets[i] = l.q.Select(r.Context(), true, hints, ms...)
	}
	set := storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	found := []labels.Labels{}
	for set.Next() {
		if err := r.Context().Err(); err != nil {
			return a, err
		}
		if l.limit > 0 && len(found) == l.limit {
			a.warnings = a.warnings.Add(errTruncated)
			break
		}
		found = append(found, set.At().Labels())
	}
	if err := set.Err(); err != nil {
		return a, err
	}
	a.warnings.Merge(set.Warnings())
	a.appendTo = func(b []byte) []byte { return appendList(b, found, appendLabels) }
	return a, nil
}

func (db *DB) metadata(r *http.Request) (answer, error) {
	limit, err := limitParam(r, "limit")
	if err != nil {
		return answer{}, err
	}
	names, byName := db.meta.all(r.FormValue("metric"))
	if limit > 0 && len(names) > limit {
		names = names[:limit]
	}
	out := make(map[string][]metadata.Metadata, len(names))
	for _, n := range names {
		out[n] = []metadata.Metadata{byName[n]}
	}
	return answer{data: out}, nil
}

func (db *DB) buildInfo(*http.Request) (answer, error) {
	return answer{data: map[string]string{
		"version":   engineVersion,
		"revision":  db.cfg.Version,
		"branch":    "kaizen",
		"buildUser": "",
		"buildDate": "",
		"goVersion": runtime.Version(),
	}}, nil
}
