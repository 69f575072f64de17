package redact

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

// label is a part of a text that must be found.
type label struct {
	start, end int
	detector   string
}

type sample struct {
	line   int
	text   string
	labels []label
}

func corpus(t testing.TB) []sample {
	t.Helper()
	file, err := os.Open("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() // only read
	var out []sample
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := strings.ReplaceAll(lines.Text(), "¦", "")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		out = append(out, parseSample(t, n, line))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func parseSample(t testing.TB, n int, line string) sample {
	s := sample{line: n}
	for {
		before, rest, ok := strings.Cut(line, "«")
		s.text += before
		if !ok {
			return s
		}
		inner, after, ok := strings.Cut(rest, "»")
		detector, secret, ok2 := strings.Cut(inner, ":")
		if !ok || !ok2 {
			t.Fatalf("corpus line %d: unclosed label", n)
		}
		s.labels = append(s.labels, label{len(s.text), len(s.text) + len(secret), detector})
		s.text += secret
		line = after
	}
}

// score is what a run over the corpus found.
type score struct{ hits, misses, wrong int }

func (s score) precision() float64 { return float64(s.hits) / float64(s.hits+s.wrong) }
func (s score) recall() float64    { return float64(s.hits) / float64(s.hits+s.misses) }

// measure counts a label as a hit when one finding covers it whole, and a
// finding as wrong when it touches no label. tell may be nil.
func measure(samples []sample, tell func(format string, args ...any)) score {
	r := New(Config{})
	var sum score
	for _, s := range samples {
		var found []finding
		r.pass(s.text, func(f finding) { found = append(found, f) })
		for _, l := range s.labels {
			hit := false
			for _, f := range found {
				hit = hit || f.start <= l.start && f.end >= l.end
			}
			if hit {
				sum.hits++
				continue
			}
			sum.misses++
			if tell != nil {
				tell("line %d: missed %s in %s", s.line, l.detector, s.text)
			}
		}
		for _, f := range found {
			touches := false
			for _, l := range s.labels {
				touches = touches || f.start < l.end && l.start < f.end
			}
			if !touches {
				sum.wrong++
				if tell != nil {
					tell("line %d: %v wrongly took %q of %s", s.line, f.detector, s.text[f.start:f.end], s.text)
				}
			}
		}
	}
	return sum
}

// TestCorpus holds the detectors to what they reach on the labelled corpus.
// The hard lines at its end are missed: recall is below one for that reason.
func TestCorpus(t *testing.T) {
	got := measure(corpus(t), t.Logf)
	t.Logf("precision %.3f recall %.3f: %d hits, %d missed, %d wrong", got.precision(), got.recall(), got.hits, got.misses, got.wrong)
	if got.precision() < 0.99 || got.recall() < 0.90 {
		t.Errorf("precision %.3f, recall %.3f; want 0.99 and 0.90 at least", got.precision(), got.recall())
	}
}

// TestCorpusDetectors checks that what is found is found for what it is.
func TestCorpusDetectors(t *testing.T) {
	r := New(Config{})
	for _, s := range corpus(t) {
		r.pass(s.text, func(f finding) {
			for _, l := range s.labels {
				if f.start == l.start && f.end == l.end && f.detector.String() != l.detector {
					t.Logf("line %d: %v, labelled %s: %s", s.line, f.detector, l.detector, s.text)
				}
			}
		})
	}
}

func BenchmarkCorpus(b *testing.B) {
	samples := corpus(b)
	bytes := 0
	for _, s := range samples {
		bytes += len(s.text)
	}
	r := New(Config{})
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range samples {
			r.String(s.text)
		}
	}
	got := measure(samples, nil)
	b.ReportMetric(got.precision(), "precision")
	b.ReportMetric(got.recall(), "recall")
}
