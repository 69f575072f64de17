package sampling_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/sampling"
)

func TestFromEnv(t *testing.T) {
	for _, tt := range []struct{ name, sampler, arg, want, err string }{
		{"unset", "", "", sdktrace.ParentBased(sdktrace.AlwaysSample()).Description(), ""},
		{"argument alone means nothing", "", "junk", sdktrace.ParentBased(sdktrace.AlwaysSample()).Description(), ""},
		{"on", "always_on", "", "AlwaysOnSampler", ""},
		{"off", "always_off", "", "AlwaysOffSampler", ""},
		{"argument that is not asked for", "always_on", "junk", "AlwaysOnSampler", ""},
		{"ratio", "traceidratio", "0.25", "TraceIDRatioBased{0.25}", ""},
		{"ratio without argument", "traceidratio", "", "TraceIDRatioBased{1}", ""},
		{"none", "traceidratio", "0", "TraceIDRatioBased{0}", ""},
		{"parent and on", "parentbased_always_on", "", sdktrace.ParentBased(sdktrace.AlwaysSample()).Description(), ""},
		{"parent and off", "parentbased_always_off", "", sdktrace.ParentBased(sdktrace.NeverSample()).Description(), ""},
		{"parent and ratio", "parentbased_traceidratio", "0.5", sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.5)).Description(), ""},
		{"spaces and case", " ParentBased_TraceIDRatio ", " 5e-1 ", sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.5)).Description(), ""},
		{"unknown", "sometimes", "", "", `OTEL_TRACES_SAMPLER="sometimes": want always_on`},
		{"prefix alone", "parentbased_", "", "", "want always_on"},
		{"jaeger", "jaeger_remote", "", "", "not supported"},
		{"jaeger with parent", "parentbased_jaeger_remote", "", "", "not supported"},
		{"xray", "xray", "", "", "not supported"},
		{"no number", "traceidratio", "half", "", `OTEL_TRACES_SAMPLER_ARG: strconv.ParseFloat: parsing "half"`},
		{"negative", "traceidratio", "-0.1", "", "ratio -0.1 is not between 0 and 1"},
		{"above one", "parentbased_traceidratio", "1.1", "", "ratio 1.1 is not between 0 and 1"},
		{"NaN", "traceidratio", "NaN", "", "ratio NaN is not between 0 and 1"},
		{"infinite", "traceidratio", "Inf", "", "ratio +Inf is not between 0 and 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(sampling.EnvSampler, tt.sampler)
			t.Setenv(sampling.EnvArg, tt.arg)
			s, err := sampling.FromEnv(nil)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("FromEnv = %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || s.Description() != tt.want {
				t.Errorf("FromEnv = %v, %v, want %s", s, err, tt.want)
			}
		})
	}
	t.Run("fallback", func(t *testing.T) {
		t.Setenv(sampling.EnvSampler, "")
		if s, err := sampling.FromEnv(sdktrace.NeverSample()); err != nil || s != sdktrace.NeverSample() {
			t.Errorf("FromEnv = %v, %v, want the fallback", s, err)
		}
	})
}

func TestHead(t *testing.T) {
	for _, bad := range []float64{-0.1, 1.5, math.NaN(), math.Inf(1)} {
		if _, err := sampling.Head(bad); err == nil {
			t.Errorf("Head(%v) has no error", bad)
		}
	}
	s, err := sampling.Head(0.25)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	const n = 20_000
	rnd := rand.New(rand.NewPCG(1, 2))
	for range n {
		if s.ShouldSample(sdktrace.SamplingParameters{ParentContext: t.Context(), TraceID: randomID(rnd)}).Decision == sdktrace.RecordAndSample {
			kept++
		}
	}
	if share := float64(kept) / n; share < 0.23 || share > 0.27 { // 6 standard deviations
		t.Errorf("share kept = %v, want 0.25", share)
	}
	for _, sampled := range []trace.TraceFlags{0, trace.FlagsSampled} {
		ctx := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: randomID(rnd), SpanID: trace.SpanID{1}, TraceFlags: sampled,
		}))
		got := s.ShouldSample(sdktrace.SamplingParameters{ParentContext: ctx, TraceID: randomID(rnd)}).Decision == sdktrace.RecordAndSample
		if got != sampled.IsSampled() {
			t.Errorf("a child of a parent with flags %v is sampled: %v", sampled, got)
		}
	}
}

func randomID(rnd *rand.Rand) (id trace.TraceID) {
	for i := range id {
		id[i] = byte(rnd.Uint32())
	}
	return id
}
