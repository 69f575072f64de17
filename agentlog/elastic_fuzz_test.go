package agentlog

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"testing"
)

func bodyOf(body []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
}

// unzipped is the text of a body, or nothing.
func unzipped(body []byte) string {
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return ""
	}
	text, err := io.ReadAll(zr)
	if err != nil {
		return ""
	}
	return string(text)
}

// FuzzBulkAnswer: a batch is settled only by an answer with one outcome for
// each document, and none of these is to come yet; what was refused is counted.
func FuzzBulkAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"items":[{"create":{"_id":"a","status":201}},{"create":{"_id":"b","status":409,"error":{"type":"t"}}}]}`,
		`{"items":[{"create":{"_id":"a","status":400,"error":{"type":"t","reason":"r"}}},{"create":{"_id":"b","status":429}}]}`,
		`{"items":[{"index":{"status":201}},{"create":{}}]}`, `{"items":[]}`, `{"items":[{},{}]}`, `{"items":null}`, `[]`, ``, `{"items":[{"create":{"status":201}}`,
	} {
		f.Add([]byte(seed), 2)
	}
	f.Fuzz(func(t *testing.T, body []byte, documents int) {
		a := newAnswers()
		status, _, out := a.read(body, documents)
		if status != 200 {
			if len(a.refused) != 0 || a.conflicts != 0 || len(a.failures) != 1 {
				t.Fatalf("an answer that settles nothing counted %v, %d, %v", a.refused, a.conflicts, a.failures)
			}
			return
		}
		var got struct{ Items []json.RawMessage }
		if err := json.Unmarshal(body, &got); err != nil || len(got.Items) != documents {
			t.Fatalf("an answer to %d of %d documents settled the batch (%v)", len(got.Items), documents, err)
		}
		refused, _ := refusals(out)
		counted := int64(0)
		for _, n := range a.refused {
			counted += n
		}
		// Documents of one id are counted once by type: the ids of ours differ.
		if refused < counted || refused+a.conflicts > int64(documents) || (refused > 0) != (counted > 0) {
			t.Fatalf("%d documents, %d refused, %d counted, %d conflicts", documents, refused, counted, a.conflicts)
		}
	})
}
