package llmhttp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// chatStream is a stream of n chunks of text, and the usage.
func chatStream(n int) [][]byte {
	var list [][]byte
	for i := range n {
		list = append(list, fmt.Appendf(nil, `data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" word%d"},"logprobs":null,"finish_reason":null}],"usage":null}`+"\n\n", i))
	}
	return append(list,
		[]byte(`data: {"id":"chatcmpl-123","model":"gpt-4o-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}`+"\n\n"),
		[]byte(`data: {"id":"chatcmpl-123","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":500,"total_tokens":520}}`+"\n\n"),
		[]byte("data: [DONE]\n\n"))
}

// BenchmarkStream reads a stream of 501 chunks, a chunk with each read, as it
// is and through the transport.
func BenchmarkStream(b *testing.B) {
	chunks := chatStream(501)
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		return response(200, map[string]string{"Content-Type": "text/event-stream"}, append([][]byte(nil), chunks...)...), nil
	})
	var rec quiet
	for _, bb := range []struct {
		name string
		rt   http.RoundTripper
	}{
		{"untapped", base},
		{"tapped", Transport(base, &rec, Config{})},
		{"tapped with content", Transport(base, &rec, Config{Content: true})},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 32<<10)
			for b.Loop() {
				resp, err := bb.rt.RoundTrip(request(b, "chat"))
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = resp.Body.Read(buf)
				}
				if err != io.EOF {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(chunks)), "ns/chunk")
		})
	}
}

// BenchmarkBody reads an answer that is not a stream.
func BenchmarkBody(b *testing.B) {
	body := bytes.ReplaceAll([]byte(`{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"TEXT"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`), []byte("TEXT"), []byte(strings.Repeat("word ", 400)))
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		return response(200, map[string]string{"Content-Type": jsonType}, body), nil
	})
	var rec quiet
	for _, bb := range []struct {
		name string
		rt   http.RoundTripper
	}{{"untapped", base}, {"tapped", Transport(base, &rec, Config{})}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := bb.rt.RoundTrip(request(b, "chat"))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkScanner passes a long text through the scanner.
func BenchmarkScanner(b *testing.B) {
	text := []byte(`{"messages":["` + strings.Repeat(`some text with a \"quote\" in it, `, 30000) + `"],"model":"m"}`)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		newScanner(requestFields, 1<<10).write(text)
	}
}

// quiet is an observer that does nothing.
type quiet struct{}

func (quiet) Start(ctx context.Context, _ Call) (context.Context, func(Result)) {
	return ctx, func(Result) {}
}
