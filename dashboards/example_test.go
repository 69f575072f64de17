package dashboards_test

import (
	"fmt"

	"github.com/kaizen-go/kaizen/dashboards"
)

func ExampleLoadRules() {
	rules, err := dashboards.LoadRules(dashboards.Files)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range rules {
		if r.Alert && r.Name == "KaizenAgentLoopSlow" {
			fmt.Println(r.Severity, r.Runbook != "")
		}
	}
	// Output: warning true
}
