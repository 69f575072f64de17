package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// subjectLife is what a ledger with subjects goes through in the fault sweep.
// It returns what was acknowledged, and the tokens whose erasure was.
func subjectLife(cfg Config) (acked []Receipt, erased []string) {
	ctx := context.Background()
	for run := range 2 {
		l, err := Open("/l/audit", cfg)
		if err != nil {
			continue
		}
		for n := range 5 {
			batch := []Entry{about(run*100+n*2, fmt.Sprintf("p%d", n%3)), about(run*100+n*2+1, fmt.Sprintf("q%d-%d", run, n))}
			if rs, err := l.AppendBatch(ctx, batch); err == nil {
				acked = append(acked, rs...)
			}
			if n == 3 {
				if x, err := l.Erase(ctx, Erasure{Subject: "p1"}); err == nil && x.Found {
					erased = append(erased, x.Token)
				}
			}
		}
		_ = l.Close()
	}
	return acked, erased
}

// checkSubjects holds a file system after a crash to the promise: what was
// acknowledged can be read unless it was erased, and each erasure that took
// place has its receipt, once.
func checkSubjects(t *testing.T, fsys *memFS, acked []Receipt, erased []string) {
	t.Helper()
	l, err := Open("/l/audit", subjectConfig(fsys))
	if err != nil {
		t.Fatalf("Open after the crash: %v", err)
	}
	receipts := map[string]int{}
	for e, err := range l.Query(t.Context(), Query{Action: actionErasure}) {
		if err != nil {
			t.Fatal(err)
		}
		receipts[e.Details["token"].(string)]++
	}
	for _, token := range erased {
		if receipts[token] != 1 {
			t.Errorf("%d receipts of an acknowledged erasure, want 1", receipts[token])
		}
	}
	for _, r := range acked {
		e := mustGet(t, l, r.Index)
		switch {
		case e.ID != r.ID:
			t.Fatalf("entry %d is %s, want %s", r.Index, e.ID, r.ID)
		case e.Withheld.Details == Shown && e.Details["text"] != "SECRET-"+e.Subject:
			t.Errorf("entry %d: %+v", r.Index, e)
		case e.Withheld.Details == Encrypted:
			t.Errorf("the key of acknowledged entry %d is lost", r.Index)
		case e.Withheld.Details == Erased && receipts[e.Subject] != 1:
			t.Errorf("entry %d is erased, with %d receipts", r.Index, receipts[e.Subject])
		}
		if e.Withheld.Details == Shown && slices.Contains(erased, l.vault.find(e.Subject).token) {
			t.Errorf("entry %d can be read after its erasure", r.Index)
		}
	}
	if len(l.vault.unreceipted()) > 0 {
		t.Error("an erasure waits for its receipt after Open")
	}
	mustAppend(t, l, about(900, "p0"))
	mustClose(t, l)
	// A key whose file was never made goes with the next open.
	mustClose(t, mustOpen(t, "/l/audit", subjectConfig(fsys)))
	entries, err := fsys.ReadDir("/l/keys")
	if err != nil {
		t.Fatal(err)
	}
	keks := 0
	for _, e := range entries {
		if strings.Contains(e.Name(), ".kek.") {
			keks++
		}
	}
	if keks != 1 {
		t.Errorf("%d key-encryption keys after recovery, want 1", keks)
	}
	if r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil || !r.Clean {
		t.Errorf("Verify = %+v, %v", r, err)
	}
}

// TestSubjectFaultSweep is TestFaultSweep for the key store: each call fails in
// turn, lost or kept, once or for good, and then the power goes. The short form
// takes every ninth call, in one of the four ways.
func TestSubjectFaultSweep(t *testing.T) {
	long := os.Getenv("KAIZEN_FAULT_SEEDS") != ""
	probe := freshFS(t)
	subjectLife(subjectConfig(probe))
	states := 0
	step := 9
	if long {
		step = 1
	}
	for at := 1; at <= probe.calls(); at += step {
		for mode := range 4 {
			if !long && mode != at/step%4 {
				continue
			}
			fsys := freshFS(t)
			fsys.failAt, fsys.kept, fsys.stop = at, mode&1 == 1, mode&2 == 2
			acked, erased := subjectLife(subjectConfig(fsys))
			for how := range crashModes {
				survivor := fsys.crash(how, rand.New(rand.NewPCG(uint64(at), uint64(how))))
				name := fmt.Sprintf("call %d, kept %v, stop %v, crash %d", at, fsys.kept, fsys.stop, how)
				if !t.Run(name, func(t *testing.T) { checkSubjects(t, survivor, acked, erased) }) {
					return
				}
				states++
			}
		}
	}
	t.Logf("%d crash states", states)
}

