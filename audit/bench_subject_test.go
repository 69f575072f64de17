package audit

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// BenchmarkSubject is the cost of a field, beside that of an entry without a
// subject.
func BenchmarkSubject(b *testing.B) {
	l := mustOpen(b, "/l/audit", tiny(freshFS(b)))
	if err := l.vault.ensure([]string{"maria"}, time.Now()); err != nil {
		b.Fatal(err)
	}
	d := l.vault.find("maria").keys[0]
	plain := []byte(strings.Repeat("personal ", 29)[:256])
	b.Run("field", func(b *testing.B) { // 256 bytes, the cipher expanded
		b.ReportAllocs()
		aead, err := d.cipher(l.vault)
		if err != nil {
			b.Fatal(err)
		}
		buf, aad := make([]byte, 0, 512), l.vault.appendAAD(nil, newID(), "details")
		for b.Loop() {
			n := d.used.Add(1)
			out := append(append(buf[:0], d.prefix[:]...), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
			out = append(out, plain...)
			_ = aead.Seal(out[:12], out[:12], out[12:], aad)
		}
	})
	e := numbered(0)
	e.UserID = ""
	e.Details = map[string]any{"tool": "search", "text": string(plain)}
	for name, who := range map[string]string{"admit/none": "", "admit/subject": "maria"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			e.Subject = who
			one := []Entry{e}
			for b.Loop() {
				if _, err := l.vault.admit(one); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for name, who := range map[string]string{"write/none": "", "write/subject": "maria"} { // from the caller's entry to the line
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			e.Subject = who
			for b.Loop() {
				one := [1]Entry{e}
				if _, err := l.vault.admitOne(one[:]); err != nil {
					b.Fatal(err)
				}
				w := l.writes.take()
				if err := w.encode(one[:]); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(w.buf)), "B/line")
				w.release(2)
			}
		})
	}
	b.Run("encode/none", func(b *testing.B) {
		b.ReportAllocs()
		e.Subject = ""
		buf := make([]byte, 0, 2048)
		for b.Loop() {
			var err error
			if buf, err = EncodeLine(buf[:0], e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		e.Subject = "maria"
		sealed, _, err := l.vault.seal([]Entry{e})
		if err != nil {
			b.Fatal(err)
		}
		line, err := EncodeLine(nil, sealed[0])
		if err != nil {
			b.Fatal(err)
		}
		stored, err := DecodeLine(line)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			got := stored
			if err := l.vault.reveal(&got); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSubjectSpace seals entries as agents write them, and reports what one
// takes as a line and in the files of a sealed segment: without a subject, with
// one and the technical details in clear, and with all of details encrypted.
func BenchmarkSubjectSpace(b *testing.B) {
	const n = 20000
	for _, form := range []string{"none", "clear", "all"} {
		b.Run(form, func(b *testing.B) {
			for b.Loop() {
				cfg := Config{fsys: freshFS(b), sectionBytes: 4 << 20, segmentBytes: 1 << 30, publishEvery: time.Hour}
				if form == "clear" {
					cfg.ClearDetails = TechnicalDetails()
				}
				l := mustOpen(b, "/l/audit", cfg)
				rnd := rand.New(rand.NewPCG(1, 1))
				for at := 0; at < n; at += 1000 {
					batch := make([]Entry, 1000)
					for i := range batch {
						batch[i] = Entry{
							Time: testTime.Add(time.Duration(at+i) * time.Second), AgentID: fmt.Sprint("agent-", rnd.IntN(20)), Action: "tool.execute", Result: Success,
							SessionID: fmt.Sprint("s-", (at+i)/12), RunID: fmt.Sprint("r-", (at+i)/4), TraceID: fmt.Sprintf("%016x%016x", rnd.Uint64(), rnd.Uint64()),
							Details: map[string]any{
								"tool": "search", "model": "model-large", "input_tokens": rnd.IntN(4000), "output_tokens": rnd.IntN(900), "duration_ms": rnd.IntN(2000),
								"query": fmt.Sprintf("orders of customer %d in region %d, newest first", rnd.IntN(100000), rnd.IntN(9)),
							},
							Metadata: map[string]any{"region": "eu", "tenant": fmt.Sprint("t-", rnd.IntN(30))},
						}
						if form != "none" {
							batch[i].UserID, batch[i].Subject = fmt.Sprint("u-", rnd.IntN(500)), fmt.Sprint("u-", rnd.IntN(500))
						}
					}
					if _, err := l.AppendBatch(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
				if err := l.Seal(b.Context()); err != nil {
					b.Fatal(err)
				}
				seg := l.Segments()[0]
				b.ReportMetric(float64(seg.Bytes)/n, "line-B/entry")
				b.ReportMetric(float64(seg.Stored)/n, "stored-B/entry")
				b.ReportMetric(float64(seg.Bytes)/float64(seg.Stored), "ratio")
				mustClose(b, l)
			}
		})
	}
}
