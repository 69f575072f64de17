package loki

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

var base = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// ledgerOf is a real ledger with entries a minute apart.
func ledgerOf(t *testing.T, entries ...audit.Entry) *audit.Ledger {
	t.Helper()
	l, err := audit.Open(t.TempDir(), audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, e := range entries {
		e.Time = base.Add(time.Duration(i) * time.Minute)
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func get(t *testing.T, h http.Handler, path string, q url.Values) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/loki/api/v1"+path+"?"+q.Encode(), nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestQueries(t *testing.T) {
	entry := func(user, action string, r audit.Result) audit.Entry {
		return audit.Entry{AgentID: "planner", UserID: user, Action: action, Result: r, Severity: "info"}
	}
	l := ledgerOf(t, entry("ann", "tool_execute", audit.Success), entry("bob", "tool_execute", audit.Denied), entry("ann", "model_call", audit.Success))
	h := New(Config{Ledger: l})
	end := base.Add(10 * time.Minute)
	at := url.Values{"time": {end.Format(time.RFC3339Nano)}}
	for _, c := range []struct{ name, query, want string }{
		{"users, busiest first", `topk(10, sum by (user) (count_over_time({source="audit", user!=""}[1h])))`,
			`"result":[{"metric":{"user":"ann"},"value":[1795176600,"2"]},{"metric":{"user":"bob"},"value":[1795176600,"1"]}]`},
		{"the busiest", `topk(1, sum by (user) (count_over_time({source="audit"}[1h])))`, `"result":[{"metric":{"user":"ann"},"value":[1795176600,"2"]}]`},
		{"window", `sum by (action) (count_over_time({source="audit"}[9m]))`, `"result":[{"metric":{"action":"model_call"},"value":[1795176600,"1"]}]`},
		{"total", `sum(count_over_time({result=~"denied|failure"}[1h]))`, `"result":[{"metric":{},"value":[1795176600,"1"]}]`},
		{"nothing", `sum by (user) (count_over_time({source="logs"}[1h]))`, `"result":[]`},
		{"does it work", `vector(1)+vector(1)`, `"2"]}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := url.Values{"query": {c.query}, "time": at["time"]}
			if code, body := get(t, h, "/query", q); code != http.StatusOK || !strings.Contains(body, c.want) {
				t.Errorf("%d %s\nwant %s", code, body, c.want)
			}
		})
	}
}

func TestTimeline(t *testing.T) {
	l := ledgerOf(t,
		audit.Entry{AgentID: "a", Action: "tool_execute", Result: audit.Success},
		audit.Entry{AgentID: "b", Action: "tool_execute", Result: audit.Failure},
		audit.Entry{AgentID: "a", Action: "model_call", Result: audit.Success})
	h := New(Config{Ledger: l})
	var out struct {
		Data struct {
			Result []struct {
				Stream map[string]string
				Values [][2]string
			}
		}
	}
	code, body := get(t, h, "/query_range", url.Values{"query": {`{source="audit"} |= "tool_execute"`}, "limit": {"1"},
		"start": {strconv.FormatInt(base.UnixNano(), 10)}, "end": {base.Add(time.Hour).Format(time.RFC3339)}})
	if err := json.Unmarshal([]byte(body), &out); err != nil || code != http.StatusOK || len(out.Data.Result) != 1 {
		t.Fatalf("%d %s (%v)", code, body, err)
	}
	s := out.Data.Result[0]
	if s.Stream["agent"] != "b" || s.Stream["result"] != "failure" || s.Values[0][0] != strconv.FormatInt(base.Add(time.Minute).UnixNano(), 10) {
		t.Errorf("newest matching line = %+v, want b's", s)
	}
	var e audit.Entry
	if err := json.Unmarshal([]byte(s.Values[0][1]), &e); err != nil || e.Index != 1 {
		t.Errorf("line = %s (%v), want entry 1", s.Values[0][1], err)
	}
	code, body = get(t, h, "/query_range", url.Values{"query": {`sum by (agent) (count_over_time({source="audit"}[2m]))`},
		"start": {base.Format(time.RFC3339)}, "end": {base.Add(3 * time.Minute).Format(time.RFC3339)}, "step": {"60"}})
	if want := `{"metric":{"agent":"a"},"values":[[1795176000,"1"],[1795176060,"1"],[1795176120,"1"],[1795176180,"1"]]}`; code != http.StatusOK || !strings.Contains(body, want) {
		t.Errorf("%d %s\nwant %s", code, body, want)
	}
	if code, body = get(t, h, "/label/agent/values", url.Values{"start": {base.Format(time.RFC3339)}}); code != http.StatusOK || !strings.Contains(body, `["a","b"]`) {
		t.Errorf("values = %d %s", code, body)
	}
}

// broken is a ledger that cannot be read.
type broken struct{}

func (broken) Query(context.Context, audit.Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) { yield(audit.Entry{}, audit.ErrClosed) }
}

func TestErrors(t *testing.T) {
	h := New(Config{Ledger: broken{}})
	for _, c := range []struct {
		name, path string
		q          url.Values
		code       int
	}{
		{"no query", "/query", nil, 400},
		{"not ours", "/query", url.Values{"query": {`rate({source="audit"}[1m])`}}, 400},
		{"unknown label", "/query_range", url.Values{"query": {`{email="x"}`}}, 400},
		{"bad expression", "/query_range", url.Values{"query": {`{agent=~"("}`}}, 400},
		{"bad limit", "/query_range", url.Values{"query": {`{source="logs"}`}, "limit": {"-1"}}, 400},
		{"bad time", "/query_range", url.Values{"query": {`{source="logs"}`}, "start": {"soon"}}, 400},
		{"backwards", "/query_range", url.Values{"query": {`{source="logs"}`}, "start": {"200"}, "end": {"100"}}, 400},
		{"too many points", "/query_range", url.Values{"query": {`sum(count_over_time({source="logs"}[1m]))`}, "start": {"1"}, "end": {"100000"}, "step": {"1"}}, 400},
		{"ledger", "/query_range", url.Values{"query": {`{source="audit"}`}}, 500},
		{"no such path", "/push", nil, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			if code, body := get(t, h, c.path, c.q); code != c.code || strings.Contains(body, "closed") {
				t.Errorf("%d %s, want %d", code, body, c.code)
			}
		})
	}
}

// FuzzParse: what is accepted selects by known labels, within bounds, and an
// empty set of conditions selects everything.
func FuzzParse(f *testing.F) {
	f.Add(`{source="audit", user!=""} |= "x"`)
	f.Add(`topk(10, sum by (user, agent) (count_over_time({source=~"a.*"}[1h])))`)
	f.Add("sum(count_over_time({trace!~`x`}[7d]))")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parse(s)
		if err != nil {
			return
		}
		if e.metric != (e.window > 0) || e.window > maxWindow || e.top < 0 || e.top > maxTop {
			t.Fatalf("parse(%q) = %+v", s, e)
		}
		if len(e.matchers) == 0 && !e.selects(map[string]string{"agent": "a"}) {
			t.Fatalf("parse(%q) selects nothing", s)
		}
		for _, m := range e.matchers {
			if m.name == "" || m.match("v") == (matcher{name: m.name, op: opposite[m.op], value: m.value, re: m.re}).match("v") {
				t.Fatalf("parse(%q): %+v and its opposite agree", s, m)
			}
		}
	})
}

var opposite = map[string]string{"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
