package dashboards_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"testing/fstest"

	"github.com/kaizen-go/kaizen/dashboards"
)

func ExampleLoad() {
	boards, err := dashboards.Load(dashboards.Files)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, b := range boards {
		fmt.Printf("%s: %d panels\n", b.Title, len(b.Panels))
	}
	// Output:
	// Kaizen: Agent Monitoring: 12 panels
	// Kaizen: Audit & Compliance: 18 panels
	// Kaizen: its own health: 14 panels
	// Kaizen: Performance Metrics: 15 panels
}

// TestFiles holds what a provisioned file must have.
func TestFiles(t *testing.T) {
	names, err := fs.Glob(dashboards.Files, "grafana/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := fs.ReadFile(dashboards.Files, name)
			if err != nil {
				t.Fatal(err)
			}
			var d struct {
				SchemaVersion int
				Dashboard     any
				Panels        []struct {
					Title, Description, Type string
					Datasource               struct{ Type, UID string }
					Targets                  []struct{ Expr string }
					FieldConfig              struct {
						Defaults struct {
							Unit       string
							Thresholds struct{ Steps []any }
						}
					}
				}
			}
			if err := json.Unmarshal(b, &d); err != nil {
				t.Fatal(err)
			}
			if d.SchemaVersion < 41 || d.Dashboard != nil {
				t.Errorf("schemaVersion %d, wrapped %v", d.SchemaVersion, d.Dashboard != nil)
			}
			for _, p := range d.Panels {
				if p.Description == "" || p.Datasource.UID == "" || len(p.Targets) == 0 || len(p.FieldConfig.Defaults.Thresholds.Steps) == 0 {
					t.Errorf("panel %q lacks description, data source, query or thresholds", p.Title)
				}
				if p.FieldConfig.Defaults.Unit == "" && p.Title != "Audit Event Timeline (Last 100)" {
					t.Errorf("panel %q has no unit", p.Title)
				}
				if p.Type == "graph" || p.Type == "singlestat" {
					t.Errorf("panel %q is of the type %s, which Grafana no longer has", p.Title, p.Type)
				}
			}
		})
	}
}

// TestRunbooksOfPanels: the pages that panels link to are there.
func TestRunbooksOfPanels(t *testing.T) {
	names, err := fs.Glob(dashboards.Files, "grafana/*.json")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range names {
		b, err := fs.ReadFile(dashboards.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`docs/runbooks/[A-Za-z-]+\.md`).FindAllString(string(b), -1) {
			seen++
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(m))); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if seen < 30 {
		t.Errorf("%d links to runbooks", seen)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"wrapped", `{"dashboard": {"title": "x", "uid": "x"}}`},
		{"not JSON", `{`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := dashboards.Load(fstest.MapFS{"grafana/a.json": {Data: []byte(c.text)}}); err == nil {
				t.Error("Load = nil error")
			}
		})
	}
}

func TestLoadRulesRefuses(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"no expression", "groups:\n- name: a\n  rules:\n  - alert: A\n    for: 1m\n"},
		{"outside a rule", "expr: x\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := dashboards.LoadRules(fstest.MapFS{"rules/a.yml": {Data: []byte(c.text)}}); err == nil {
				t.Error("LoadRules = nil error")
			}
		})
	}
	block := "groups:\n- rules:\n  - alert: A\n    expr: |\n      up\n      == 0\n    labels:\n      severity: page\n"
	rules, err := dashboards.LoadRules(fstest.MapFS{"rules/a.yml": {Data: []byte(block)}})
	if err != nil || len(rules) != 1 || rules[0].Expr != "up == 0" || rules[0].Severity != "page" {
		t.Errorf("LoadRules = %+v, %v", rules, err)
	}
}
