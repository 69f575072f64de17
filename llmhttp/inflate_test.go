package llmhttp

import (
	"bytes"
	"testing"
)

var encodings = []string{"gzip", "deflate", "br", "zstd"}

const wholeChat = `{"id":"i","model":"m","choices":[{"index":0,"message":{"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`

// TestCorruptCompression: whatever the bytes are, the caller gets them as they
// came, and the call ends once.
func TestCorruptCompression(t *testing.T) {
	for _, encoding := range encodings {
		whole := compress(t, encoding, []byte(wholeChat))
		for i := 0; i < len(whole); i += 5 {
			for name, body := range map[string][]byte{
				"cut":     whole[:i],
				"changed": append(append(bytes.Clone(whole[:i]), whole[i]^0x55), whole[i+1:]...),
				"doubled": append(bytes.Clone(whole[:i]), whole...),
			} {
				resp := response(200, map[string]string{"Content-Type": jsonType, "Content-Encoding": encoding}, body)
				r := observe(t, "chat", Config{OnPanic: func(v any) { t.Errorf("%s, %s at %d: panic %v", encoding, name, i, v) }}, resp, body)
				if r.Bytes != int64(len(body)) {
					t.Fatalf("%s, %s at %d: the caller read %d of %d bytes", encoding, name, i, r.Bytes, len(body))
				}
			}
		}
	}
}

// TestDecompressionBomb: a body that inflates without end is not followed; the
// caller gets it, and the call is no failure for it.
func TestDecompressionBomb(t *testing.T) {
	bomb := append([]byte(`{"id":"i","pad":"`), bytes.Repeat([]byte("0"), 8<<20)...)
	for _, encoding := range encodings {
		body := compress(t, encoding, bomb)
		seen := 0
		f := newInflater(encoding, func(b []byte) { seen += len(b) })
		f.write(body)
		f.end()
		if !f.cut || seen > freeBytes+maxRatio*len(body) || seen > len(bomb)/2 {
			t.Errorf("%s: %d bytes of %d were inflated from %d", encoding, seen, len(bomb), len(body))
		}
		resp := response(200, map[string]string{"Content-Type": jsonType, "Content-Encoding": encoding}, body)
		if r := observe(t, "chat", Config{}, resp, body); r.Err != nil || !r.Truncated {
			t.Errorf("%s: Err = %v, Truncated = %t", encoding, r.Err, r.Truncated)
		}
	}
}

// FuzzInflate: an inflater yields what the decompressor yields that has all
// bytes at once, however the bytes are cut, and of what was compressed, all.
func FuzzInflate(f *testing.F) {
	for i, encoding := range encodings {
		f.Add(uint8(i), uint8(7), compress(f, encoding, []byte(wholeChat)))
		f.Add(uint8(i), uint8(1), []byte(wholeChat))
	}
	f.Fuzz(func(t *testing.T, which, step uint8, data []byte) {
		encoding := encodings[int(which)%len(encodings)]
		once, pieces := inflated(encoding, data, len(data)), inflated(encoding, data, int(step))
		if !bytes.Equal(once, pieces) {
			t.Fatalf("%s: %d bytes at once, %d in pieces of %d", encoding, len(once), len(pieces), step)
		}
		if got := inflated(encoding, compress(t, encoding, data), int(step)); len(data) < freeBytes && !bytes.Equal(got, data) {
			t.Fatalf("%s: %d bytes of %d came back", encoding, len(got), len(data))
		}
	})
}

func inflated(encoding string, data []byte, step int) []byte {
	var b bytes.Buffer
	f := newInflater(encoding, func(p []byte) { b.Write(p) })
	for len(data) > 0 {
		n := min(max(step, 1), len(data))
		f.write(data[:n])
		data = data[n:]
	}
	f.end()
	return b.Bytes()
}

func BenchmarkInflate(b *testing.B) {
	body := bytes.Repeat([]byte(wholeChat), 200)
	for _, encoding := range encodings {
		b.Run(encoding, func(b *testing.B) {
			data := compress(b, encoding, body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				f := newInflater(encoding, func([]byte) {})
				f.write(data)
				f.end()
			}
		})
	}
}
