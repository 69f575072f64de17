package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"text/tabwriter"
	"time"
)

// resamples is how often the bootstrap draws the pairs anew.
const resamples = 10_000

// bootstrap returns the 2.5th and 97.5th percentile of the means of samples
// that are drawn from values with replacement (Efron's percentile interval).
func bootstrap(values []float64, random *rand.Rand) (low, high float64) {
	means := make([]float64, resamples)
	for i := range means {
		sum := 0.0
		for range values {
			sum += values[random.IntN(len(values))]
		}
		means[i] = sum / float64(len(values))
	}
	slices.Sort(means)
	return quantile(means, 0.025), quantile(means, 0.975)
}

// quantile is the q-quantile of sorted values, by linear interpolation at rank (n-1)·q.
func quantile(sorted []float64, q float64) float64 {
	rank := q * float64(len(sorted)-1)
	i := int(rank)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (rank-float64(i))*(sorted[i+1]-sorted[i])
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// report prints the table. Times are in milliseconds.
func report(w io.Writer, cfg config, pairs []pair) {
	plain, observed, diff := make([]float64, len(pairs)), make([]float64, len(pairs)), make([]float64, len(pairs))
	for i, p := range pairs {
		plain[i], observed[i] = milliseconds(p.plain), milliseconds(p.observed)
		diff[i] = observed[i] - plain[i]
	}
	low, high := bootstrap(diff, rand.New(rand.NewPCG(cfg.seed, 1)))
	fmt.Fprintf(w, "%d pairs of calls of %v to %v, %d at a time, 0 discarded; milliseconds\n", len(pairs), cfg.min, cfg.max, cfg.parallel)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tmean\tmedian\tp95\tmax\t")
	for _, row := range []struct {
		name   string
		values []float64
	}{{"without", plain}, {"with", observed}, {"difference", diff}} {
		s := slices.Sorted(slices.Values(row.values))
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.3f\t%.3f\t\n", row.name, mean(s), quantile(s, 0.5), quantile(s, 0.95), s[len(s)-1])
	}
	_ = t.Flush() // what the writer refuses shows in the caller's next write
	fmt.Fprintf(w, "mean difference %.3f ms, 95 %% interval %.3f to %.3f ms: %.3f %% (%.3f to %.3f %%) of a call\n",
		mean(diff), low, high, 100*mean(diff)/mean(plain), 100*low/mean(plain), 100*high/mean(plain))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
