package evidence

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// ledger is a Source of the test's own.
type ledger struct{ *audit.Ledger }

func (l ledger) Tile(_ context.Context, level int, index int64, width int) ([]byte, error) {
	return l.Ledger.Tile(level, index, width)
}

// memory is a pack in memory.
type memory struct {
	files fstest.MapFS
	name  string
}

func (m *memory) Create(name string) (io.Writer, error) {
	m.files[name] = &fstest.MapFile{}
	m.name = name
	return m, nil
}

func (m *memory) Write(b []byte) (int, error) {
	f := m.files[m.name]
	f.Data = append(f.Data, b...)
	return len(b), nil
}

var epoch = time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC)

// newLedger has n entries of three agents and two people, a hold and an erasure.
func newLedger(t testing.TB, n int) ledger {
	t.Helper()
	l, err := audit.Open(t.TempDir()+"/audit", audit.Config{Origin: "example.org/pack", UsersAreSubjects: true, ClearDetails: []string{"tool"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	var batch []audit.Entry
	for i := range n {
		e := audit.Entry{
			Time: epoch.Add(time.Duration(i) * time.Minute), AgentID: []string{"planner", "writer", "critic"}[i%3],
			Action: "tool.execute", Result: []audit.Result{audit.Success, audit.Failure}[i%2], SessionID: fmt.Sprint("s-", i/10),
			Details: map[string]any{"tool": "search", "query": fmt.Sprint("PRIVATE-", i)},
		}
		if i%4 == 0 {
			e.UserID = []string{"maria", "luis"}[i/4%2]
		}
		if batch = append(batch, e); len(batch) == 1000 || i == n-1 {
			if _, err := l.AppendBatch(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ledger{l}
}

func config(l ledger, q audit.Query) Config {
	return Config{
		Source: l, Query: q, Checkpoint: l.Checkpoint(), Origin: l.Origin(), Key: l.VerifierKey(), Created: epoch, Tool: "kaizen test",
	}
}

// packed makes a pack in memory, which must be intact.
func packed(t testing.TB, l ledger, cfg Config) fstest.MapFS {
	t.Helper()
	m := &memory{files: fstest.MapFS{}}
	if _, err := Write(t.Context(), m, cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), m.files, VerifyConfig{Key: l.VerifierKey()}); err != nil {
		t.Fatalf("Verify(a pack that was just made): %v", err)
	}
	return m.files
}

func TestPack(t *testing.T) {
	l := newLedger(t, 700)
	first := l.Checkpoint()
	if _, _, err := l.Hold(t.Context(), audit.Hold{ID: "case-1", AgentID: "writer", Reason: "lawsuit"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Erase(t.Context(), audit.Erasure{Subject: "luis", Reason: "request 31"}); err == nil {
		t.Fatal("an erasure went through a hold")
	}
	if _, err := l.Release(t.Context(), audit.Release{ID: "case-1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Erase(t.Context(), audit.Erasure{Subject: "luis", Reason: "request 31"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	proof, err := l.ProveConsistency([]byte(first.Note))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name         string
		q            audit.Query
		entries, own int64
		reveal       bool
		complete     bool
	}{
		{"everything", audit.Query{}, 703, 0, false, true},
		{"everything revealed", audit.Query{}, 703, 0, true, true},
		{"one agent, held", audit.Query{AgentID: "writer"}, 233, 3, false, false},
		{"one agent, not held", audit.Query{AgentID: "planner"}, 234, 1, false, false},
		{"a person", audit.Query{UserID: "maria"}, 88, 2, false, false},
		{"a person revealed", audit.Query{UserID: "maria"}, 88, 2, true, false},
		{"a period", audit.Query{Since: epoch.Add(time.Hour), Until: epoch.Add(2 * time.Hour)}, 61, 3, false, false},
		{"no entry", audit.Query{AgentID: "nobody"}, 0, 0, false, false},
		{"one session", audit.Query{SessionID: "s-7"}, 10, 3, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(l, tt.q)
			cfg.Reveal, cfg.Earlier = tt.reveal, []Earlier{{first.Size, first.Note, proof.Marshal()}}
			files := packed(t, l, cfg)
			r, err := Verify(t.Context(), files, VerifyConfig{Checkpoints: []audit.Remembered{{Note: first.Note, Source: "mine"}}})
			if err != nil {
				t.Fatal(err)
			}
			if r.Entries != tt.entries || r.Own != tt.own || r.Complete != tt.complete || r.Earlier != 1 || r.Uncompared != 0 || r.Size != 703 {
				t.Errorf("report %+v, want %d entries, %d own, complete %t", r, tt.entries, tt.own, tt.complete)
			}
			all := ""
			for name, f := range files {
				if name != readmeName {
					all += string(f.Data)
				}
			}
			if got := strings.Contains(all, `PRIVATE-8"`) || strings.Contains(all, "maria"); got && !tt.reveal {
				t.Error("personal data in a pack that reveals none")
			}
			if tt.reveal && tt.q.UserID != "" && !strings.Contains(all, "PRIVATE-8\"") {
				t.Error("nothing is revealed")
			}
			if strings.Contains(all, "luis") {
				t.Error("the name of an erased person")
			}
		})
	}
}

// TestTampering changes each file of a pack in each of its bytes, and takes each
// file away: the verdict names a file, and for an entry which one.
func TestTampering(t *testing.T) {
	l := newLedger(t, 12)
	first := l.Checkpoint()
	if _, err := l.Append(t.Context(), audit.Entry{AgentID: "planner", Action: "x", Result: audit.Denied}); err != nil {
		t.Fatal(err)
	}
	proof, err := l.ProveConsistency([]byte(first.Note))
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(l, audit.Query{AgentID: "planner"})
	cfg.Checkpoint = l.Checkpoint()
	cfg.Earlier = []Earlier{{first.Size, first.Note, proof.Marshal()}}
	cfg.Reveal = true
	files := packed(t, l, cfg)
	check := func(files fs.FS) *audit.TamperError {
		_, err := Verify(t.Context(), files, VerifyConfig{Key: l.VerifierKey()})
		bad, ok := errors.AsType[*audit.TamperError](err)
		if !ok && !errors.Is(err, ErrNotPack) && err != nil && !strings.Contains(err.Error(), "version") {
			t.Fatalf("not a verdict: %v", err)
		}
		if err == nil {
			return nil
		}
		if bad == nil {
			bad = &audit.TamperError{Path: manifestName}
		}
		return bad
	}
	for name, f := range files {
		whole := f.Data
		step := max(1, len(whole)/120)
		for i := 0; i < len(whole); i += step {
			f.Data = bytes.Clone(whole)
			f.Data[i] ^= 1 << (i % 8)
			if bad := check(files); bad == nil || bad.Path == "" {
				t.Fatalf("%s: byte %d changed: %v; %.80s", name, i, bad, f.Data[max(0, i-40):])
			} else if name == entriesName && bad.Path != entriesName {
				t.Fatalf("%s: byte %d changed, and %s is blamed", name, i, bad.Path)
			}
		}
		f.Data = whole
		delete(files, name)
		if bad := check(files); bad == nil {
			t.Errorf("%s can be taken away", name)
		}
		files[name] = f
	}
	files["more.txt"] = &fstest.MapFile{Data: []byte("x")}
	if bad := check(files); bad == nil || bad.Path != "more.txt" {
		t.Errorf("another file: %v", bad)
	}
	delete(files, "more.txt")

	// Somebody who also writes the manifest anew is found by proof and signature.
	forge := func(name string, change func([]byte) []byte, also ...string) *audit.TamperError {
		t.Helper()
		forged := fstest.MapFS{}
		for n, f := range files {
			forged[n] = &fstest.MapFile{Data: bytes.Clone(f.Data)}
		}
		forged[name].Data = change(forged[name].Data)
		var m manifest
		if err := json.Unmarshal(forged[manifestName].Data, &m); err != nil {
			t.Fatal(err)
		}
		for i := range m.Files {
			sum := &sumWriter{w: io.Discard, sum: sha256.New()}
			_, _ = sum.Write(forged[m.Files[i].Name].Data)
			m.Files[i].Bytes, m.Files[i].SHA256 = sum.n, fmt.Sprintf("%x", sum.sum.Sum(nil))
		}
		b, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		forged[manifestName].Data = b
		bad := check(forged)
		if bad == nil {
			t.Fatalf("%s: forged together with the manifest, and not found", name)
		}
		return bad
	}
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("no %q to replace", old)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	if bad := forge(entriesName, replace(`"result":"success"`, `"result":"failure"`)); bad.Path != entriesName || bad.Index != 0 {
		t.Errorf("a changed entry: %v", bad)
	}
	second := func(b []byte) []byte {
		lines := bytes.SplitAfter(b, []byte("\n"))
		return bytes.Join(append(lines[:1:1], lines[2:]...), nil)
	}
	if bad := forge(entriesName, second); bad.Path != entriesName {
		t.Errorf("an entry left out: %v", bad)
	}
	if bad := forge(readableName, replace("tool.execute", "tool.permit")); bad.Path != readableName || bad.Index != 0 {
		t.Errorf("plain text that differs: %v", bad)
	}
	if bad := forge(reportName, replace("success", "denied")); bad.Path != reportName {
		t.Errorf("another report: %v", bad)
	}
	if bad := forge(readmeName, replace("EVIDENCE", "evidence")); bad.Path != readmeName {
		t.Errorf("another README: %v", bad)
	}
	if bad := forge(manifestName, replace(`"agent": "planner"`, `"agent": "writer"`)); bad.Path != entriesName {
		t.Errorf("another filter: %v", bad)
	}
	if bad := forge(checkpointName, replace("\n13\n", "\n14\n")); bad.Path != checkpointName {
		t.Errorf("another checkpoint: %v", bad)
	}

	// A pack made up with a key of somebody else's.
	other := newLedger(t, 12)
	if _, err := Verify(t.Context(), packed(t, other, config(other, audit.Query{})), VerifyConfig{Key: l.VerifierKey()}); err == nil {
		t.Error("another key's pack passes")
	}
	if _, err := Verify(t.Context(), files, VerifyConfig{Checkpoints: []audit.Remembered{{Note: other.Checkpoint().Note, Source: "other"}}}); err == nil {
		t.Error("another ledger's checkpoint passes")
	}
	if _, err := Verify(t.Context(), fstest.MapFS{}, VerifyConfig{}); !errors.Is(err, ErrNotPack) {
		t.Errorf("nothing at all: %v", err)
	}
}

// hostile is what agents may write into the ledger.
var hostile = []string{
	`<script>alert(1)</script>`, `</td></tr></table><h1>x`, `"><img src=x onerror=alert(1)>`, `' onmouseover='x`, `&lt;b&gt; &amp;`,
	"a\x1b[31mred\nline\ttab", "\u202egnirts desrever\u202c", "\u2028\u2029", `</style><style>*{display:none}`, `javascript:alert(1)`, `<!--`, `]]>`, "é 😀",
}

// TestReportEscapes reads the report back as HTML: texts are texts, and nothing
// from outside made an element or an attribute.
func TestReportEscapes(t *testing.T) {
	l := newLedger(t, 0)
	for _, s := range hostile {
		e := audit.Entry{AgentID: s, Action: s, Result: audit.Success, SessionID: s, Severity: s, Details: map[string]any{s: s}}
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := l.Hold(t.Context(), audit.Hold{ID: "h", AgentID: hostile[0], Reason: hostile[0], Authority: hostile[2]}); err != nil {
		t.Fatal(err)
	}
	cfg := config(l, audit.Query{})
	cfg.Checkpoint, cfg.Tool = l.Checkpoint(), hostile[0]
	page := string(packed(t, l, cfg)[reportName].Data)
	checkMarkup(t, page)
	for _, r := range page {
		if hidden(r) && r != '\n' {
			t.Fatalf("the report has %U", r)
		}
	}
	for _, want := range []string{"&lt;script&gt;alert(1)&lt;/script&gt;", `a\x1b[31mred\nline\ttab`, `\u202egnirts`, "é 😀"} {
		if !strings.Contains(page, want) {
			t.Errorf("the report does not show %q", want)
		}
	}
}

// checkMarkup fails for a tag that the writer does not have.
func checkMarkup(t testing.TB, page string) {
	t.Helper()
	known := map[string]bool{}
	for _, tag := range strings.Fields("html head meta title style body h1 h2 h3 p table colgroup col thead tbody tr th td div span code pre !DOCTYPE") {
		known[tag], known["/"+tag] = true, true
	}
	_, body, ok := strings.Cut(page, "</style>")
	if !ok || strings.Count(page, "<style>") != 1 {
		t.Fatal("the style is not in one piece")
	}
	for _, part := range strings.Split(body, "<")[1:] {
		tag, _, ok := strings.Cut(part, ">")
		name, attributes, _ := strings.Cut(tag, " ")
		if !ok || !known[name] {
			t.Fatalf("markup <%s that is not ours", part)
		}
		for _, a := range strings.Fields(attributes) {
			if !strings.HasPrefix(a, "class=") && !strings.HasPrefix(a, "scope=") {
				t.Fatalf("attribute %s in <%s>", a, tag)
			}
		}
	}
}

// FuzzEscape: no text makes markup, and what is readable stays.
func FuzzEscape(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := escape(s)
		if strings.ContainsAny(got, "<>\"'") || strings.ContainsFunc(got, hidden) {
			t.Fatalf("escape(%q) = %q", s, got)
		}
		for _, part := range strings.Split(got, "&")[1:] {
			name, _, ok := strings.Cut(part, ";")
			switch name {
			case "amp", "lt", "gt", "#34", "#39":
			default:
				ok = false
			}
			if !ok {
				t.Fatalf("escape(%q) = %q: a bare ampersand", s, got)
			}
		}
	})
}

// FuzzProof: what reads a proof takes no text that is not what the writer would
// write for the tree that it adds up to.
func FuzzProof(f *testing.F) {
	l := newLedger(f, 9)
	m := &memory{files: fstest.MapFS{}}
	if _, err := Write(f.Context(), m, config(l, audit.Query{AgentID: "critic"})); err != nil {
		f.Fatal(err)
	}
	f.Add(m.files[proofName].Data)
	f.Add([]byte(proofFirstLine + "\n0 8 " + strings.Repeat("A", 43) + "=\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := newProofReader(bytes.NewReader(b), 1<<40)
		if err != nil {
			return
		}
		last := int64(-1)
		for {
			index, _, ok, err := p.next()
			if err != nil {
				return
			}
			if !ok {
				break
			}
			if index <= last || index >= p.tree.size {
				t.Fatalf("entry %d after %d, in a tree of %d", index, last, p.tree.size)
			}
			last = index
		}
		n := int64(0)
		for i, level := range p.tree.levels {
			if i > 0 && level >= p.tree.levels[i-1] {
				t.Fatalf("peaks %v", p.tree.levels)
			}
			n += int64(1) << level
		}
		if n != p.tree.size {
			t.Fatalf("peaks %v of %d entries", p.tree.levels, p.tree.size)
		}
	})
}

// TestFlat makes and checks a pack of 100,000 entries and looks at memory.
func TestFlat(t *testing.T) {
	n := 20_000
	if os.Getenv("KAIZEN_LONG") != "" {
		n = 100_000
	}
	l := newLedger(t, n)
	path := t.TempDir() + "/pack.zip"
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	grown := growth(func() {
		if _, err := Write(t.Context(), zipSink{z}, config(l, audit.Query{})); err != nil {
			t.Fatal(err)
		}
	})
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var report Report
	checked := growth(func() {
		if report, err = Verify(t.Context(), r, VerifyConfig{Key: l.VerifierKey()}); err != nil {
			t.Fatal(err)
		}
	})
	if report.Entries != int64(n) || !report.Complete {
		t.Errorf("report %+v", report)
	}
	const most = 24 << 20
	t.Logf("%d entries: live memory grew by %d KiB when writing, %d KiB when checking", n, grown>>10, checked>>10)
	if grown > most || checked > most {
		t.Errorf("live memory grew by %d and %d bytes, want at most %d", grown, checked, most)
	}
}

type zipSink struct{ *zip.Writer }

// growth is by how much live memory was larger at any look while do ran.
func growth(do func()) int64 {
	before := live()
	done, peak := make(chan struct{}), make(chan int64)
	go func() {
		most := int64(0)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				peak <- most
				return
			case <-tick.C:
				most = max(most, live()-before)
			}
		}
	}()
	do()
	close(done)
	return <-peak
}

// live is what a collection has left: not what was allocated since, before this
// goroutine came to look.
func live() int64 {
	runtime.GC()
	left := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(left)
	return int64(left[0].Value.Uint64())
}

var _ Source = ledger{}
