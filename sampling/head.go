// Package sampling decides which traces are recorded: at their head, before
// anything is known of them, or at their tail, when it is known whether they
// failed, were slow or cost much.
//
//	sampler, err := sampling.FromEnv(nil) // OTEL_TRACES_SAMPLER and its argument
//	tail, err := sampling.NewTail(exporter.SpanProcessor(), sampling.TailConfig{})
//	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(tail))
//
// A head sampler costs least: what it leaves out is never recorded, also where
// it would have been of interest. Before a [TailProcessor] let the head keep
// everything that the tail should see.
package sampling

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Variables of the environment that [FromEnv] reads.
const (
	EnvSampler = "OTEL_TRACES_SAMPLER"
	EnvArg     = "OTEL_TRACES_SAMPLER_ARG"
)

// Head returns a sampler that does as the parent of a span does and, of spans
// without a parent, keeps the given share by trace id: 0 keeps none, 1 all.
// Every process with the same share makes the same choice for a trace.
func Head(ratio float64) (sdktrace.Sampler, error) {
	if err := checkRatio(ratio); err != nil {
		return nil, fmt.Errorf("sampling: head sampler: %w", err)
	}
	return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)), nil
}

// FromEnv returns the sampler that OTEL_TRACES_SAMPLER names: always_on,
// always_off, traceidratio, or one of these after "parentbased_", with the
// ratio in OTEL_TRACES_SAMPLER_ARG, 1 if that is empty. If the variable is
// empty it returns fallback; if that is nil, one that keeps every trace whose
// parent is kept or that has none.
//
// A name or ratio that is not understood is an error, as is a sampler of the
// standard's that needs a service of another vendor (jaeger_remote, xray): a
// misspelt setting must not record everything or nothing in silence.
func FromEnv(fallback sdktrace.Sampler) (sdktrace.Sampler, error) {
	name := strings.ToLower(strings.TrimSpace(os.Getenv(EnvSampler)))
	if name == "" {
		if fallback == nil {
			fallback = sdktrace.ParentBased(sdktrace.AlwaysSample())
		}
		return fallback, nil
	}
	root, parentBased := strings.CutPrefix(name, "parentbased_")
	var s sdktrace.Sampler
	switch root {
	case "always_on":
		s = sdktrace.AlwaysSample()
	case "always_off":
		s = sdktrace.NeverSample()
	case "traceidratio":
		ratio, err := ratioFromEnv()
		if err != nil {
			return nil, err
		}
		s = sdktrace.TraceIDRatioBased(ratio)
	case "jaeger_remote", "xray":
		return nil, fmt.Errorf("sampling: read %s=%.40q: this sampler is not supported", EnvSampler, name)
	default:
		return nil, fmt.Errorf("sampling: read %s=%.40q: want always_on, always_off, traceidratio or one of them after parentbased_", EnvSampler, name)
	}
	if parentBased {
		s = sdktrace.ParentBased(s)
	}
	return s, nil
}

func ratioFromEnv() (float64, error) {
	arg := strings.TrimSpace(os.Getenv(EnvArg))
	if arg == "" {
		return 1, nil
	}
	ratio, err := strconv.ParseFloat(arg, 64)
	if err == nil {
		err = checkRatio(ratio)
	}
	if err != nil {
		return 0, fmt.Errorf("sampling: read %s: %w", EnvArg, err)
	}
	return ratio, nil
}

// checkRatio refuses what is no share, NaN among it.
func checkRatio(r float64) error {
	if r >= 0 && r <= 1 {
		return nil
	}
	return fmt.Errorf("ratio %v is not between 0 and 1", r)
}
