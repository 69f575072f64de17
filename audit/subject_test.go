package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
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

// TestEraseLeavesNothing is the promise: after an erasure, no file has the
// plaintext, the name, or the keys, and no proof has changed.
func TestEraseLeavesNothing(t *testing.T) {
	fsys := freshFS(t)
	cfg := subjectConfig(fsys)
	l := mustOpen(t, "/l/audit", cfg)
	var rs []Receipt
	for n := range 60 {
		e := about(n, []string{"maria", "luis", "chen"}[n%3])
		if n%3 == 0 && n%2 == 0 {
			e.UserID, e.Subject = "maria", "" // her alone
		} else if n%3 == 1 {
			e.UserID = "maria" // she acted, it is about luis
		}
		rs = append(rs, mustAppend(t, l, e)...)
	}
	var proofs []Proof
	for _, r := range rs {
		p, err := l.Proof(r.Index)
		if err != nil {
			t.Fatal(err)
		}
		proofs = append(proofs, p)
	}
	maria := l.vault.find("maria")
	token, key := maria.token, maria.keys[0].key
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	backup := fsys.clone()
	x, err := l.Erase(t.Context(), Erasure{Subject: "maria", Reason: "request 17", Authority: "DPO"})
	if err != nil {
		t.Fatal(err)
	}
	if !x.Found || x.Token != token || x.Entries != 40 || x.First != 0 || x.Last != 58 || x.Receipt.Index != 60 || x.Clear != 0 {
		t.Errorf("receipt %+v, want 40 entries from 0 to 58, at 60", x)
	}
	erased := func(t *testing.T, l interface {
		Get(context.Context, int64) (Entry, error)
	}) {
		t.Helper()
		for n := range int64(60) {
			e, err := l.Get(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			switch n % 3 {
			case 0:
				if e.Withheld.Details != Erased || e.Withheld.Metadata != Erased || e.Subject != token || !strings.Contains(string(text), `"details":{"erased":true,"tool":"search"}`) {
					t.Errorf("entry %d: %s", n, text)
				}
			case 1:
				if e.Subject != "luis" || e.Details["text"] != "SECRET-luis" || !strings.Contains(string(text), `"user_id":{"erased":true}`) {
					t.Errorf("entry %d: %s", n, text)
				}
			case 2:
				if e.Withheld != (Withheld{}) || e.Details["text"] != "SECRET-chen" {
					t.Errorf("entry %d: %s", n, text)
				}
			}
			var back Entry
			if err := json.Unmarshal(text, &back); err != nil {
				t.Fatal(err)
			}
			if again, err := json.Marshal(back); err != nil || !bytes.Equal(again, text) {
				t.Errorf("entry %d prints as %s, and read back as %s, %v", n, text, again, err)
			}
		}
	}
	erased(t, l)
	nothing := func(t *testing.T) {
		t.Helper()
		raw := string(key[:])
		if found := fsys.search("SECRET-maria", "maria", raw); len(found) > 0 {
			t.Errorf("still there: %v", found)
		}
	}
	nothing(t)
	checkReceipts(t, l, rs)
	for _, p := range proofs {
		if err := p.Check(l.VerifierKey()); err != nil {
			t.Errorf("proof of %d: %v", p.Index, err)
		}
	}
	again, err := l.Erase(t.Context(), Erasure{Subject: "maria"})
	if err != nil || again.Found || again.Entries != 0 {
		t.Errorf("erasing again = %+v, %v; want that nothing is known", again, err)
	}
	if again, err = l.Erase(t.Context(), Erasure{Subject: token}); err != nil || again.Receipt.Index != 60 || again.Entries != 40 || again.Receipt.LeafHash != x.Receipt.LeafHash {
		t.Errorf("erasing the token again = %+v, %v; want the first receipt", again, err)
	}
	if n, err := l.Count(t.Context(), Query{Action: actionErasure}); n != 1 || err != nil {
		t.Errorf("%d receipts, %v; want 1", n, err)
	}
	mustAppend(t, l, about(70, "maria")) // a new subject
	if e := mustGet(t, l, 61); e.Details["text"] != "SECRET-maria" {
		t.Errorf("a later entry: %+v", e)
	}
	mustClose(t, l)
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Checkpoint: []byte(proofs[0].Note)}); err != nil {
		t.Errorf("verify after the erasure: %v", err)
	}
	l = mustOpen(t, "/l/audit", cfg)
	erased(t, l)
	if _, err := l.Erase(t.Context(), Erasure{Subject: "maria"}); err != nil {
		t.Fatal(err)
	}
	nothing(t)
	mustClose(t, l)
	nothing(t)

	t.Run("ledger from a backup", func(t *testing.T) {
		restored := fsys.clone()
		moveTree(t, backup, restored, "/l/audit")
		cfg := subjectConfig(restored)
		cfg.AcceptRestored = true
		l := mustOpen(t, "/l/audit", cfg)
		if e := mustGet(t, l, 0); e.Withheld.Details != Erased {
			t.Errorf("a backup of the ledger gave %+v", e)
		}
		mustClose(t, l)
	})
	t.Run("key store from a backup, with the key of now", func(t *testing.T) {
		restored := fsys.clone()
		restored.set("/l/keys/audit.subjects", backup.get(t, "/l/keys/audit.subjects"))
		if _, err := Open("/l/audit", subjectConfig(restored)); !isTamper(err) {
			t.Errorf("Open = %v, want a TamperError: its key is destroyed", err)
		}
	})
	t.Run("all keys from a backup", func(t *testing.T) {
		restored := fsys.clone()
		moveTree(t, backup, restored, "/l/keys")
		r, err := openReader(restored, "/l/audit")
		if err != nil {
			t.Fatal(err)
		}
		if e, err := r.Get(t.Context(), 0); err != nil || e.Withheld.Details != Erased {
			t.Errorf("a reader showed what the ledger says is erased: %+v, %v", e, err)
		}
		l := mustOpen(t, "/l/audit", subjectConfig(restored))
		if e := mustGet(t, l, 0); e.Withheld.Details != Erased {
			t.Errorf("the ledger showed what it says is erased: %+v", e)
		}
		mustClose(t, l)
		if found := restored.search("maria", string(key[:])); len(found) > 0 {
			t.Errorf("opening did not destroy it again: %v", found)
		}
	})
}

