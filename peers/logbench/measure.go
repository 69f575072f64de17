package main

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"
)

// sink takes lines and keeps none. It is no io.Discard, which some would know.
type sink struct{ bytes int }

func (s *sink) Write(p []byte) (int, error) {
	s.bytes += len(p)
	return len(p), nil
}

// target is what must hold of costs of the same round, in the median.
type target struct {
	subject, baseline string
	suppressed        bool
	limit             float64 // of the ratio; 0 for none, only shown
}

func targets() []target {
	var list []target
	for _, ours := range []string{"kaizen", "kaizen, no redaction"} {
		list = append(list,
			target{subject: ours, baseline: "phuslu with ids", limit: 1}, target{subject: ours, baseline: "zerolog with ids", limit: 1},
			target{subject: ours, baseline: "slog with ids", limit: 1},
			target{subject: ours, baseline: "phuslu bare"}, target{subject: ours, baseline: "zerolog bare"}, target{subject: ours, baseline: "slog bare"})
	}
	return append(list, target{subject: "kaizen", baseline: "slog bare", suppressed: true, limit: 1})
}

// measured is one contender at work.
type measured struct {
	contender
	line, quiet    *slog.Logger
	written        sink
	cost, muted    []float64 // nanoseconds a line, by round
	allocs, silent float64
}

// bench measures all contenders, prints what they took and what that is in
// ratios, and returns how many targets were missed.
func bench(w io.Writer, rounds, lines int) (missed int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx := runContext()
	var all []*measured
	for _, c := range contenders() {
		m := &measured{contender: c}
		h, err := c.handler(&m.written, slog.LevelInfo)
		if err != nil {
			return 0, fmt.Errorf("start %s: %w", c.name, err)
		}
		q, err := c.handler(&m.written, slog.LevelError)
		if err != nil {
			return 0, fmt.Errorf("start %s: %w", c.name, err)
		}
		m.line, m.quiet = slog.New(h), slog.New(q)
		m.allocs = testing.AllocsPerRun(1000, func() { logLine(ctx, m.line) })
		m.silent = testing.AllocsPerRun(1000, func() { m.quiet.InfoContext(ctx, "m", "k", "v") })
		all = append(all, m)
	}
	for round := range rounds {
		for i := range all {
			m := all[(i+round)%len(all)]
			m.cost = append(m.cost, perLine(lines, func() { logLine(ctx, m.line) }))
		}
		for i := range all {
			m := all[(i+round)%len(all)]
			m.muted = append(m.muted, perLine(lines, func() { m.quiet.InfoContext(ctx, "m", "k", "v") }))
		}
	}
	return report(w, all)
}

// perLine returns the processor time of a line in nanoseconds.
func perLine(lines int, f func()) float64 {
	for range lines / 10 { // caches, and what the one before has left of them
		f()
	}
	start := processorTime()
	for range lines {
		f()
	}
	return float64(processorTime()-start) / float64(lines)
}

func report(w io.Writer, all []*measured) (missed int, err error) {
	byName := make(map[string]*measured)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "handler\tns a line\tallocs\tbelow the level, ns\tallocs")
	for _, m := range all {
		byName[m.name] = m
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.1f\t%.0f\n", m.name, median(m.cost), m.allocs, median(m.muted), m.silent)
	}
	fmt.Fprintln(t, "\nwhat\tover\tratio\ttarget")
	for _, g := range targets() {
		a, b := byName[g.subject], byName[g.baseline]
		ratio, what := medianRatio(a.cost, b.cost), g.subject
		if g.suppressed {
			ratio, what = medianRatio(a.muted, b.muted), g.subject+", below the level"
		}
		verdict := ""
		if g.limit > 0 {
			if verdict = fmt.Sprintf("at most %.2f: PASS", g.limit); ratio > g.limit {
				verdict = fmt.Sprintf("at most %.2f: MISS", g.limit)
				missed++
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%s\n", what, g.baseline, ratio, verdict)
	}
	extra := byName["kaizen"].allocs - byName["nothing"].allocs
	verdict := "at most 1: PASS"
	if extra > 1 {
		verdict = "at most 1: MISS"
		missed++
	}
	fmt.Fprintf(t, "allocations of a line beyond slog's own\t\t%.0f\t%s\n", extra, verdict)
	return missed, t.Flush()
}

func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}

func median(vs []float64) float64 {
	vs = slices.Sorted(slices.Values(vs))
	n := len(vs)
	if n == 0 {
		return 0
	}
	return (vs[(n-1)/2] + vs[n/2]) / 2
}

// showLines prints what each contender writes.
func showLines(w io.Writer) error {
	for _, c := range contenders() {
		h, err := c.handler(w, slog.LevelInfo)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s:\n", c.name); err != nil {
			return err
		}
		logLine(runContext(), slog.New(h))
	}
	return nil
}
