package dashboards

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Rule is one recording or alerting rule.
type Rule struct {
	// File is the name of its file in rules/.
	File string
	// Name is the alert's name or the recorded series'.
	Name string
	// Alert says that it is an alert.
	Alert bool
	Expr  string
	// Severity, Runbook and For are an alert's.
	Severity, Runbook, For string
}

// LoadRules reads the rules of fsys, in order of files and places. It reads the
// form that the files here are written in, one key a line, and no other YAML:
// Prometheus itself checks them (promtool check rules).
func LoadRules(fsys fs.FS) ([]Rule, error) {
	names, err := fs.Glob(fsys, "rules/*.yml")
	if err != nil {
		return nil, fmt.Errorf("dashboards: list: %w", err)
	}
	var out []Rule
	for _, name := range names {
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("dashboards: read %s: %w", name, err)
		}
		rules, err := parseRules(string(b))
		if err != nil {
			return nil, fmt.Errorf("dashboards: %s: %w", name, err)
		}
		for i := range rules {
			rules[i].File = path.Base(name)
		}
		out = append(out, rules...)
	}
	return out, nil
}

func parseRules(text string) (out []Rule, err error) {
	block := -1 // the indentation of an expression over several lines
	for n, line := range strings.Split(text, "\n") {
		body := strings.TrimLeft(line, " ")
		indent := len(line) - len(body)
		if block >= 0 && (indent > block || body == "") {
			out[len(out)-1].Expr = strings.TrimSpace(out[len(out)-1].Expr + " " + strings.TrimSpace(body))
			continue
		}
		block = -1
		if item, ok := strings.CutPrefix(body, "- "); ok {
			body, indent = item, indent+2
		}
		key, value, _ := strings.Cut(body, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "alert", "record":
			out = append(out, Rule{Name: value, Alert: key == "alert"})
			continue
		case "expr", "for", "severity", "runbook_url":
		default:
			continue
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("line %d: %s outside a rule", n+1, key)
		}
		r := &out[len(out)-1]
		switch key {
		case "expr":
			if strings.HasPrefix(value, "|") || strings.HasPrefix(value, ">") {
				block = indent
				continue
			}
			r.Expr = strings.Trim(value, "'")
		case "for":
			r.For = value
		case "severity":
			r.Severity = value
		case "runbook_url":
			r.Runbook = value
		}
	}
	for _, r := range out {
		if r.Expr == "" {
			return nil, fmt.Errorf("rule %s has no expression", r.Name)
		}
	}
	return out, nil
}
