package main

// suite is the benchmarks of one package.
type suite struct {
	pkg   string
	pairs []pair
}

// pair is a benchmark and what it is measured against.
type pair struct {
	what, subject     string
	against, baseline string
}

// suites are the claims of the documents about speed.
var suites = []suite{
	{"./metrics", []pair{
		{"counter, bound", "BenchmarkCounter/bound/kaizen", "client_golang", "BenchmarkCounter/bound/client_golang"},
		{"counter, by labels", "BenchmarkCounter/five_labels/kaizen", "WithLabelValues", "BenchmarkCounter/five_labels/client_golang"},
		{"counter with exemplar", "BenchmarkCounter/exemplar/kaizen", "client_golang", "BenchmarkCounter/exemplar/client_golang"},
		{"histogram, by labels", "BenchmarkHistogram/five_labels/kaizen", "WithLabelValues", "BenchmarkHistogram/five_labels/client_golang"},
		{"histogram with exemplar", "BenchmarkHistogram/exemplar/kaizen", "client_golang", "BenchmarkHistogram/exemplar/client_golang"},
		{"histogram with exemplar", "BenchmarkHistogram/exemplar/kaizen", "its plain observe", "BenchmarkHistogram/five_labels/kaizen"},
	}},
	{"./otlp", []pair{
		{"span to the queue, encoded and sent", "BenchmarkSpanProcessor/otlp,_encoded,_gzip,_discarded", "no processor", "BenchmarkSpanProcessor/none"},
		{"span to the queue, encoded and sent", "BenchmarkSpanProcessor/otlp,_encoded,_gzip,_discarded", "stock batch, no-op exporter", "BenchmarkSpanProcessor/stock_batch,_no-op_exporter"},
	}},
	{"./agentlog", []pair{
		{"line, run context and ten fields, redacted", "BenchmarkLine/kaizen", "slog JSON with the ids, not redacted", "BenchmarkLine/slog"},
		{"the same without redaction", "BenchmarkLine/kaizen_without_redaction", "slog JSON with the ids", "BenchmarkLine/slog"},
		{"a suppressed line", "BenchmarkSuppressed/kaizen", "slog", "BenchmarkSuppressed/slog"},
	}},
	{".", []pair{
		{"tool event: span and samples", "BenchmarkToolEvent/span_and_samples", "the same span by hand", "BenchmarkToolEvent/the_same_span_by_hand"},
		{"tool event: span and samples", "BenchmarkToolEvent/span_and_samples", "a bare span, 12 attributes", "BenchmarkToolEvent/bare_span"},
		{"the same, a sampler that may ask", "BenchmarkToolEvent/a_sampler_that_may_ask,_span_and_samples", "a bare span, 12 attributes", "BenchmarkToolEvent/bare_span"},
		{"the same, our own provider and exporter", "BenchmarkToolEvent/our_provider,_span_and_samples", "a bare span, 12 attributes", "BenchmarkToolEvent/bare_span"},
		{"the same, our own provider and exporter", "BenchmarkToolEvent/our_provider,_span_and_samples", "the same span by hand", "BenchmarkToolEvent/the_same_span_by_hand"},
		{"tool event: unsampled, our own provider", "BenchmarkToolEvent/our_provider,_unsampled,_and_samples", "the span by hand, unsampled", "BenchmarkToolEvent/the_same_span_by_hand,_unsampled"},
		{"tool event: unsampled, samples", "BenchmarkToolEvent/unsampled_span,_and_samples", "the span by hand, unsampled", "BenchmarkToolEvent/the_same_span_by_hand,_unsampled"},
		{"tool event: span, samples, line", "BenchmarkToolEvent/span,_samples_and_line", "a bare span, 12 attributes", "BenchmarkToolEvent/bare_span"},
		{"tool event: all four, queued", "BenchmarkToolEvent/all_four", "a bare span, 12 attributes", "BenchmarkToolEvent/bare_span"},
	}},
	{"./audit", []pair{
		{"append, 1 writer", "BenchmarkAppend/writers=1", "write and sync, 1 writer", "BenchmarkNaive/writers=1"},
		{"append, 8 writers", "BenchmarkAppend/writers=8", "write and sync, 1 writer", "BenchmarkNaive/writers=1"},
		{"append, 64 writers", "BenchmarkAppend/writers=64", "write and sync, 1 writer", "BenchmarkNaive/writers=1"},
		{"append, 256 writers", "BenchmarkAppend/writers=256", "write and sync, 1 writer", "BenchmarkNaive/writers=1"},
		{"entry to its stored line", "BenchmarkEncodeLine", "encoding/json", "BenchmarkEncodeLineStd"},
	}},
}
