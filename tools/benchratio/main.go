// Command benchratio runs the project's benchmarks beside their baselines and
// prints a table of ratios.
//
// A machine that others use as well changes its speed from minute to minute, so
// absolute times say little: subject and baseline run in the same round, several
// rounds are run, and the median of the ratios of each round is printed.
//
//	go run ./tools/benchratio [-rounds 15] [-time 40ms] [-cpu 1] [-only audit]
//
// The root package's name is kaizen.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	rounds := flag.Int("rounds", 15, "how often each benchmark runs")
	benchtime := flag.String("time", "40ms", "how long one run takes, as for go test -benchtime")
	only := flag.String("only", "", "run only the packages whose path contains this")
	cpu := flag.Int("cpu", 0, "how many processors a run may use; all of them if 0")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *rounds, *benchtime, *cpu, *only); err != nil {
		fmt.Fprintln(os.Stderr, "benchratio:", err)
		os.Exit(1)
	}
}

// result is what one run of one benchmark measured.
type result struct {
	ns     float64
	bytes  float64
	allocs float64
}

func run(ctx context.Context, w io.Writer, rounds int, benchtime string, cpu int, only string) error {
	dir, err := os.MkdirTemp("", "benchratio-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "package\twhat\tns/op\tB/op\tallocs\tbaseline\tns/op\tratio")
	for _, s := range suites {
		if !strings.Contains(s.name(), only) {
			continue
		}
		if err := s.run(ctx, t, dir, rounds, benchtime, cpu); err != nil {
			return fmt.Errorf("%s: %w", s.pkg, err)
		}
	}
	return t.Flush()
}

// run compiles the package's tests once and runs them round by round.
func (s suite) run(ctx context.Context, w io.Writer, dir string, rounds int, benchtime string, cpu int) error {
	binary := filepath.Join(dir, strings.NewReplacer("/", "-", ".", "").Replace(s.pkg)+".test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, s.pkg)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	measured := make(map[string][]result)
	for round := range rounds {
		fmt.Fprintf(os.Stderr, "benchratio: %s, round %d of %d\n", s.pkg, round+1, rounds)
		args := []string{"-test.run", "^$", "-test.bench", s.pattern(), "-test.benchmem", "-test.benchtime", benchtime}
		if cpu > 0 {
			args = append(args, "-test.cpu", strconv.Itoa(cpu))
		}
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Dir = strings.TrimPrefix(s.pkg, "./")
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("run: %w\n%s", err, out)
		}
		for name, r := range parse(out) {
			measured[name] = append(measured[name], r)
		}
	}
	for _, p := range s.pairs {
		if err := p.print(w, s.pkg, measured); err != nil {
			return err
		}
	}
	return nil
}

// name is the suite's package as -only has it.
func (s suite) name() string {
	if s.pkg == "." {
		return "kaizen"
	}
	return s.pkg
}

// pattern matches the top-level benchmarks of the suite.
func (s suite) pattern() string {
	var names []string
	for _, p := range s.pairs {
		for _, n := range [...]string{p.subject, p.baseline} {
			top, _, _ := strings.Cut(n, "/")
			if top != "" && !slices.Contains(names, top) {
				names = append(names, top)
			}
		}
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

// parse reads the lines of a benchmark run.
func parse(out []byte) map[string]result {
	results := make(map[string]result)
	for line := range bytes.Lines(out) {
		f := strings.Fields(string(line))
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := f[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		var r result
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				continue
			}
			switch f[i+1] {
			case "ns/op":
				if r.ns == 0 {
					r.ns = v
				}
			case "caller-ns/op": // the processor time, where a benchmark reports it
				r.ns = v
			case "B/op":
				r.bytes = v
			case "allocs/op":
				r.allocs = v
			}
		}
		results[name] = r
	}
	return results
}

// print writes one row: medians, and the median of the rounds' ratios.
func (p pair) print(w io.Writer, pkg string, measured map[string][]result) error {
	subject, baseline := measured[p.subject], measured[p.baseline]
	if len(subject) == 0 || len(baseline) != len(subject) {
		return fmt.Errorf("no results for %s beside %s: was a benchmark renamed?", p.subject, p.baseline)
	}
	ratios := make([]float64, len(subject))
	for i := range subject {
		ratios[i] = subject[i].ns / baseline[i].ns
	}
	ns := func(r result) float64 { return r.ns }
	fmt.Fprintf(w, "%s\t%s\t%.1f\t%.0f\t%.0f\t%s\t%.1f\t%.2f\n", strings.TrimPrefix(pkg, "./"), p.what,
		median(subject, ns), median(subject, func(r result) float64 { return r.bytes }),
		median(subject, func(r result) float64 { return r.allocs }), p.against, median(baseline, ns), medianOf(ratios))
	return nil
}

func median(rs []result, field func(result) float64) float64 {
	vs := make([]float64, len(rs))
	for i, r := range rs {
		vs[i] = field(r)
	}
	return medianOf(vs)
}

func medianOf(vs []float64) float64 {
	vs = slices.Sorted(slices.Values(vs))
	n := len(vs)
	if n%2 == 1 {
		return vs[n/2]
	}
	return (vs[n/2-1] + vs[n/2]) / 2
}
