package main

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRun: a short run observes every call, discards none and prints its table.
func TestRun(t *testing.T) {
	t.Setenv("KAIZEN_SERVER", "")
	var b strings.Builder
	if err := run(t.Context(), &b, config{pairs: 12, parallel: 4, min: time.Millisecond, max: 5 * time.Millisecond, seed: 1}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`12 pairs of calls of 1ms to 5ms, 4 at a time, 0 discarded`,
		`without +\d`, `with +\d`, `difference +-?\d`,
		`mean difference -?\d+\.\d+ ms, 95 % interval -?\d+\.\d+ to -?\d+\.\d+ ms`,
		`recorded: \d\d+ spans sent, \d\d+ audit entries, 0 entries lost`,
	} {
		if !regexp.MustCompile(want).MatchString(b.String()) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestBadConfig(t *testing.T) {
	for _, cfg := range []config{{}, {pairs: 2}, {pairs: 2, parallel: 1, min: 2, max: 1}} {
		if err := run(t.Context(), &strings.Builder{}, cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

// TestBootstrap: the interval of values without spread is a point; that of
// normal ones has the width that theory gives, 2·1.96·σ/√n.
func TestBootstrap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	if low, high := bootstrap([]float64{3, 3, 3}, random); low != 3 || high != 3 {
		t.Errorf("interval of equal values = %v to %v", low, high)
	}
	values := make([]float64, 400)
	for i := range values {
		values[i] = 10 + 2*random.NormFloat64()
	}
	low, high := bootstrap(values, random)
	if m := mean(values); low > m || high < m {
		t.Errorf("%v to %v is not around the mean %v", low, high, m)
	}
	if width := high - low; width < 0.33 || width > 0.46 { // 0.392
		t.Errorf("width = %v", width)
	}
}

func TestQuantile(t *testing.T) {
	s := []float64{1, 2, 3, 4}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4} {
		if got := quantile(s, q); got != want {
			t.Errorf("quantile(%v) = %v, want %v", q, got, want)
		}
	}
}
