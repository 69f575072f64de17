// Command testreport reads the output of go test -json, prints what a person
// wants to see of it (packages, and the output of tests that failed or were
// skipped), and ends with the line "N passed, N failed, N skipped".
//
// It exits 1 when a test failed, when no test ran, or when CI=true and a test
// was skipped: on a machine where everything is installed, a skip hides a gap.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// event is one line of go test -json.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string
	Elapsed                       float64
}

// report adds up events.
type report struct {
	w                       io.Writer
	passed, failed, skipped int
	brokenPackages          int
	output                  map[string][]string // by package and test, until it ended
}

func main() {
	r := &report{w: os.Stdout, output: make(map[string][]string)}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	os.Exit(r.end(os.Getenv("CI") == "true"))
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil {
		fmt.Fprint(r.w, string(line)) // the go command's own words
		return
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "build-output":
		fmt.Fprint(r.w, e.Output)
	case "pass", "fail", "skip":
		r.ended(e, r.output[key])
		delete(r.output, key)
	}
}

func (r *report) ended(e event, output []string) {
	if e.Test == "" {
		if e.Action == "fail" {
			r.brokenPackages++
			r.unended(e.Package)
			fmt.Fprint(r.w, strings.Join(output, ""))
		}
		fmt.Fprintf(r.w, "%s\t%s\t%.1fs\n", e.Action, e.Package, e.Elapsed)
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprint(r.w, strings.Join(output, ""))
	case "skip":
		r.skipped++
		fmt.Fprint(r.w, strings.Join(output, ""))
	}
}

// unended prints the output of tests that have not ended: one of them has ended
// the process.
func (r *report) unended(pkg string) {
	for _, key := range slices.Sorted(maps.Keys(r.output)) {
		if strings.HasPrefix(key, pkg+" ") && key != pkg+" " {
			fmt.Fprint(r.w, strings.Join(r.output[key], ""))
			delete(r.output, key)
		}
	}
}

// end prints the sums and returns the exit code.
func (r *report) end(ci bool) int {
	fmt.Fprintf(r.w, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	switch {
	case r.failed > 0 || r.brokenPackages > 0:
		return 1
	case r.passed == 0:
		fmt.Fprintln(r.w, "testreport: no test ran")
		return 1
	case ci && r.skipped > 0:
		fmt.Fprintln(r.w, "testreport: with CI=true a skipped test is a failure")
		return 1
	}
	return 0
}
