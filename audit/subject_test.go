package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// about is an entry with personal data of who, recognisable wherever it is.
func about(n int, who string) Entry {
	e := numbered(n)
	e.UserID, e.Subject = "", who
	e.Details = map[string]any{"tool": "search", "text": "SECRET-" + who, "deep": []any{map[string]any{"n": json.Number("1.5")}}}
	e.Metadata = map[string]any{"mail": "SECRET-" + who + "@example.org"}
	return e
}

func subjectConfig(fsys *memFS) Config {
	cfg := tiny(fsys)
	cfg.UsersAreSubjects, cfg.ClearDetails = true, []string{"tool"}
	return cfg
}

func mustAppend(t testing.TB, l *Ledger, es ...Entry) []Receipt {
	t.Helper()
	rs, err := l.AppendBatch(context.Background(), es)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func mustGet(t testing.TB, l *Ledger, i int64) Entry {
	t.Helper()
	e, err := l.Get(context.Background(), i)
	if err != nil {
		t.Fatalf("Get(%d) = %v", i, err)
	}
	return e
}

// search finds every text in every file, and in the names of files.
func (m *memFS) search(texts ...string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []string
	var walk func(at string, d *memDir)
	walk = func(at string, d *memDir) {
		for name, node := range d.names {
			path := at + "/" + name
			for _, text := range texts {
				f, ok := node.(*memFile)
				if strings.Contains(name, text) || ok && (bytes.Contains(f.data, []byte(text)) || bytes.Contains(f.synced, []byte(text))) {
					found = append(found, path+" has "+text)
				}
			}
			if sub, ok := node.(*memDir); ok {
				walk(path, sub)
			}
		}
	}
	walk("", m.root)
	slices.Sort(found)
	return found
}

func TestSubjectRoundTrip(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	ofUser := about(1, "")
	ofUser.UserID = "maria"
	both := about(2, "maria")
	both.UserID = "operator-9"
	want := []Entry{about(0, "maria"), ofUser, both, numbered(3), {ID: numbered(4).ID, Time: testTime, AgentID: "a", Action: "x", Result: Success, Subject: "maria"}}
	want[3].UserID = ""
	rs := mustAppend(t, l, want...)
	want[1].Subject = "maria" // by UsersAreSubjects
	check := func(t *testing.T, get func(int64) (Entry, error)) {
		t.Helper()
		for i, w := range want {
			w.Index = int64(i)
			got, err := get(w.Index)
			if err != nil {
				t.Fatal(err)
			}
			gotJSON, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			wantJSON, err := json.Marshal(w)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(wantJSON), string(gotJSON)); diff != "" {
				t.Errorf("entry %d (-want +got):\n%s", i, diff)
			}
		}
	}
	get := func(i int64) (Entry, error) { return l.Get(t.Context(), i) }
	check(t, get)
	if found := fsys.search("SECRET", "maria", "operator-9"); len(found) > 0 {
		t.Errorf("in clear: %v", found)
	}
	for name, q := range map[string]struct {
		q    Query
		want []int64
	}{
		"subject":       {Query{Subject: "maria"}, []int64{0, 1, 2, 4}},
		"user":          {Query{UserID: "maria"}, []int64{1}},
		"other user":    {Query{UserID: "operator-9"}, []int64{2}},
		"both":          {Query{Subject: "maria", UserID: "operator-9"}, []int64{2}},
		"nobody":        {Query{Subject: "nobody"}, nil},
		"no user":       {Query{UserID: "nobody"}, nil},
		"and an action": {Query{Subject: "maria", Action: numbered(0).Action}, []int64{0}},
		"token":         {Query{Subject: l.vault.find("maria").token}, []int64{0, 1, 2, 4}},
	} {
		var got []int64
		for e, err := range l.Query(t.Context(), q.q) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Index)
		}
		n, err := l.Count(t.Context(), q.q)
		if !slices.Equal(got, q.want) || err != nil || n != int64(len(q.want)) {
			t.Errorf("%s: Query = %v, Count = %d, %v; want %v", name, got, n, err, q.want)
		}
	}
	checkReceipts(t, l, rs)
	mustClose(t, l)
	l = mustOpen(t, "/l/audit", subjectConfig(fsys))
	check(t, get)
	r, err := openReader(fsys, "/l/audit")
	if err != nil {
		t.Fatal(err)
	}
	check(t, func(i int64) (Entry, error) { return r.Get(t.Context(), i) })
}

