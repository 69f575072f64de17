package redact

import (
	"regexp"
	"strings"
	"testing"
)

// BenchmarkString stands beside what one regular expression for three of the
// kinds costs on the same text.
func BenchmarkString(b *testing.B) {
	const line = "agent planner called tool search with query weather in Paris and got 17 results in 1.2 s; "
	one := regexp.MustCompile(`sk-[A-Za-z0-9_-]{20,}|[\w.+-]+@[\w-]+\.[\w.]+|\b\d{3}-\d{2}-\d{4}\b`)
	r := New(Config{})
	for name, text := range map[string]string{"line": line, "megabyte": strings.Repeat(line, 1<<20/len(line))} {
		b.Run(name+"/kaizen, all detectors", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				r.String(text)
			}
		})
		b.Run(name+"/regexp, three kinds", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				one.ReplaceAllString(text, "[REDACTED]")
			}
		})
	}
}
