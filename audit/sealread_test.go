package audit

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// oddEntries are entries whose fields look like others, need escapes, come and
// go, and change in the middle of a group.
func oddEntries(n int) []Entry {
	rnd := rand.New(rand.NewPCG(11, 12))
	names := []string{"", "a", `with "quotes"`, "line\nbreak", `back\slash`, `\`, `","trace_id":"` + strings.Repeat("f", 32), "zürich", strings.Repeat("long", 100)}
	out := make([]Entry, n)
	for i := range out {
		e := numbered(i)
		e.AgentID, e.Action = "agent"+names[rnd.IntN(len(names))], "do "+names[rnd.IntN(len(names))]
		e.UserID, e.SessionID, e.RunID = names[rnd.IntN(len(names))], names[rnd.IntN(len(names))], names[i/50%len(names)]
		if i > n/2 {
			e.Subject = names[rnd.IntN(len(names))]
		}
		e.Details = map[string]any{"session_id": "not this", "run_id": map[string]any{"run_id": "nor this"}, names[rnd.IntN(len(names))]: names[rnd.IntN(len(names))]}
		if i%3 == 0 {
			e.TraceID, e.SpanID = "", ""
		}
		if i%5 == 0 {
			e.Metadata = map[string]any{"trace_id": "nor this", "}": `"`}
		}
		e.Time = e.Time.Add(1 << (i % 40))
		out[i] = e
	}
	return out
}

// TestIdxFeed compares the index file that the index in memory gives with that
// of the lines alone.
func TestIdxFeed(t *testing.T) {
	for _, n := range []int{1, 255, 256, 257, 1500} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			x, lines := newIndex(), make([][]byte, n)
			want := newIdxBuilder(7)
			for i, e := range oddEntries(n) {
				line, err := EncodeLine(nil, e)
				if err != nil {
					t.Fatal(err)
				}
				x.add(&e, mustID(e.ID), 0)
				lines[i] = line
				parsed, err := header(line)
				if err != nil {
					t.Fatal(err)
				}
				want.add(&parsed)
			}
			got := newIdxBuilder(7)
			feed := newIdxFeed(got, &x)
			for i, line := range lines {
				if err := feed.add(int64(i), line); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got.encode(), want.encode()) {
				t.Error("the index in memory gives another file than the lines")
			}
		})
	}
}

// TestIdxFeedByLines gives the feed an index in memory whose texts are not those
// of the lines, as when a caller's string was a piece of memory that it used again
// once Append had returned: the file says what the lines say.
func TestIdxFeedByLines(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Entry)
	}{
		{"agent", func(e *Entry) { e.AgentID = "other" }},
		{"user", func(e *Entry) { e.UserID = "other" }},
		{"no user", func(e *Entry) { e.UserID = "" }},
		{"subject", func(e *Entry) { e.Subject = "other" }},
		{"no subject", func(e *Entry) { e.Subject = "" }},
		{"action", func(e *Entry) { e.Action = "other" }},
		{"result", func(e *Entry) { e.Result = "deniee" }},
		{"session", func(e *Entry) { e.SessionID = "other" }},
		{"run", func(e *Entry) { e.RunID = "other" }},
		{"trace", func(e *Entry) { e.TraceID = strings.Repeat("b", 32) }},
		{"none", func(e *Entry) { e.SessionID, e.RunID, e.TraceID = "", "", "" }},
		{"span", func(e *Entry) { e.SpanID = strings.Repeat("b", 16) }},
		{"no span", func(e *Entry) { e.SpanID = "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, got, want := newIndex(), newIdxBuilder(7), newIdxBuilder(7)
			var lines [][]byte
			for i, e := range oddEntries(600) {
				line, err := EncodeLine(nil, e)
				if err != nil {
					t.Fatal(err)
				}
				parsed, err := header(line)
				if err != nil {
					t.Fatal(err)
				}
				want.add(&parsed)
				lines = append(lines, line)
				if i%10 == 3 {
					c.change(&e)
				}
				x.add(&e, mustID(e.ID), 0)
			}
			feed := newIdxFeed(got, &x)
			for i, line := range lines {
				if err := feed.add(int64(i), line); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got.encode(), want.encode()) {
				t.Error("the file is not that of the lines")
			}
		})
	}
}

