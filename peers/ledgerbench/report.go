package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

// target is what must hold of same-round figures, in the median.
type target struct {
	what   string
	value  func(r round) float64
	names  []string // the contenders it needs
	limit  float64
	atMost bool // limit is the most, not the least
	unit   string
}

// round is what all did in one.
type round map[string]result

func rateOver(a, b string) func(round) float64 {
	return func(r round) float64 { return r[a].rate / r[b].rate }
}

func targets() []target {
	over := func(a, b string, limit float64) target {
		return target{what: a + " over " + b, value: rateOver(a, b), names: []string{a, b}, limit: limit, unit: "x"}
	}
	list := []target{
		over("ledger 1", "naive", 1.2), over("ledger 8", "naive", 9), over("ledger 64", "naive", 35),
		over("ledger 256", "naive", 65), over("ledger 8x64", "naive", 140),
		{
			what: "p50 of ledger 1 over the device's flush", names: []string{"ledger 1", "flush"}, limit: 1.3, atMost: true, unit: "x",
			value: func(r round) float64 { return float64(r["ledger 1"].p50) / float64(r["flush"].p50) },
		},
		{
			what: "p99 of ledger 64 over that of the flush", names: []string{"ledger 64", "flush"}, limit: 4, atMost: true, unit: "x",
			value: func(r round) float64 { return float64(r["ledger 64"].p99) / float64(r["flush"].p99) },
		},
	}
	for _, n := range []string{"1", "8", "64", "256"} {
		list = append(list, over("ledger "+n, "tessera "+n, 15))
	}
	return append(list,
		over("ledger 64", "sqlite 64", 4),
		over("ledger 1x1000", "postgres 1x1000", 1),
		target{
			what: "ledger relaxed 1", names: []string{"ledger relaxed 1"}, limit: 200_000, unit: " entries/s",
			value: func(r round) float64 { return r["ledger relaxed 1"].rate },
		},
		target{
			what: "CPU of ledger 256", names: []string{"ledger 256"}, limit: 5, atMost: true, unit: " µs an entry",
			value: func(r round) float64 { return float64(r["ledger 256"].cpu) / float64(time.Microsecond) },
		},
	)
}

func printResults(all []contender, results map[string][]result) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "contender\tentries/s\tof naive\tp50 µs\tp99 µs\tCPU µs/entry\t")
	for _, c := range all {
		var rate, ratio, p50, p99, cpu []float64
		for i, r := range results[c.name] {
			rate = append(rate, r.rate)
			ratio = append(ratio, r.rate/results["naive"][i].rate)
			p50, p99, cpu = append(p50, micros(r.p50)), append(p99, micros(r.p99)), append(cpu, micros(r.cpu))
		}
		fmt.Fprintf(out, "%s\t%.0f\t%.2fx\t%.0f\t%.0f\t%.2f\t\n", c.name, median(rate), median(ratio), median(p50), median(p99), median(cpu))
	}
	_ = out.Flush() // to standard output: nobody is left to tell
	fmt.Println()
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// printTargets prints a line for each target whose contenders ran, and returns
// how many were missed.
func printTargets(results map[string][]result) (missed int) {
	for _, t := range targets() {
		values := valuesOf(t, results)
		if len(values) == 0 {
			continue
		}
		got, sign, verdict := median(values), "at least", "PASS"
		if t.atMost {
			sign = "at most"
		}
		if t.atMost && got > t.limit || !t.atMost && got < t.limit {
			verdict = "MISS"
			missed++
		}
		fmt.Printf("%s  %s: %.4g%s, %s %g\n", verdict, t.what, got, t.unit, sign, t.limit)
	}
	return missed
}

// valuesOf is t's figure in each round, none if a contender did not run.
func valuesOf(t target, results map[string][]result) (values []float64) {
	for i := range results["naive"] {
		r := round{}
		for _, name := range t.names {
			if len(results[name]) == 0 {
				return nil
			}
			r[name] = results[name][i]
		}
		values = append(values, t.value(r))
	}
	return values
}
