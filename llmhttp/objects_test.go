package llmhttp

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzObjects: of a JSON array of objects, as of the same objects one a line,
// the splitter finds each object as a parser does, however the text is cut.
func FuzzObjects(f *testing.F) {
	f.Add([]byte(`[{"a":"}{\"","b":[{}]},{},  {"c":"\\"}]`), []byte{0})
	f.Add([]byte(`[{"pad":"0123456789012345678901234567890123456789"},{"usage":{"x":1}}]`), []byte{6, 1})
	f.Fuzz(func(t *testing.T, text, cuts []byte) {
		var list []json.RawMessage
		if err := json.Unmarshal(text, &list); err != nil {
			return
		}
		for _, v := range list {
			if v[0] != '{' {
				return
			}
		}
		for _, form := range [][]byte{text, bytes.Join(toBytes(list), []byte("\n"))} {
			const limit = 40
			n := 0
			o := objects{limit: limit, emit: func(d doc) {
				if n == len(list) {
					t.Fatal("more objects than there are")
				}
				if want := list[n]; d.cut() != (len(want) > limit) || !d.cut() && !bytes.Equal(d.raw, want) {
					t.Fatalf("object %d is %q, cut %v; want %q", n, d.raw, d.cut(), want)
				}
				n++
			}}
			for _, b := range cutBy(form, cuts) {
				o.write(b)
			}
			o.flush()
			if n != len(list) {
				t.Fatalf("%d objects of %d", n, len(list))
			}
		}
	})
}

func toBytes(list []json.RawMessage) [][]byte {
	out := make([][]byte, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}
