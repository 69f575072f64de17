package agent

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// FuzzPlan: a plan has few steps of one line, and what the model is shown of it
// reads as the same plan again.
func FuzzPlan(f *testing.F) {
	f.Add("1. Look.\n2) Think.\n**3.** Answer.")
	f.Add("Step 1: a\r\n\t10. b\n1.c\n2.  \n")
	f.Add("1. \u00a0x\xff\v\n999. - y")
	f.Fuzz(func(t *testing.T, text string) {
		steps := parsePlan(text)
		if len(steps) > maxPlanSteps {
			t.Fatalf("%d steps", len(steps))
		}
		for _, s := range steps {
			if s == "" || strings.Contains(s, "\n") || !strings.Contains(text, s) {
				t.Fatalf("step %q of %q", s, text)
			}
		}
		a := &Agent{}
		if again := parsePlan(a.system(&task{res: &Result{Plan: steps}})); !slices.Equal(steps, again) {
			t.Fatalf("plan %q reads again as %q", steps, again)
		}
	})
}

// FuzzPending: whatever a checkpoint holds, the calls that are made when it is
// resumed are of its last turn and have no result; made, none is left.
func FuzzPending(f *testing.F) {
	f.Add([]byte(`[{"role":"user","text":"x"},{"role":"assistant","tool_calls":[{"id":"1","name":"a","arguments":{}},{"id":"2","name":"b","arguments":{}}]},{"role":"tool","tool_results":[{"id":"2","name":"b","text":"r"}]}]`))
	f.Add([]byte(`[{"role":"assistant","tool_calls":[{"id":"","name":"a","arguments":null}]}]`))
	f.Add([]byte(`[{"role":"tool","tool_results":[{"id":"2","name":"b","text":"r"}]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var ms []Message
		if json.Unmarshal(data, &ms) != nil || len(ms) == 0 {
			return
		}
		tk := &task{res: &Result{Messages: ms}}
		calls, before := tk.pending()
		if len(calls) == 0 {
			return
		}
		if before < 1 || before > len(ms) || ms[before-1].Role != Assistant {
			t.Fatalf("%d of %d messages come before the results", before, len(ms))
		}
		var results []ToolResult
		if before < len(ms) {
			results = ms[before].ToolResults
		}
		for _, c := range calls {
			if slices.ContainsFunc(results, func(r ToolResult) bool { return r.ID == c.ID }) {
				t.Fatalf("call %q has a result", c.ID)
			}
		}
		for _, c := range calls {
			results = append(results, ToolResult{ID: c.ID, Name: c.Name})
		}
		tk.res.Messages = append(slices.Clone(ms[:before]), Message{Role: ToolRole, ToolResults: results})
		if left, _ := tk.pending(); len(left) != 0 {
			t.Fatalf("%d calls are left", len(left))
		}
	})
}
