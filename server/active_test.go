package server

import (
	"strings"
	"testing"
)

// TestActiveRuns: a run that was announced is active until it ends, in the
// metrics derived for senders that push none.
func TestActiveRuns(t *testing.T) {
	s := start(t, testConfig(t))
	pending := strings.Replace(strings.Replace(oneSpan, `"endTimeUnixNano":"1767225601000000000"`, `"endTimeUnixNano":"0"`, 1),
		`"attributes":[`, `"attributes":[{"key":"kaizen.pending","value":{"boolValue":true}},`, 1)
	for _, step := range []struct{ body, want, not string }{
		{pending, `kaizen_agents_active{agent="planner"} 1`, "kaizen_agent_runs_total{"},
		{oneSpan, `kaizen_agents_active{agent="planner"} 0`, ""},
		{oneSpan, `kaizen_agent_runs_total{agent="planner",status="ok"} 1`, ""}, // sent again, counted once
	} {
		if status, _, body := call(t, "POST", s.OTLPHTTPURL()+"/v1/traces", []byte(step.body), "Content-Type", "application/json"); status != 200 {
			t.Fatalf("export = %d %s", status, body)
		}
		_, _, page := call(t, "GET", s.UIURL()+"/metrics", nil)
		if !strings.Contains(page, step.want) {
			t.Errorf("the metrics have no %s", step.want)
		}
		if step.not != "" && strings.Contains(page, step.not) {
			t.Errorf("the metrics have %s already", step.not)
		}
	}
}