// moveTree copies a folder with what is in it, and removes what else was there.
func moveTree(t *testing.T, from, to *memFS, name string) {
	t.Helper()
	parent, err := to.dir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	d, err := from.clone().dir(name)
	if err != nil {
		t.Fatal(err)
	}
	parent.names[filepath.Base(name)] = d
	parent.synced = maps.Clone(parent.names)
}

// unzip gives what is in a compressed file beside what is in the others.
func unzip(t *testing.T, path string, b []byte) []byte {
	t.Helper()
	if filepath.Ext(path) != ".zst" {
		return b
	}
	dec, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	plain, err := io.ReadAll(dec)
	if err != nil || len(plain) == 0 {
		t.Fatalf("%s: %d bytes, %v", path, len(plain), err)
	}
	return plain
}

// TestErasedFromRealFiles looks through every byte on a real disk: of the ring
// while the ledger is open, of segments, sealed, indexed and archived.
func TestErasedFromRealFiles(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{UsersAreSubjects: true, Archive: filepath.Join(dir, "archive")}
	l := mustOpen(t, filepath.Join(dir, "audit"), cfg)
	for n := range 20 {
		mustAppend(t, l, about(n, "maria"))
	}
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Archive(t.Context(), ArchiveDir(cfg.Archive)); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		mustAppend(t, l, about(100+n, "maria"))
	}
	if _, err := l.Erase(t.Context(), Erasure{Subject: "maria"}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		kept, kinds := 0, map[string]int{}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if kinds[filepath.Ext(path)]++; err == nil {
				b = unzip(t, path, b)
			}
			if err == nil && (bytes.Contains(b, []byte("SECRET")) || bytes.Contains(b, []byte("maria"))) {
				t.Errorf("%s has it in clear", path)
			}
			if strings.Contains(path, ".kek.") {
				kept++
			}
			if info, statErr := d.Info(); statErr == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s is open to others: %v", path, info.Mode())
			}
			return err
		})
		if err != nil || kept != 1 {
			t.Errorf("walk: %v; %d key-encryption keys, want the newest alone", err, kept)
		}
		if kinds[".zst"] < 2 || kinds[".idx"] < 2 || kinds[".jsonl"] == 0 {
			t.Errorf("files by kind: %v, want sealed, archived and open segments", kinds)
		}
	}
	check()
	for i := range int64(20) { // in the sealed segment
		if e := mustGet(t, l, i); e.Withheld.Details != Erased {
			t.Errorf("entry %d: %+v", i, e.Withheld)
		}
	}
	mustClose(t, l)
	check()
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
