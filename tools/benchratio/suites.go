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
	}},
	{"./otlp", []pair{
		{"span to the queue, encoded and sent", "BenchmarkSpanProcessor/otlp,_encoded,_gzip,_discarded", "no processor", "BenchmarkSpanProcessor/none"},
		{"span to the queue, encoded and sent", "BenchmarkSpanProcessor/otlp,_encoded,_gzip,_discarded", "stock batch, no-op exporter", "BenchmarkSpanProcessor/stock_batch,_no-op_exporter"},
	}},
	{"./audit", []pair{
		{"entry to its stored line", "BenchmarkEncodeLine", "encoding/json", "BenchmarkEncodeLineStd"},
	}},
}
