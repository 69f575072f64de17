package sampling

import (
	"fmt"
	"time"
)

// Off as a field of [TailConfig] switches that reason to keep a trace off.
const Off = -1

// What a [TailConfig] has where a field is zero.
const (
	DefaultRatio       = 0.1
	DefaultSlow        = 30 * time.Second
	DefaultCostNanoUSD = 100_000_000 // 10 cents
	DefaultMaxTraces   = 10_000
	DefaultMaxSpans    = 100_000
	DefaultMaxBytes    = 64 << 20
	DefaultMaxAge      = 5 * time.Minute
	DefaultMaxDecided  = 16_384 // some 3 MiB
)

// TailConfig tunes a [TailProcessor]. The zero value is fit for production.
type TailConfig struct {
	// Ratio is the share of the traces kept that are neither an error nor slow
	// nor costly, chosen by trace id: [DefaultRatio] if zero, none if [Off].
	Ratio float64
	// Slow keeps a trace whose local root takes longer: [DefaultSlow] if zero,
	// never if [Off].
	Slow time.Duration
	// CostNanoUSD keeps a trace whose model calls cost more, in billionths of
	// a dollar: [DefaultCostNanoUSD] if zero, never if [Off].
	CostNanoUSD int64

	// MaxTraces, MaxSpans and MaxBytes bound what is held; the defaults stand
	// above. When one is passed, the trace that is open longest is decided by
	// what is known of it. Bytes are an estimate of the spans in memory.
	MaxTraces, MaxSpans int
	MaxBytes            int64
	// MaxAge is how long a trace is held; it is decided by what is known then,
	// at most a tenth later. [DefaultMaxAge] if zero.
	MaxAge time.Duration
	// MaxDecided is how many decisions are remembered for spans that end after
	// their local root: the most recently used stay. [DefaultMaxDecided] if zero.
	MaxDecided int
}

func (c TailConfig) withDefaults() (TailConfig, error) {
	for _, f := range [...]struct {
		name  string
		value float64
		min   float64 // Off where a field may be
	}{
		{"Slow", float64(c.Slow), Off},
		{"CostNanoUSD", float64(c.CostNanoUSD), Off},
		{"MaxTraces", float64(c.MaxTraces), 0},
		{"MaxSpans", float64(c.MaxSpans), 0},
		{"MaxBytes", float64(c.MaxBytes), 0},
		{"MaxAge", float64(c.MaxAge), 0},
		{"MaxDecided", float64(c.MaxDecided), 0},
	} {
		if f.value < f.min {
			return c, fmt.Errorf("%s is negative", f.name)
		}
	}
	if c.Ratio != Off {
		if err := checkRatio(c.Ratio); err != nil {
			return c, err
		}
	}
	fill(&c.Ratio, DefaultRatio)
	fill(&c.Slow, DefaultSlow)
	fill(&c.CostNanoUSD, DefaultCostNanoUSD)
	fill(&c.MaxTraces, DefaultMaxTraces)
	fill(&c.MaxSpans, DefaultMaxSpans)
	fill(&c.MaxBytes, DefaultMaxBytes)
	fill(&c.MaxAge, DefaultMaxAge)
	fill(&c.MaxDecided, DefaultMaxDecided)
	return c, nil
}

func fill[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