// TestUserQueryJoinsClearAndSealed has lines of a user from before users were
// subjects, and later ones.
func TestUserQueryJoinsClearAndSealed(t *testing.T) {
	fsys := freshFS(t)
	cfg := subjectConfig(fsys)
	for i := range 12 {
		cfg.UsersAreSubjects = i%3 == 2
		l := mustOpen(t, "/l/audit", cfg)
		e := numbered(i)
		e.UserID = "maria"
		mustAppend(t, l, e)
		mustClose(t, l)
	}
	l := mustOpen(t, "/l/audit", cfg)
	all := []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	down := slices.Clone(all)
	slices.Reverse(down)
	for _, tt := range []struct {
		q    Query
		want []int64
	}{
		{Query{}, all}, {Query{Descending: true}, down}, {Query{Limit: 4}, all[:4]}, {Query{Limit: 4, After: 4}, all[4:8]},
		{Query{Descending: true, Limit: 3, After: 9}, down[4:7]}, {Query{Limit: 12}, all}, {Query{Since: numbered(5).Time}, all[5:]},
	} {
		tt.q.UserID = "maria"
		var got []int64
		for e, err := range l.Query(t.Context(), tt.q) {
			if err != nil || e.UserID != "maria" {
				t.Fatal(e, err)
			}
			got = append(got, e.Index)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.q, got, tt.want)
		}
	}
	if n, err := l.Count(t.Context(), Query{UserID: "maria"}); n != 12 || err != nil {
		t.Errorf("Count = %d, %v; want 12", n, err)
	}
	for range l.Query(t.Context(), Query{UserID: "maria"}) {
		break // the iterators below must end too
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, last = range l.Query(ctx, Query{UserID: "maria"}) {
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("query of an ended context: %v", last)
	}
}

