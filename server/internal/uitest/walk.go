package uitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"testing"
)

// Options tune a [Walk]. The zero value walks everything.
type Options struct {
	// Dir is where pictures go. If empty, KAIZEN_ARTIFACTS, or a temporary directory.
	Dir string
	// Views are the sizes and themes. If none, 1280 and 390 px wide, light and dark.
	Views []View
	// NoExemplars is for a server whose metrics keep no exemplars.
	NoExemplars bool
}

// Walk opens every page of the server at base, which has data, in Chromium and
// follows a span to its logs, audit entries and exemplars, and an audit entry's
// proof to its verdict. It fails the test on a console error, an exception, a
// failed or foreign request, a page wider than the window, and wherever a list
// that the API fills stays empty.
func Walk(t *testing.T, base string, opts Options) {
	t.Helper()
	base = strings.TrimSuffix(base, "/")
	dir := artifacts(t, opts.Dir)
	browser := Open(t)
	if len(opts.Views) == 0 {
		opts.Views = views
	}
	target, err := findSpan(base, !opts.NoExemplars)
	if err != nil {
		t.Fatalf("find a span to follow: %v", err)
	}
	for _, v := range opts.Views {
		t.Run(v.String(), func(t *testing.T) {
			tab := browser.Tab(t, base, dir, v)
			walkLists(tab)
			walkRun(tab, target.trace)
			walkSpan(tab, target, !opts.NoExemplars)
			walkProof(tab, target)
			walkTheme(tab)
		})
	}
}

func walkLists(tab *Tab) {
	for _, p := range []struct{ path, name, ready string }{
		{"/", "runs", `document.querySelector(".list tbody") && document.querySelector(".total")`},
		{"/logs", "logs", `document.querySelector(".list tbody")`},
		{"/audit", "audit", `document.querySelector(".list tbody") && document.querySelector(".checkpoint code")`},
		{"/costs", "costs", `document.querySelector(".list tbody")`},
		{"/agents", "agents", `document.querySelector(".list tbody")`},
		{"/sessions", "sessions", `document.querySelector(".list tbody")`},
	} {
		tab.Go(p.path)
		tab.Wait(p.ready)
		tab.Shot(p.name)
		tab.Clean(p.path)
	}
	for _, by := range []string{"agent", "provider", "session", "user"} {
		tab.Go("/costs?by=" + by)
		tab.Wait(fmt.Sprintf(`document.querySelector('.list[aria-label="Costs by %s"]')`, by))
		tab.Clean("/costs by " + by)
	}
	tab.Go("/logs")
	tab.Click(".list [data-row]")
	tab.Wait(`document.querySelector("tr.details .unfold")`)
	tab.Shot("logs-open")
	tab.Clean("/logs, unfolded")
}

// walkRun goes from the list to a run by its link, and through its views.
func walkRun(tab *Tab, trace string) {
	tab.Go("/runs")
	tab.Click("a[data-row]")
	tab.Wait(`location.pathname.startsWith("/runs/") && document.querySelector(".wrow")`)
	tab.Clean("a run from the list")
	tab.Go("/runs/" + trace)
	tab.Wait(`document.querySelector(".wrow") && document.querySelector(".runhead h1")`)
	tab.Shot("run")
	for _, v := range []struct{ view, ready string }{
		{"agents", `document.querySelector(".gnode") && document.querySelector(".graphview table")`},
		{"transcript", `document.querySelector(".block")`},
		{"waterfall", `document.querySelector(".wrow")`},
	} {
		tab.Click(`[data-view="` + v.view + `"]`)
		tab.Wait(v.ready)
		tab.Shot("run-" + v.view)
		tab.Clean("run, " + v.view)
	}
}

