package uitest

import (
	"maps"
	"math"
	"net/http"
	"slices"
)

// sum adds up model calls.
type sum struct {
	calls, unpriced, failed int
	nanoUSD                 int64
	tokens                  object
}

func total(calls []object) sum {
	t := sum{tokens: usage(0, 0, 0, 0, 0)}
	for _, s := range calls {
		t.calls++
		if s["status"] != "ok" {
			t.failed++
		}
		if c, ok := s["cost_usd"].(float64); ok {
			t.nanoUSD += int64(math.Round(c * 1e9))
		} else {
			t.unpriced++
		}
		if u, ok := s["tokens"].(object); ok {
			for k, v := range u {
				t.tokens[k] = t.tokens[k].(int) + v.(int)
			}
		}
	}
	return t
}

func (t sum) cost() float64 { return float64(t.nanoUSD) / 1e9 }

// groups are all spans under one value of a field, in order of the value.
func (f *Fixture) groups(field string) (keys []string, by map[string][]object) {
	by = map[string][]object{}
	for _, t := range f.traces {
		for _, s := range t.spans {
			key, _ := s[field].(string)
			by[key] = append(by[key], s)
		}
	}
	return slices.Sorted(maps.Keys(by)), by
}

func ended(kind string) func(object) bool {
	return func(s object) bool { return s["kind"] == kind && s["end"] != nil }
}

func bad(s object) bool { return s["status"] == "error" || s["status"] == "denied" }

func running(s object) bool { return s["status"] == "running" }

func (f *Fixture) costs(r *http.Request) (any, error) {
	by := r.URL.Query().Get("by")
	field, ok := map[string]string{"": "model", "model": "model", "provider": "provider", "agent": "agent_name", "session": "session_id", "user": "user_id"}[by]
	if !ok {
		return nil, notFound("cannot group by " + by)
	}
	if by == "" {
		by = "model"
	}
	rows := []object{}
	var all []object
	keys, groups := f.groups(field)
	for _, key := range keys {
		calls := keep(groups[key], ended("model"))
		if len(calls) == 0 {
			continue
		}
		all = append(all, calls...)
		t := total(calls)
		rows = append(rows, object{"key": key, "model_calls": t.calls, "tokens": t.tokens, "cost_usd": t.cost(), "unpriced_calls": t.unpriced})
	}
	slices.SortStableFunc(rows, func(x, y object) int {
		switch a, b := x["cost_usd"].(float64), y["cost_usd"].(float64); {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	t := total(all)
	return object{"by": by, "total_usd": t.cost(), "unpriced_calls": t.unpriced, "model_calls": t.calls, "rows": rows}, nil
}

func (f *Fixture) agents(*http.Request) (any, error) {
	rows := []object{}
	keys, groups := f.groups("agent_name")
	for _, key := range keys {
		if key == "" {
			continue
		}
		spans := groups[key]
		runs := keep(spans, func(s object) bool { return s["kind"] == "run" })
		t := total(keep(spans, ended("model")))
		tools := keep(spans, ended("tool"))
		row := object{
			"agent": key, "agent_ids": distinct(runs, "agent_id"), "runs": len(runs), "runs_failed": len(keep(runs, bad)), "active": len(keep(runs, running)),
			"model_calls": t.calls, "tool_calls": len(tools), "tool_calls_failed": len(keep(tools, bad)), "tokens": t.tokens, "cost_usd": t.cost(),
			"last": spans[0]["start"], "run_p50_ms": nil, "run_p95_ms": nil,
		}
		if d := durations(runs); len(d) > 0 {
			row["run_p50_ms"], row["run_p95_ms"] = d[len(d)/2], d[len(d)*19/20]
		}
		rows = append(rows, row)
	}
	return object{"agents": rows}, nil
}

func durations(spans []object) []float64 {
	var out []float64
	for _, s := range spans {
		if d, ok := s["duration_ms"].(float64); ok {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return out
}

func distinct(spans []object, field string) []string {
	out := []string{}
	for _, s := range spans {
		if v, _ := s[field].(string); v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func (f *Fixture) sessions(r *http.Request) (any, error) {
	rows := []object{}
	keys, groups := f.groups("session_id")
	for _, key := range keys {
		if key == "" {
			continue
		}
		spans := groups[key]
		runs := keep(spans, func(s object) bool { return s["kind"] == "run" })
		t := total(keep(spans, ended("model")))
		first, last := spans[0]["start"].(string), spans[0]["start"].(string)
		for _, s := range spans {
			first = min(first, s["start"].(string))
			last = max(last, s["start"].(string))
		}
		rows = append(rows, object{
			"session_id": key, "user_id": spans[0]["user_id"], "first": first, "last": last, "runs": len(runs), "runs_failed": len(keep(runs, bad)), "model_calls": t.calls,
			"tool_calls": len(keep(spans, ended("tool"))), "tokens": t.tokens, "cost_usd": t.cost(), "agents": names(spans),
		})
	}
	list, next := paged(r, rows)
	return object{"sessions": list, "next": next}, nil
}

func (f *Fixture) stats(*http.Request) (any, error) {
	var all []object
	for _, t := range f.traces {
		all = append(all, t.spans...)
	}
	runs := keep(all, func(s object) bool { return s["kind"] == "run" })
	tools := keep(all, ended("tool"))
	t := total(keep(all, ended("model")))
	return object{
		"runs": len(runs), "runs_failed": len(keep(runs, bad)), "spans": len(all), "model_calls": t.calls, "model_calls_failed": t.failed, "model_calls_unpriced": t.unpriced,
		"tool_calls": len(tools), "tool_calls_failed": len(keep(tools, bad)), "log_records": len(f.logs), "sessions": len(distinct(all, "session_id")),
		"agents": len(distinct(all, "agent_name")), "tokens": t.tokens, "cost_usd": t.cost(), "audit_entries": len(f.ledger.entries),
	}, nil
}