func TestReaderWithoutKeys(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	e := about(0, "maria")
	e.UserID = "maria"
	mustAppend(t, l, e, about(1, "luis"))
	if _, err := l.Erase(t.Context(), Erasure{Subject: "luis"}); err != nil {
		t.Fatal(err)
	}
	token := l.vault.find("maria").token
	mustClose(t, l)
	r, err := openReaderWith(fsys, "/l/audit", ReaderConfig{WithoutKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Get(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != token || got.UserID != "" || got.Withheld != (Withheld{Encrypted, Encrypted, Encrypted}) || len(got.Details) != 1 || got.Details["tool"] != "search" {
		t.Errorf("without keys: %+v", got)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"user_id":{"encrypted":true}`, `"details":{"encrypted":true,"tool":"search"}`, `"metadata":{"encrypted":true}`, `"subject":"` + token + `"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("printed %s, want %s in it", text, want)
		}
	}
	var back Entry
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, back); diff != "" {
		t.Errorf("printed and read again (-want +got):\n%s", diff)
	}
	if got, err = r.Get(t.Context(), 1); err != nil || got.Withheld.Details != Erased {
		t.Errorf("an erased entry without keys: %+v, %v; the ledger itself says that it is erased", got, err)
	}
}

// TestQueryStored gives entries from which the lines can be made again.
func TestQueryStored(t *testing.T) {
	l := mustOpen(t, "/l/audit", subjectConfig(freshFS(t)))
	e := about(0, "maria")
	e.UserID = "luis"
	mustAppend(t, l, e, numbered(1))
	for e, err := range l.Query(t.Context(), Query{Stored: true}) {
		if err != nil {
			t.Fatal(err)
		}
		p, err := l.Proof(e.Index)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back Entry
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		for _, form := range []Entry{e, back} {
			line, err := EncodeLine(nil, form)
			if err != nil || !bytes.Equal(line, p.Line) {
				t.Errorf("entry %d: line %s, %v; want %s", e.Index, line, err, p.Line)
			}
		}
	}
}

func TestAppendRefusesWhatIsTheLedgers(t *testing.T) {
	l := mustOpen(t, "/l/audit", subjectConfig(freshFS(t)))
	token := newToken()
	for name, tt := range map[string]struct {
		change func(*Entry)
		field  string
	}{
		"system action":   {func(e *Entry) { e.AgentID, e.Action = "kaizen", "ledger.hold" }, "action"},
		"token as user":   {func(e *Entry) { e.UserID = token }, "user_id"},
		"token":           {func(e *Entry) { e.Subject = token }, "subject"},
		"withheld":        {func(e *Entry) { e.Withheld.Details = Erased }, "details"},
		"subject, bad id": {func(e *Entry) { e.Subject, e.ID = "s", "x" }, "id"},
		"subject, UTF-8":  {func(e *Entry) { e.Subject = "\xff" }, "subject"},
		"details":         {func(e *Entry) { e.Details = map[string]any{"a": map[string]any{"b": "\xff"}} }, "details.a.b"},
		"metadata":        {func(e *Entry) { e.Metadata = map[string]any{"f": func() {}} }, "metadata.f"},
		"too long":        {func(e *Entry) { e.Details = map[string]any{"a": strings.Repeat("x", 50_000)} }, "entry"},
	} {
		t.Run(name, func(t *testing.T) {
			e := about(0, "maria")
			tt.change(&e)
			var bad *EntryError
			if _, err := l.Append(t.Context(), e); !errors.As(err, &bad) || bad.Field != tt.field {
				t.Errorf("Append = %v, want an EntryError of %s", err, tt.field)
			}
			if err := l.AppendAsync(e); !errors.As(err, &bad) || bad.Field != tt.field {
				t.Errorf("AppendAsync = %v, want an EntryError of %s", err, tt.field)
			}
		})
	}
	other := numbered(1)
	other.AgentID, other.Action = "kaizen", "audit_gap"
	mustAppend(t, l, other)
	other = numbered(2)
	other.Action = "ledger.hold" // of another agent: not the ledger's
	mustAppend(t, l, other)
	if len(l.Holds()) > 0 {
		t.Error("somebody else's entry became a hold")
	}
}

// TestAppendable agrees with the ledger that encrypts the most.
func TestAppendable(t *testing.T) {
	l := mustOpen(t, "/l/audit", subjectConfig(freshFS(t)))
	e := numbered(0)
	e.UserID = strings.Repeat("u", MaxNameBytes)
	largest := 0
	for n := 45_000; n < 49_000; n += 211 {
		e.Details = map[string]any{"x": strings.Repeat("x", n)}
		if Appendable(e) != nil {
			continue
		}
		largest = n
		sealed, err := l.vault.admit([]Entry{e})
		if err == nil {
			_, err = EncodeLine(nil, sealed[0])
		}
		if err != nil {
			t.Fatalf("details of %d bytes are appendable, and refused: %v", n, err)
		}
	}
	if largest < 46_000 {
		t.Errorf("details of %d bytes are the largest", largest)
	}
	e.UserID = ""
	e.Details = map[string]any{"x": strings.Repeat("x", 64_000)}
	if err := Appendable(e); err != nil {
		t.Errorf("without a user: %v", err)
	}
	for _, bad := range []Entry{{}, {AgentID: "kaizen", Action: "ledger.x"}} {
		if Appendable(bad) == nil {
			t.Errorf("%+v is appendable", bad)
		}
	}
}

// TestSubjectRaces appends, reads, erases and holds at once; -race looks on.
func TestSubjectRaces(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := range 40 {
				e := about(w*1000+n, fmt.Sprintf("s%d", n%5))
				e.UserID = fmt.Sprintf("s%d", (n+w)%5)
				r, err := l.Append(t.Context(), e)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := l.Get(t.Context(), r.Index)
				if err != nil || got.Withheld.Details == Shown && got.Details["text"] != e.Details["text"] {
					t.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
	wg.Go(func() {
		for n := range 15 {
			if _, err := l.Erase(t.Context(), Erasure{Subject: fmt.Sprintf("s%d", n%5)}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for range 10 {
			for _, err := range l.Query(t.Context(), Query{UserID: "s1"}) {
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	wg.Go(func() {
		for range 10 {
			h, _, err := l.Hold(t.Context(), Hold{SessionID: "none"})
			if err == nil {
				_, err = l.Release(t.Context(), Release{ID: h.ID})
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	for n := range 5 {
		if _, err := l.Erase(t.Context(), Erasure{Subject: fmt.Sprintf("s%d", n)}); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
	if found := fsys.search("SECRET"); len(found) > 0 {
		t.Error(found)
	}
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
		t.Error(err)
	}
}

func (m *memFS) calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

func TestKeyEpochs(t *testing.T) {
	l := mustOpen(t, "/l/audit", subjectConfig(freshFS(t)))
	mustAppend(t, l, about(0, "maria"))
	s := l.vault.find("maria")
	s.keys[0].made = time.Now().Add(-keyLife)
	mustAppend(t, l, about(1, "maria"), about(2, "maria"))
	if s = l.vault.find("maria"); len(s.keys) != 2 {
		t.Fatalf("%d keys after the first has grown old, want 2", len(s.keys))
	}
	s.keys[1].used.Store(keyUses)
	mustAppend(t, l, about(3, "maria"))
	if s = l.vault.find("maria"); len(s.keys) != 3 {
		t.Fatalf("%d keys after the second is used up, want 3", len(s.keys))
	}
	for i := range int64(4) {
		if e := mustGet(t, l, i); e.Details["text"] != "SECRET-maria" {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if x, err := l.Erase(t.Context(), Erasure{Subject: "maria"}); err != nil || x.Entries != 4 {
		t.Errorf("Erase = %+v, %v", x, err)
	}
}

// TestManySubjects goes beyond the number of expanded keys that are kept.
func TestManySubjects(t *testing.T) {
	fsys := freshFS(t)
	cfg := tiny(fsys)
	l := mustOpen(t, "/l/audit", cfg)
	l.vault.most = 64
	names := make([]string, 900)
	for i := range names {
		names[i] = fmt.Sprintf("person-%d", i)
	}
	before := fsys.calls()
	if err := l.vault.ensure(names, time.Now()); err != nil {
		t.Fatal(err)
	}
	if used := fsys.calls() - before; used > 12 {
		t.Errorf("%d calls of the file system for %d new subjects", used, len(names))
	}
	for i := range names {
		if _, err := l.vault.find(names[i]).keys[0].cipher(l.vault); err != nil {
			t.Fatal(err)
		}
	}
	if k := l.vault.ciphers.Load(); k > 64 {
		t.Errorf("%d expanded keys are kept", k)
	}
	mustAppend(t, l, about(0, names[0]), about(1, names[len(names)-1]))
	mustClose(t, l)
	l = mustOpen(t, "/l/audit", cfg)
	if e := mustGet(t, l, 1); e.Subject != names[len(names)-1] {
		t.Errorf("entry 1 is of %s", e.Subject)
	}
	if x, err := l.Erase(t.Context(), Erasure{Subject: names[0]}); err != nil || x.Entries != 1 {
		t.Errorf("Erase = %+v, %v", x, err)
	}
	if n := len(l.vault.byToken); n != len(names)-1 {
		t.Errorf("%d subjects are left, want %d", n, len(names)-1)
	}
}

// TestSubjectVector is the example in docs/ledger-format.md: fixed keys, and
// the line that they make.
func TestSubjectVector(t *testing.T) {
	v := newVault(newMemFS(), "/k/audit.key", "example.org/agents", Config{ClearDetails: []string{"tool"}}.withDefaults())
	var key [32]byte
	for i := range key {
		key[i] = byte(i)
	}
	s := &subject{name: "u-17", token: "kzs_aaaqeayeaudaocajbifqydiob4"}
	d := newDataKey(s, key, time.Now())
	d.prefix = [8]byte{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7}
	v.add(d)
	first := Entry{
		ID: "01HZY3V9T5XKQ2M4N6P8R0S1T2", Time: testTime, AgentID: "planner", Action: "tool.execute", Result: Success,
		UserID: "u-17", Subject: "u-17", Details: map[string]any{"tool": "mail", "to": "someone@example.org"},
	}
	second := first
	second.ID, second.Metadata = "01HZY3V9T5XKQ2M4N6P8R0S1T3", map[string]any{"region": "eu"}
	sealed, fresh, err := v.seal([]Entry{first, second})
	if err != nil || fresh {
		t.Fatal(fresh, err)
	}
	line, err := EncodeLine(nil, sealed[0])
	if err != nil {
		t.Fatal(err)
	}
	both, err := EncodeLine(nil, sealed[1])
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/ledger-format.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{string(line), string(both), d.id} {
		if !bytes.Contains(doc, []byte(want)) {
			t.Errorf("docs/ledger-format.md lacks %s", want)
		}
	}
	e, err := DecodeLine(both)
	if err == nil {
		err = v.reveal(&e)
	}
	if err != nil || e.Details["to"] != "someone@example.org" || e.Details["tool"] != "mail" || e.Metadata["region"] != "eu" {
		t.Errorf("read back: %+v, %v", e, err)
	}
	e, err = DecodeLine(line)
	if err == nil {
		err = v.reveal(&e)
	}
	if err != nil || e.UserID != "u-17" || e.Details["to"] != "someone@example.org" {
		t.Errorf("read back: %+v, %v", e, err)
	}
}