// FuzzQuickTexts compares the texts with what the parser of headers makes of a
// line.
func FuzzQuickTexts(f *testing.F) {
	f.Add("s", "r", "abcdef", "key", "value")
	f.Add("", "", "", "", "")
	f.Add(`"`, `\`, "0", `","run_id":"`, `\"`)
	f.Fuzz(func(t *testing.T, session, run, trace, key, value string) {
		e := numbered(1)
		e.SessionID, e.RunID, e.TraceID, e.UserID = session, run, fmt.Sprintf("%032x", trace)[:32], value
		e.Subject, e.Action = key, "do "+value
		e.Details = map[string]any{key: value, "in": map[string]any{value: []any{key, true, nil, 1.5}}}
		if len(trace) == 0 {
			e.TraceID = ""
		}
		if len(key) == 0 {
			e.SpanID, e.Metadata = "", map[string]any{"span_id": value, "agent_id": key}
		}
		line, err := EncodeLine(nil, e)
		if err != nil {
			return
		}
		got, ok := quickTexts(line)
		if !ok {
			if !strings.ContainsFunc(session+run+key+value, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
				t.Fatalf("quickTexts gives up on %s", line)
			}
			return
		}
		want, err := header(line)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprintf("%q", got), fmt.Sprintf("%q", textsOf(&want)); got != want {
			t.Fatalf("quickTexts(%s) = %s, want %s", line, got, want)
		}
	})
}

// TestPacked packs and unpacks values of every width.
func TestPacked(t *testing.T) {
	rnd := rand.New(rand.NewPCG(13, 14))
	for width := range uint(65) {
		for _, n := range []int{0, 1, 3, 63, groupLen} {
			values := make([]uint64, n)
			for i := range values {
				if values[i] = rnd.Uint64(); width < 64 {
					values[i] &= 1<<width - 1
				}
			}
			b := appendPacked([]byte("before"), values, width)
			if len(b) != len("before")+packedLen(n, width) || !bytes.HasPrefix(b, []byte("before")) {
				t.Fatalf("%d values of %d bits: %d bytes after %q", n, width, len(b), "before")
			}
			b = append(b[len("before"):], make([]byte, packPad)...)
			for i, want := range values {
				if got := unpack(b, i, width); got != want {
					t.Fatalf("%d values of %d bits: number %d is %x, want %x", n, width, i, got, want)
				}
			}
		}
	}
}

// TestSealChangedLines seals a segment whose file is not what was written: the
// entry is named, and nothing is lost.
func TestSealChangedLines(t *testing.T) {
	const n, bad = 100, 70 // the sixth line of the second frame
	for _, c := range []struct {
		name   string
		change func(b []byte, start, end int) []byte // of the bad line, with its newline
	}{
		{"byte", func(b []byte, start, _ int) []byte { b[start+30] ^= 1; return b }},
		{"first byte", func(b []byte, start, _ int) []byte { b[start] ^= 1; return b }},
		{"newline", func(b []byte, _, end int) []byte { b[end-1] = ' '; return b }},
		{"newline and prefix", func(b []byte, _, end int) []byte { b[end-1] = 0; return b }},
		{"cut within", func(b []byte, start, _ int) []byte { return b[:start+10] }},
		{"cut before", func(b []byte, start, _ int) []byte { return b[:start] }},
		{"newline cut off", func(b []byte, _, end int) []byte { return b[:end-1] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := mustOpen(t, t.TempDir()+"/audit", Config{segmentBytes: 1 << 20}) // which does not seal by itself
			appendN(t, l, 0, n)
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := l.rotate(); err != nil { // which would make up for what is cut off with zeros
				t.Fatal(err)
			}
			seg := l.store.segs[0]
			path := l.store.path(seg.path())
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			start, end := seg.place(bad)
			if err := os.WriteFile(path, c.change(bytes.Clone(whole), int(start), int(end)), 0o600); err != nil {
				t.Fatal(err)
			}
			var tamper *TamperError
			if err := l.Seal(t.Context()); !errors.As(err, &tamper) || tamper.Index != bad || tamper.Path != seg.path() {
				t.Fatalf("Seal = %v, want a TamperError about entry %d in %s", err, bad, seg.path())
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := l.Seal(t.Context()); err != nil {
				t.Fatalf("Seal of what was put back = %v", err)
			}
			mustClose(t, l)
			if _, err := Verify(t.Context(), l.store.dir, VerifyConfig{Indexes: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSealHurried seals segments of which several wait, and the last of them at
// leisure: both forms are read, and have the same index.
func TestSealHurried(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := mustOpen(t, dir, small()) // which does not seal by itself
	const n = 200
	for _, e := range oddEntries(n) {
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.store.segs); n < 2*maxWaiting {
		t.Fatalf("%d segments, want %d or more", n, 2*maxWaiting)
	}
	if err := l.packer.seal(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if l.packer.enc[0] == nil || l.packer.enc[1] == nil {
		t.Errorf("at leisure %v, hurried %v; want both", l.packer.enc[0] != nil, l.packer.enc[1] != nil)
	}
	for i, want := range oddEntries(n) {
		if got, err := l.Get(t.Context(), int64(i)); err != nil || got.ID != want.ID || got.SessionID != want.SessionID {
			t.Errorf("Get(%d) = %+v, %v", i, got, err)
		}
	}
	mustClose(t, l)
	if _, err := Verify(t.Context(), dir, VerifyConfig{Indexes: true}); err != nil {
		t.Error(err)
	}
}