// walkSpan opens a span by its link and each of its records in one step.
func walkSpan(tab *Tab, s spanTarget, exemplars bool) {
	tab.Go("/runs/" + s.trace + "#" + s.span)
	tab.Wait(fmt.Sprintf(`document.querySelector(".wrow.selected")?.dataset.span === %q`, s.span))
	steps := []string{"details", "content", "attributes", "logs", "audit"}
	if exemplars {
		steps = append(steps, "metrics")
	}
	for _, step := range steps {
		tab.Click("#tab-" + step)
		tab.Wait(`document.querySelector("#tab-` + step + `").getAttribute("aria-selected") === "true" && document.querySelector("#dbody").childElementCount > 0`)
		if step == "logs" || step == "audit" || step == "metrics" {
			tab.Wait(`document.querySelector("#dbody .record")`)
			tab.Click("#dbody .record summary")
			tab.Wait(`document.querySelector("#dbody .record[open] .unfold")`)
			if step == "metrics" {
				tab.Click("#dbody .now button")
				tab.Wait(`document.querySelector("#dbody .now .facts")`)
			}
		}
		tab.Shot("span-" + step)
		tab.Clean("span, " + step)
	}
	tab.Click("#tab-logs")
	tab.Click(`#dbody > div > p a[href^="/logs"]`)
	tab.Wait(`location.pathname === "/logs" && document.querySelector(".list tbody")`)
	tab.Clean("span to its logs")
	tab.Click(`.list [data-row]`)
	tab.Click(`tr.details a[href*="#"]`)
	tab.Wait(fmt.Sprintf(`location.hash === "#" + %q && document.querySelector(".wrow.selected")`, s.span))
	tab.Clean("log to its span")
}

// walkProof follows a span's audit entry into the ledger and verifies it there.
func walkProof(tab *Tab, s spanTarget) {
	tab.Go("/runs/" + s.trace + "#" + s.span)
	tab.Click("#tab-audit")
	tab.Click("#dbody .record summary")
	tab.Click(`#dbody .record[open] a[href^="/audit"]`)
	tab.Wait(`location.pathname === "/audit" && document.querySelector("tbody.target .details button")`)
	tab.Click("tbody.target .details button.btn")
	tab.Wait(`document.querySelector(".verdict-line")`)
	verdict := Eval[string](tab, `document.querySelector(".verdict").innerText`)
	if !strings.HasPrefix(verdict, "Proven") {
		tab.t.Errorf("proof of a span's entry: %s", verdict)
	}
	tab.Shot("audit-proof")
	tab.Clean("proof")
}

// walkTheme toggles the theme and finds it again after a reload.
func walkTheme(tab *Tab) {
	background := `getComputedStyle(document.body).backgroundColor`
	before := Eval[string](tab, background)
	tab.Click("#theme")
	after := Eval[string](tab, background)
	if before == after {
		tab.t.Errorf("the theme's button changes nothing: %s", before)
	}
	tab.Go("/agents")
	tab.Wait(`document.querySelector(".list tbody")`)
	reloaded := Eval[string](tab, background)
	if reloaded != after {
		tab.t.Errorf("after a reload the background is %s, chosen was %s", reloaded, after)
	}
	Eval[bool](tab, `(localStorage.removeItem("kaizen.theme"), true)`)
}

// spanTarget is a span with logs, audit entries and, if asked for, exemplars.
type spanTarget struct{ trace, span string }

// findSpan asks the API for a span that has every kind of record, in the run
// with the most agents: the richest one to walk through.
func findSpan(base string, exemplars bool) (spanTarget, error) {
	var runs struct {
		Traces []struct {
			TraceID string `json:"trace_id"`
			Agents  []string
			Errors  int
		}
	}
	if err := getJSON(base+"/api/traces?limit=100", &runs); err != nil {
		return spanTarget{}, err
	}
	list := runs.Traces
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return len(a.Agents) > len(b.Agents) || len(a.Agents) == len(b.Agents) && a.Errors > b.Errors
	})
	for _, t := range list {
		var answer struct {
			Entries []struct {
				SpanID string `json:"span_id"`
			}
		}
		if err := getJSON(base+"/api/audit?order=desc&limit=200&trace="+t.TraceID, &answer); err != nil {
			return spanTarget{}, err
		}
		for _, e := range answer.Entries {
			if e.SpanID == "" {
				continue
			}
			var r struct{ Logs, Audit, Exemplars []json.RawMessage }
			if err := getJSON(base+"/api/spans/"+t.TraceID+"/"+e.SpanID, &r); err != nil {
				return spanTarget{}, err
			}
			if len(r.Logs) > 0 && len(r.Audit) > 0 && (len(r.Exemplars) > 0 || !exemplars) {
				return spanTarget{t.TraceID, e.SpanID}, nil
			}
		}
	}
	return spanTarget{}, fmt.Errorf("no span of the newest %d runs has logs, audit entries and exemplars (wanted: %v)", len(list), exemplars)
}

func getJSON(url string, out any) error {
	res, err := http.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(out)
}