// TestSubjectDiskFull has no room for a key: the entry is refused, and nothing
// is damaged.
func TestSubjectDiskFull(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	rs := mustAppend(t, l, about(0, "p0"))
	if err := l.Flush(t.Context()); err != nil { // what is under way has its room
		t.Fatal(err)
	}
	fsys.mu.Lock()
	fsys.limit = fsys.used()
	fsys.mu.Unlock()
	if _, err := l.Append(t.Context(), about(1, "p1")); !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed) {
		t.Errorf("Append of a new subject on a full disk = %v, want ENOSPC and ErrNoSpace", err)
	}
	fsys.mu.Lock()
	fsys.limit = 0
	fsys.mu.Unlock()
	rs = append(rs, mustAppend(t, l, about(2, "p0"), about(3, "p1"))...)
	mustClose(t, l)
	checkSubjects(t, fsys, rs, nil)
}

// storeOf makes a key store with a few records, and returns its files.
func storeOf(t testing.TB) (fsys *memFS, store []byte) {
	t.Helper()
	fsys = freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	mustAppend(t, l, about(0, "p0"), about(1, "p1"))
	mustAppend(t, l, about(2, "p2"))
	mustClose(t, l)
	return fsys, fsys.get(t, "/l/keys/audit.subjects")
}

// TestKeyStoreBitFlips flips every bit of the key store and of its key. Each
// must be reported, except in the last record, which says that the file was
// closed: without it the file is one that a crash left.
func TestKeyStoreBitFlips(t *testing.T) {
	fsys, store := storeOf(t)
	kek := fsys.get(t, "/l/keys/audit.kek.1")
	last := bytes.LastIndex(store, []byte(subjectFrameMagic))
	for name, file := range map[string][]byte{"/l/keys/audit.subjects": store, "/l/keys/audit.kek.1": kek} {
		for bit := range len(file) * 8 {
			b := slices.Clone(file)
			b[bit/8] ^= 1 << (bit % 8)
			v := newVault(fsys, "/l/keys/audit.key", "o", Config{}.withDefaults())
			fsys.set(name, b)
			_, _, err := v.load()
			switch {
			case name == "/l/keys/audit.subjects" && bit/8 >= last:
				if err != nil || len(v.byToken) != 3 {
					t.Fatalf("bit %d of the last record: %v, %d subjects", bit, err, len(v.byToken))
				}
			case !isTamper(err):
				t.Fatalf("%s: bit %d: %v, want a TamperError", name, bit, err)
			}
		}
		fsys.set(name, file)
	}
}

