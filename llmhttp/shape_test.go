package llmhttp

import (
	"strconv"
	"testing"
)

// FuzzChunkShape: reading a stream of chunks by their shape gives what reading
// each of them gives.
func FuzzChunkShape(f *testing.F) {
	head := `{"id":"i","model":"m","choices":[{"index":0,"delta":`
	f.Add(head+`{"content":"`, `"},"finish_reason":null}],"usage":null,"obfuscation":"`, `"}`, " word", `a\"b`, "x")
	f.Add(head+`{"role":"assistant","content":"`, `"},"finish_reason":"stop"}],"o":"`, `","usage":{"prompt_tokens":3,"completion_tokens":1}}`, "a", `","tool_calls":[{"id":"t"}],"x":"`, "")
	f.Add(head+`{"reasoning_content":null,"content":"`, `"}}],"obfuscation":"`, `","error":null}`, "a", `"},"finish_reason":"stop","x":{"y":"`, "日")
	f.Fuzz(func(t *testing.T, before, between, after, one, two, three string) {
		for _, content := range []bool{false, true} {
			shaped, plain := &answer{content: content, budget: 100}, &answer{content: content, budget: 100}
			for i, text := range []string{one, two, three, one, three, two} {
				d := doc{raw: []byte(before + text + between + strconv.Itoa(i) + after)}
				chatReader{}.event(shaped, d)
				plain.shape = chunkShape{}
				chatReader{}.event(plain, d)
			}
			if got, want := golden(shaped.result()), golden(plain.result()); got != want || shaped.terminal != plain.terminal || shaped.finished != plain.finished {
				t.Fatalf("by shape %s\nwant %s", got, want)
			}
		}
	})
}

// TestChunkShape: the shape is learned and used, with and without padding.
func TestChunkShape(t *testing.T) {
	for _, padding := range []string{"", `,"obfuscation":"a1"`} {
		a := &answer{}
		for i := range 5 {
			chatReader{}.event(a, doc{raw: []byte(`{"id":"i","model":"m","choices":[{"index":0,"delta":{"content":"w` + strconv.Itoa(i) + `"},"finish_reason":null}]` + padding + `}`)})
		}
		if a.shape.parts == nil || a.shape.misses != 0 {
			t.Errorf("padding %q: shape = %q after %d misses", padding, a.shape.parts, a.shape.misses)
		}
		if text, ok := a.shape.match([]byte(`{"id":"i","model":"m","choices":[{"index":0,"delta":{"content":"w9"},"finish_reason":"stop"}]` + padding + `}`)); ok {
			t.Errorf("a chunk that says more than a text (%q) was taken for one", text)
		}
	}
}
