package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

type searchQuery struct {
	Query string `json:"query" jsonschema:"what to look for"`
}

// archive is what the demo's tools know.
var archive = map[string]string{
	"water level": "Gauge readings of the week in cm: 212, 208, 215, 221, 219, 230, 226.",
	"rainfall":    "Rain fell on four of the seven days.",
}

func search(_ context.Context, q searchQuery) ([]string, error) {
	var hits []string
	for title, text := range archive {
		if strings.Contains(strings.ToLower(q.Query), title) {
			hits = append(hits, text)
		}
	}
	return hits, nil
}

type page struct {
	Name string `json:"name" jsonschema:"the page's name"`
}

var errNoPage = errors.New("the archive has no such page")

func fetchPage(_ context.Context, p page) (string, error) {
	text, ok := archive[p.Name]
	if !ok {
		return "", fmt.Errorf("page %q: %w", p.Name, errNoPage)
	}
	return text, nil
}

type numbers struct {
	Numbers []float64 `json:"numbers" jsonschema:"the numbers to add up"`
}

type sum struct {
	Sum  float64 `json:"sum"`
	Mean float64 `json:"mean"`
}

func calculate(_ context.Context, n numbers) (sum, error) {
	if len(n.Numbers) == 0 {
		return sum{}, errors.New("no numbers to add up")
	}
	var s sum
	for _, x := range n.Numbers {
		s.Sum += x
	}
	s.Mean = s.Sum / float64(len(n.Numbers))
	return s, nil
}

type command struct {
	Command string `json:"command" jsonschema:"the command line"`
}

// runShell is never reached: the policy denies it.
func runShell(context.Context, command) (string, error) {
	return "", errors.New("this team has no shell")
}

type note struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

func saveNote(_ context.Context, n note) (string, error) {
	return fmt.Sprintf("saved %q (%d bytes)", n.Title, len(n.Text)), nil
}

type testRun struct {
	Package string `json:"package" jsonschema:"the package to test"`
}

type testResult struct {
	Passed int `json:"passed"`
	Failed int `json:"failed"`
}

func runTests(_ context.Context, t testRun) (testResult, error) {
	return testResult{Passed: 4 + len(t.Package)%3}, nil
}