// TestKeyStoreCuts cuts the file at every byte, as a crash may: whole frames
// are there, the rest is not.
func TestKeyStoreCuts(t *testing.T) {
	fsys, store := storeOf(t)
	var ends []int
	for at := subjectsHeaderLen; at < len(store); {
		n, _, err := frameAt(store[at:])
		if err != nil {
			t.Fatal(err)
		}
		at += n
		ends = append(ends, at)
	}
	for size := subjectsHeaderLen; size < len(store); size++ {
		fsys.set("/l/keys/audit.subjects", store[:size:size])
		v, err := openVault(fsys, "/l/keys/audit.key", "o", Config{fsys: fsys}.withDefaults())
		if err != nil {
			t.Fatalf("cut at %d: %v", size, err)
		}
		want := 0
		for _, end := range ends {
			if end <= size {
				want = end
			}
		}
		if want = max(want, subjectsHeaderLen); v.size != int64(want) || len(fsys.get(t, "/l/keys/audit.subjects")) != want {
			t.Fatalf("cut at %d: %d bytes taken in, want %d", size, v.size, want)
		}
		if err := v.close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeyStoreDamage(t *testing.T) {
	fsys, store := storeOf(t)
	for name, tt := range map[string]struct {
		damage func(m *memFS)
		want   string
	}{
		"no key":         {func(m *memFS) { removeFile(t, m, "/l/keys/audit.kek.1") }, "key-encryption key audit.kek.1 is missing"},
		"another key":    {func(m *memFS) { m.set("/l/keys/audit.kek.1", kekFile(1, [32]byte{1})) }, "not that of the file"},
		"key's number":   {func(m *memFS) { m.set("/l/keys/audit.kek.1", kekFile(2, [32]byte{1})) }, "generation 2, want 1"},
		"header cut":     {func(m *memFS) { m.set("/l/keys/audit.subjects", store[:63]) }, "shorter than its header"},
		"another format": {func(m *memFS) { m.set("/l/keys/audit.subjects", append([]byte("KZSX"), store[4:]...)) }, "not a key store"},
		"version": {func(m *memFS) {
			m.set("/l/keys/audit.subjects", append([]byte("KZSK\x02\x00"), store[6:]...))
		}, "later version"},
	} {
		t.Run(name, func(t *testing.T) {
			m := fsys.clone()
			tt.damage(m)
			_, err := Open("/l/audit", subjectConfig(m))
			if !isTamper(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open = %v, want a TamperError with %q", err, tt.want)
			}
			if _, err := openReader(m, "/l/audit"); !isTamper(err) {
				t.Errorf("OpenReader = %v, want a TamperError", err)
			}
			if _, err := verify(t.Context(), m, "/l/audit", VerifyConfig{}); err != nil {
				t.Errorf("Verify needs no keys: %v", err)
			}
		})
	}
	t.Run("whole store gone", func(t *testing.T) {
		m := fsys.clone()
		removeFile(t, m, "/l/keys/audit.subjects")
		l := mustOpen(t, "/l/audit", subjectConfig(m))
		if e := mustGet(t, l, 0); e.Withheld.Details != Encrypted {
			t.Errorf("without its key: %+v; it was not erased", e.Withheld)
		}
		mustAppend(t, l, about(5, "p0"))
		if _, err := m.OpenFile("/l/keys/audit.kek.1", os.O_RDONLY, 0); err != nil {
			t.Errorf("the key of the lost file is gone too: %v", err)
		}
		mustClose(t, l)
	})
	t.Run("key of another subject", func(t *testing.T) {
		m := fsys.clone()
		l := mustOpen(t, "/l/audit", subjectConfig(m))
		a, b := l.vault.find("p0"), l.vault.find("p1")
		a.keys[0].owner = b
		if _, err := l.Get(t.Context(), 0); !isTamper(err) || !strings.Contains(err.Error(), "is missing") {
			t.Errorf("Get = %v, want a TamperError", err)
		}
		a.keys[0].owner = a
		a.keys[0].key[0] ^= 1
		a.keys[0].aead.Store(nil)
		if _, err := l.Get(t.Context(), 0); !isTamper(err) || !strings.Contains(err.Error(), "key store or entry was changed") {
			t.Errorf("Get = %v, want a TamperError", err)
		}
		for _, err := range l.Query(t.Context(), Query{}) {
			if err != nil && !isTamper(err) {
				t.Errorf("Query = %v, want a TamperError", err)
			}
		}
	})
}

func removeFile(t *testing.T, m *memFS, name string) {
	t.Helper()
	if err := m.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// TestBoxIsBound moves boxes between entries, fields and ledgers: none opens.
func TestBoxIsBound(t *testing.T) {
	l := mustOpen(t, "/l/audit", tiny(freshFS(t)))
	only := func(n int, details, metadata map[string]any) Entry {
		e := about(n, "p0")
		e.Details, e.Metadata = details, metadata
		return e
	}
	m := map[string]any{"text": "personal"}
	mustAppend(t, l, only(0, m, nil), only(1, m, nil), only(2, nil, m), only(3, m, m), only(4, m, m))
	var stored []Entry
	for e, err := range l.Query(t.Context(), Query{Stored: true}) {
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, e)
	}
	for name, change := range map[string]func(e *Entry){
		"of another entry":        func(e *Entry) { e.Details = stored[1].Details },
		"of another field":        func(e *Entry) { *e = stored[2]; e.Details, e.Metadata = e.Metadata, nil },
		"of both as one":          func(e *Entry) { *e = stored[3]; e.Details = boxWith(e.Details, "enc", json.Number("1")) },
		"of one as both":          func(e *Entry) { e.Details = boxWith(e.Details, "enc", json.Number("2")) },
		"of both in the metadata": func(e *Entry) { *e = stored[3]; e.Details, e.Metadata = nil, e.Details },
		"of both, with metadata":  func(e *Entry) { *e = stored[3]; e.Metadata = m },
		"of both, another's":      func(e *Entry) { *e = stored[3]; e.Details = stored[4].Details },
		"cut":                     func(e *Entry) { e.Details = boxWith(e.Details, "c", "AAAA") },
		"not base64":              func(e *Entry) { e.Details = boxWith(e.Details, "c", "!") },
		"no key":                  func(e *Entry) { e.Details = boxWith(e.Details, "k", "") },
		"another version":         func(e *Entry) { e.Details = boxWith(e.Details, "enc", "2") },
		"no box":                  func(e *Entry) { e.Details = map[string]any{sealedKey: true} },
	} {
		e := stored[0]
		change(&e)
		if err := l.vault.reveal(&e); !isTamper(err) {
			t.Errorf("%s: reveal = %v, want a TamperError", name, err)
		}
	}
	l.vault.origin = "another"
	e := stored[0]
	if err := l.vault.reveal(&e); !isTamper(err) {
		t.Errorf("of another ledger: reveal = %v, want a TamperError", err)
	}
}

// TestBoxVersions reads boxes of both versions: before the second, details and
// metadata had one each.
func TestBoxVersions(t *testing.T) {
	l := mustOpen(t, "/l/audit", tiny(freshFS(t)))
	if err := l.vault.ensure([]string{"p0"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	d := l.vault.find("p0").keys[0]
	e := about(0, "p0")
	e.ID, e.Details, e.Metadata = newID(), map[string]any{"to": "someone"}, map[string]any{"region": "eu"}
	old := e
	old.Subject = d.owner.token
	for field, m := range map[string]*map[string]any{"details": &old.Details, "metadata": &old.Metadata} {
		b, err := l.vault.encrypt(d, &sealing{id: e.ID, field: field, version: 1, details: *m}, &boxes{})
		if err != nil {
			t.Fatal(err)
		}
		*m = map[string]any{sealedKey: b}
	}
	now, _, err := l.vault.seal([]Entry{e})
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]byte
	for _, stored := range []Entry{old, now[0]} {
		line, err := EncodeLine(nil, stored)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	for _, cover := range []Cover{Shown, Erased} {
		if cover == Erased {
			l.vault.learnErased([]string{d.owner.token})
		}
		for _, line := range lines {
			got, err := DecodeLine(line)
			if err == nil {
				err = l.vault.reveal(&got)
			}
			if err != nil || got.Withheld.Details != cover || got.Withheld.Metadata != cover {
				t.Errorf("withheld: %+v, %v; want %v", got.Withheld, err, cover)
			}
			if cover == Shown && (got.Details["to"] != "someone" || got.Metadata["region"] != "eu" || len(got.Details)+len(got.Metadata) != 2) {
				t.Errorf("read back: %+v", got)
			}
			if cover == Erased && len(got.Details)+len(got.Metadata) != 0 {
				t.Errorf("erased, and shown: %+v", got)
			}
		}
	}
	if len(lines[1]) >= len(lines[0])-100 {
		t.Errorf("a line has %d bytes, with two boxes %d: want at least 100 less", len(lines[1]), len(lines[0]))
	}
}

func boxWith(details map[string]any, key string, value any) map[string]any {
	box := map[string]any{}
	for k, v := range details[sealedKey].(map[string]any) {
		box[k] = v
	}
	box[key] = value
	return map[string]any{sealedKey: box}
}

// FuzzKeyStore changes a file and reads it: what comes out is a beginning of
// what was written, or an error. Nothing is made up.
func FuzzKeyStore(f *testing.F) {
	s, err := newFrameCipher(7, [32]byte{1, 2, 3}, [16]byte{4})
	if err != nil {
		f.Fatal(err)
	}
	var all []storeRecord
	b := s.header()
	for i := range 4 {
		rs := []storeRecord{{Kind: "subject", Token: newToken(), Name: fmt.Sprintf("<p%d>\u2028", i)}, {Kind: "key", Token: newToken(), Key: make([]byte, 32), Made: int64(i)}}
		all = append(all, rs...)
		if b, err = s.frame(b, uint64(i), rs); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(0, []byte{0}, len(b))
	f.Add(len(b)-3, []byte{1, 2, 3}, len(b))
	f.Add(70, []byte("KZSF"), 300)
	f.Fuzz(func(t *testing.T, at int, xor []byte, size int) {
		c := slices.Clone(b)
		if size >= 0 && size < len(c) {
			c = c[:size]
		}
		for i, x := range xor {
			if p := at + i; p >= 0 && p < len(c) {
				c[p] ^= x
			}
		}
		if _, _, err := generationOf(c); err != nil {
			return
		}
		got, frames, end, err := s.parse(c)
		if err != nil {
			return
		}
		if len(got) > len(all) || int(frames)*2 != len(got) || end > len(c) || !bytes.Equal(c[:end], b[:end]) {
			t.Fatalf("%d records in %d frames of %d bytes", len(got), frames, end)
		}
		if diff := cmp.Diff(all[:len(got)], got); len(got) > 0 && diff != "" {
			t.Fatalf("records (-want +got):\n%s", diff)
		}
	})
}

// FuzzKEK has one spelling for one key.
func FuzzKEK(f *testing.F) {
	f.Add(kekFile(1, [32]byte{}))
	f.Add(kekFile(1<<63, [32]byte{255}))
	f.Add([]byte("KAIZEN-KEK 1 01 x y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		generation, kek, err := parseKEK(b)
		if err == nil && !bytes.Equal(kekFile(generation, kek), b) {
			t.Fatalf("two spellings of one key: %q", b)
		}
	})
}
