package redact

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzString holds three promises: what a detector matched is not in the
// output (if it stood in the text once), redacting again changes nothing, and
// a JSON object stays JSON (bare numbers in arrays and odd white space apart:
// there a marker is written as in prose).
func FuzzString(f *testing.F) {
	for _, s := range corpus(f) {
		f.Add(s.text)
	}
	f.Add(`{"password": 1, "a": [{"token": "abcdefgh"}]}`)
	f.Add("eyJ-eyJ-a@b.cd:password=\"x\\\"y\"")
	r := New(Config{})
	f.Fuzz(func(t *testing.T, in string) {
		var secrets []string
		_, changed := r.pass(in, func(f finding) { secrets = append(secrets, in[f.start:f.end]) })
		out := r.String(in)
		if changed != (out != in) {
			t.Errorf("changed = %v for\n in %q\nout %q", changed, in, out)
		}
		for _, s := range secrets {
			if strings.Count(in, s) == 1 && !markerHolds(s) && strings.Contains(out, s) {
				t.Errorf("%q is still in the output\n in %q\nout %q", s, in, out)
			}
		}
		if again := r.String(out); again != out {
			t.Errorf("not idempotent:\n   in %q\n  out %q\nagain %q", in, out, again)
		}
		if strings.HasPrefix(in, "{") && !strings.ContainsAny(in, "[\t\r\n") && !strings.Contains(in, "     ") && json.Valid([]byte(in)) && !json.Valid([]byte(out)) {
			t.Errorf("no longer JSON:\n in %s\nout %s", in, out)
		}
	})
}

// markerHolds reports whether s is part of a marker, and so of every output.
func markerHolds(s string) bool {
	for _, m := range markers {
		if strings.Contains(m, s) {
			return true
		}
	}
	return false
}
