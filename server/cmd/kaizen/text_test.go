package main

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func TestParseWhen(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		text string
		want time.Time
		ok   bool
	}{
		{"", time.Time{}, true},
		{"24h", now.Add(-24 * time.Hour), true},
		{"1h30m", now.Add(-90 * time.Minute), true},
		{"7d", now.Add(-7 * 24 * time.Hour), true},
		{"0.5d", now.Add(-12 * time.Hour), true},
		{"0s", now, true},
		{"2026-03-09T10:00:00Z", time.Date(2026, 3, 9, 10, 0, 0, 0, time.UTC), true},
		{"2026-03-09T10:00:00.123456789+02:00", time.Date(2026, 3, 9, 8, 0, 0, 123456789, time.UTC), true},
		{"yesterday", time.Time{}, false},
		{"-1h", time.Time{}, false},
		{"d", time.Time{}, false},
		{"NaNd", time.Time{}, false},
		{"1e300d", time.Time{}, false},
		{"2026-03-09", time.Time{}, false},
	}
	for _, tt := range tests {
		got, err := parseWhen(tt.text, now)
		if (err == nil) != tt.ok || !got.Equal(tt.want) {
			t.Errorf("parseWhen(%q) = %v, %v, want %v, ok %v", tt.text, got, err, tt.want, tt.ok)
		}
		if err != nil {
			if code, advice := classify(err); code != exitUsage || advice == "" {
				t.Errorf("parseWhen(%q): code %d, advice %q, want 2 and some", tt.text, code, advice)
			}
		}
	}
}

func FuzzParseWhen(f *testing.F) {
	for _, s := range []string{"24h", "7d", "2026-01-01T00:00:00Z", "-1h", "1e9d", "Infd"} {
		f.Add(s)
	}
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseWhen(text, now)
		if err != nil || text == "" {
			return
		}
		if _, e := time.Parse(time.RFC3339Nano, text); e == nil {
			return
		}
		if got.After(now) || now.Sub(got) > maxAgo {
			t.Fatalf("parseWhen(%q) = %v, not in the hundred years before %v", text, got, now)
		}
	})
}

func TestClean(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain text, ünïcode 漢字", "plain text, ünïcode 漢字"},
		{"a\x1b[2Jb", `a\x1b[2Jb`},
		{"line\nline\ttab", `line\nline\ttab`},
		{"\u202egnp.exe", `\u202egnp.exe`},
		{"\u009b31m", `\u009b31m`},
		{"\x9b31m", "�31m"},
	}
	for _, tt := range tests {
		if got := clean(tt.in); got != tt.want {
			t.Errorf("clean(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[2J\u202e\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		got := clean(in)
		if strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("clean(%q) = %q", in, got)
		}
		if clean(got) != got {
			t.Fatalf("clean(%q) is not stable", in)
		}
	})
}

func TestUSD(t *testing.T) {
	tests := []struct {
		in   float64
		want string
	}{
		{0, "$0.00"}, {12.345, "$12.35"}, {1, "$1.00"}, {0.5, "$0.50"}, {0.0123, "$0.0123"}, {0.000000001, "$0.000000001"}, {0.1 + 0.2, "$0.30"},
	}
	for _, tt := range tests {
		if got := usd(tt.in); got != tt.want {
			t.Errorf("usd(%v) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestMS(t *testing.T) {
	for in, want := range map[float64]string{0.25: "250µs", 12.34: "12.3ms", 1500: "1.50s", 61_000: "1m1s"} {
		if got := ms(&in); got != want {
			t.Errorf("ms(%v) = %s, want %s", in, got, want)
		}
	}
	if got := ms(nil); got != "-" {
		t.Errorf("ms(nil) = %s, want -", got)
	}
}

func TestTree(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	tests := []struct {
		name  string
		spans []span
		want  []string
	}{
		{"none", nil, nil},
		{"nested", []span{
			{SpanID: "a", Name: "run", Start: at(0)},
			{SpanID: "b", ParentID: "a", Name: "plan", Start: at(1)},
			{SpanID: "d", ParentID: "b", Name: "chat", Start: at(2)},
			{SpanID: "c", ParentID: "a", Name: "tool", Start: at(3)},
		}, []string{"run", "├─ plan", "│  └─ chat", "└─ tool"}},
		{"children in order of start", []span{
			{SpanID: "c", ParentID: "a", Name: "late", Start: at(3)},
			{SpanID: "b", ParentID: "a", Name: "early", Start: at(1)},
			{SpanID: "a", Name: "run", Start: at(0)},
		}, []string{"run", "├─ early", "└─ late"}},
		{"parent not there", []span{
			{SpanID: "b", ParentID: "x", Name: "orphan", Start: at(1)},
			{SpanID: "a", Name: "run", Start: at(0)},
		}, []string{"run", "orphan"}},
		{"own parent", []span{{SpanID: "a", ParentID: "a", Name: "self"}}, []string{"self"}},
		{"circle", []span{{SpanID: "a", ParentID: "b", Name: "one"}, {SpanID: "b", ParentID: "a", Name: "two"}}, []string{"one", "two"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, l := range tree(tt.spans) {
				got = append(got, l.indent+l.span.Name)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("tree (-want +got):\n%s", d)
			}
		})
	}
}
