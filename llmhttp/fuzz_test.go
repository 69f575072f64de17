package llmhttp

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// FuzzStream: however a stream is cut into reads, the result is the same, and
// so are the bytes that the caller gets. The limit is small, so that long
// lines and long events are met too.
func FuzzStream(f *testing.F) {
	for _, fx := range fixtures(f) {
		for i := range dialects {
			f.Add(fx.body, []byte{1, 7, 64}, uint8(i))
			f.Add(fx.body, []byte{0}, uint8(128+i))
			if fx.form == "array" || fx.form == "ndjson" {
				f.Add(fx.body, []byte{9}, uint8(64+i))
				f.Add(fx.body, []byte{0, 5}, uint8(192+i))
			}
			if fx.form == "events" {
				f.Add(fx.body, []byte{2, 30}, uint8(32+i))
				f.Add(fx.body, []byte{0}, uint8(160+i))
			}
		}
	}
	f.Add([]byte("data: {\"id\":\"a\",\r\ndata: \"model\":\"b\"}\r\n\r\n: x\n\ndata\ndata:\n\n"), []byte{3}, uint8(1))
	f.Add([]byte("data: {\"usage\":{\"prompt_tokens\":3},\"pad\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}\r\n\r\n"), []byte{5}, uint8(0))
	f.Fuzz(func(t *testing.T, body, cuts []byte, which uint8) {
		reading, limit := dialects[int(which&31)%len(dialects)], 48
		if which > 127 {
			limit = keepBytes
		}
		run := func(list [][]byte) (Result, []string) {
			a := &answer{content: true, budget: 256}
			var seen []string
			var s splitter
			emit := func(d doc) {
				values := "whole " + string(d.raw)
				if d.cut() {
					values = "cut"
					for _, w := range wanted {
						values += " " + w + "=" + gjson.Parse(d.get(w).Raw).Get("@ugly").Raw
					}
				}
				seen = append(seen, values)
				reading.reader.event(a, d)
			}
			s = &sse{limit: limit, emit: emit}
			switch {
			case which&64 != 0:
				s = &objects{limit: limit, emit: emit}
			case which&32 != 0:
				s = &eventStream{limit: limit, emit: emit}
			}
			for _, b := range list {
				s.write(b)
			}
			s.flush()
			return a.result(), seen
		}
		want, wantSeen := run([][]byte{body})
		got, gotSeen := run(cutBy(body, cuts))
		if !reflect.DeepEqual(wantSeen, gotSeen) {
			t.Fatalf("events\nwhole %q\ncut   %q", wantSeen, gotSeen)
		}
		if golden(want) != golden(got) {
			t.Fatalf("%s:\nwhole %s\ncut   %s", reading.name, golden(want), golden(got))
		}
	})
}

// cutBy cuts b into pieces of the lengths in cuts, over and over.
func cutBy(b, cuts []byte) [][]byte {
	var list [][]byte
	for i := 0; len(b) > 0; i++ {
		n := 1
		if len(cuts) > 0 {
			n = min(int(cuts[i%len(cuts)])+1, len(b))
		}
		list, b = append(list, b[:n]), b[n:]
	}
	return list
}

// FuzzScanner: in a JSON object the scanner finds what a parser of the whole
// finds, however the text is cut.
func FuzzScanner(f *testing.F) {
	f.Add([]byte(`{"id":"a\"b","response":{"usage":{"x":[1,{"y":"}"}]},"model":null},"model" : -1.5e3 ,"messages":[]}`), []byte{2})
	f.Add([]byte(`{"usage":"a\\","message":{"id":7},"status":true}`), []byte{0})
	for _, fx := range fixtures(f) {
		if strings.HasSuffix(fx.file, ".json") {
			f.Add(fx.body, []byte{11})
		}
	}
	f.Fuzz(func(t *testing.T, text, cuts []byte) {
		s := newScanner(wanted, 1<<20)
		for _, b := range cutBy(text, cuts) {
			s.write(b)
		}
		if !json.Valid(text) || !bytes.HasPrefix(bytes.TrimLeft(text, jsonSpace), []byte("{")) {
			return // only that it ends
		}
		if !s.done {
			t.Fatal("the end of the object was not seen")
		}
		want, plain := lastValues(t, text)
		if !plain {
			return
		}
		for _, path := range wanted {
			if got := string(s.found[path]); got != want[path] {
				t.Fatalf("%s = %q, want %q", path, got, want[path])
			}
		}
	})
}

// lastValues finds the wanted values with encoding/json. It reports false for
// texts in which the last of two equal keys, or a key that needs unescaping or
// holds a dot, would make the answer a matter of taste.
func lastValues(t *testing.T, text []byte) (map[string]string, bool) {
	t.Helper()
	found := map[string]string{}
	plain := true
	var walk func(prefix string, text []byte)
	walk = func(prefix string, text []byte) {
		seen := map[string]bool{}
		gjson.ParseBytes(text).ForEach(func(k, v gjson.Result) bool {
			if seen[k.Str] || strings.ContainsAny(k.Raw, `\.`) || len(k.Str) > 20 {
				plain = false
			}
			seen[k.Str] = true
			path := prefix + k.Str
			for _, w := range wanted {
				if w == path {
					found[path] = v.Raw
				}
			}
			if prefix == "" && v.IsObject() && (path == "response" || path == "message" || path == "delta") {
				walk(path+".", []byte(v.Raw))
			}
			return true
		})
	}
	walk("", text)
	return found, plain
}
