package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/internal/durable"
)

func newKey(t testing.TB, name string) *Signer {
	t.Helper()
	private, public, err := GenerateKey(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	if s.VerifierKey() != public || s.Name() != name {
		t.Fatalf("key of %s has name %s and public key %s, want %s", name, s.Name(), s.VerifierKey(), public)
	}
	return s
}

// openLedger makes a ledger with n entries.
func openLedger(t testing.TB, origin string, n int) *audit.Ledger {
	t.Helper()
	dir := t.TempDir()
	l, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	keyFiles.Store(l.VerifierKey(), filepath.Join(dir, "keys", "audit.key"))
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	grow(t, l, n)
	return l
}

func grow(t testing.TB, l *audit.Ledger, n int) audit.Checkpoint {
	t.Helper()
	for range n {
		if _, err := l.Append(context.Background(), audit.Entry{AgentID: "a", Action: "x", Result: audit.Success}); err != nil {
			t.Fatal(err)
		}
	}
	return l.Checkpoint()
}

func openServer(t testing.TB, dir string, cfg Config) *Server {
	t.Helper()
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// prover makes consistency proofs to the size of c.
func prover(l *audit.Ledger, c audit.Checkpoint) func(int64) ([][32]byte, error) {
	return func(from int64) ([][32]byte, error) { return l.Consistency(from, c.Size) }
}

// TestWitnesses has a ledger cosigned by two witnesses over HTTP as it grows.
func TestWitnesses(t *testing.T) {
	l := openLedger(t, "example.org/a", 3)
	var g Group
	var keys []string
	for _, name := range []string{"witness.example/1", "witness.example/2"} {
		signer := newKey(t, name)
		web := httptest.NewServer(openServer(t, t.TempDir(), Config{Signer: signer, Logs: []string{l.VerifierKey()}}))
		t.Cleanup(web.Close)
		g.Peers = append(g.Peers, Peer{web.URL, signer.VerifierKey()})
		keys = append(keys, signer.VerifierKey())
	}
	for _, n := range []int{0, 1, 0, 300} {
		c := grow(t, l, n)
		cosigned, err := g.Cosign(t.Context(), c, prover(l, c))
		if err != nil {
			t.Fatal(err)
		}
		found, err := Cosignatures(cosigned, keys...)
		if err != nil || len(found) != 2 || found[0].Witness != "witness.example/1" || time.Since(found[0].Time) > time.Minute {
			t.Fatalf("Cosignatures = %v, %v", found, err)
		}
		if err := CheckQuorum(cosigned, 0, keys...); err != nil {
			t.Error(err)
		}
		if again, err := audit.ParseCheckpoint([]byte(cosigned), l.VerifierKey()); err != nil || again.Size != c.Size {
			t.Errorf("the cosigned checkpoint reads as %d entries, %v", again.Size, err)
		}
		resp, err := http.Get(g.Peers[0].URL + "/" + originHash(l.Origin()) + "/checkpoint")
		if err != nil {
			t.Fatal(err)
		}
		seen, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if err := CheckQuorum(string(seen), 1, keys[0]); err != nil || !strings.HasPrefix(string(seen), textOf(c.Note)) {
			t.Errorf("the witness shows %q, %v", seen, err)
		}
	}
	// A client that starts anew learns where the witnesses are.
	fresh := &Group{Peers: g.Peers}
	c := grow(t, l, 5)
	if _, err := fresh.Cosign(t.Context(), c, prover(l, c)); err != nil {
		t.Error(err)
	}
}

// TestMisbehaviour shows what a witness prevents: after it has seen one
// history, neither a shorter one nor another one gets its signature.
func TestMisbehaviour(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, "example.org/a", 5)
	signer := newKey(t, "witness.example/1")
	s := openServer(t, dir, Config{Signer: signer, Logs: []string{l.VerifierKey()}})
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	early := l.Checkpoint()
	late := grow(t, l, 5)
	g := &Group{Peers: []Peer{{web.URL, signer.VerifierKey()}}}
	if _, err := g.Cosign(t.Context(), late, prover(l, late)); err != nil {
		t.Fatal(err)
	}
	rolled := &Group{Peers: g.Peers}
	if note, err := rolled.Cosign(t.Context(), early, prover(l, early)); !errors.Is(err, ErrRollback) || !errors.Is(err, ErrQuorum) || note != early.Note {
		t.Errorf("Cosign of a rollback = %v, want ErrRollback and ErrQuorum", err)
	}
	if _, err := g.Cosign(t.Context(), early, prover(l, early)); !errors.Is(err, ErrRollback) {
		t.Errorf("Cosign of a rollback by who knows better = %v, want ErrRollback", err)
	}
	// The same key signs another history.
	fork := forkOf(t, l, 12)
	if _, err := rolled.Cosign(t.Context(), fork, prover(l, late)); err == nil {
		t.Errorf("Cosign of a fork = %v, want an error", err)
	}
	wrong := func(int64) ([][32]byte, error) { return [][32]byte{{1}, {2}}, nil }
	if _, err := g.Cosign(t.Context(), fork, wrong); !errors.Is(err, ErrFork) {
		t.Errorf("Cosign of a fork = %v, want ErrFork", err)
	}
	last, err := s.last(l.Origin(), s.logs[l.Origin()])
	if err != nil || last.Size != late.Size || last.Root != late.Root {
		t.Errorf("the witness remembers %d entries, %v", last.Size, err)
	}
}

// forkOf is a checkpoint of another history of n entries under l's key.
func forkOf(t *testing.T, l *audit.Ledger, n int) audit.Checkpoint {
	t.Helper()
	// The key lies beside the ledger: a second ledger is opened with a copy.
	dir := t.TempDir()
	other := filepath.Join(dir, "audit")
	key, err := os.ReadFile(keyOf(t, l))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keys", "audit.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := audit.Open(other, audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	if f.VerifierKey() != l.VerifierKey() {
		t.Fatal("the fork has another key")
	}
	return grow(t, f, n)
}

// keyFiles are where the private keys of ledgers lie, by public key.
var keyFiles sync.Map

func keyOf(t *testing.T, l *audit.Ledger) string {
	t.Helper()
	path, ok := keyFiles.Load(l.VerifierKey())
	if !ok {
		t.Fatal("no key file known")
	}
	return path.(string)
}

// TestStatus holds each answer of add-checkpoint.
func TestStatus(t *testing.T) {
	l, other := openLedger(t, "example.org/a", 4), openLedger(t, "example.org/b", 4)
	s := openServer(t, t.TempDir(), Config{Signer: newKey(t, "w"), Logs: []string{l.VerifierKey()}})
	four := l.Checkpoint()
	six := grow(t, l, 2)
	proof, err := l.Consistency(4, 6)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(six.Note, "\n6\n", "\n7\n", 1)
	steps := []struct {
		name string
		req  request
		want int
		body string
	}{
		{"another ledger", request{note: other.Checkpoint().Note}, 404, ""},
		{"forged", request{note: forged}, 403, ""},
		{"unsigned", request{note: textOf(four.Note) + "\n" + "— example.org/a AAAAAAAA\n"}, 403, ""},
		{"old larger than new", request{old: 5, note: four.Note}, 400, ""},
		{"unknown old size", request{old: 4, note: six.Note, proof: proof}, 409, "0\n"},
		{"proof from nothing", request{note: four.Note, proof: proof}, 422, ""},
		{"first", request{note: four.Note}, 200, ""},
		{"from nothing again", request{note: six.Note}, 409, "4\n"},
		{"no proof", request{old: 4, note: six.Note}, 422, ""},
		{"wrong proof", request{old: 4, note: six.Note, proof: [][32]byte{{}, {}}}, 422, ""},
		{"growth", request{old: 4, note: six.Note, proof: proof}, 200, ""},
		{"the same again", request{old: 6, note: six.Note}, 200, ""},
		{"rollback", request{old: 4, note: four.Note}, 409, "6\n"},
	}
	for _, tt := range steps { // in this order: each leaves its mark
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/add-checkpoint", bytes.NewReader(tt.req.marshal())))
		if w.Code != tt.want || tt.body != "" && (w.Body.String() != tt.body || w.Header().Get("Content-Type") != "text/x.tlog.size") {
			t.Errorf("%s: status %d %q, want %d %q", tt.name, w.Code, w.Body, tt.want, tt.body)
		}
	}
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{http.MethodPost, "/add-checkpoint", "old x\n\n", 400},
		{http.MethodPost, "/add-checkpoint", strings.Repeat("x", maxRequest+1), 400},
		{http.MethodGet, "/add-checkpoint", "", 405},
		{http.MethodGet, "/" + originHash("example.org/a") + "/checkpoint", "", 200},
		{http.MethodGet, "/" + originHash("example.org/b") + "/checkpoint", "", 404},
		{http.MethodGet, "/elsewhere", "", 404},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body)))
		if w.Code != tt.want {
			t.Errorf("%s %s = %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
	}
}

// brokenFS fails when a checkpoint is to become durable.
type brokenFS struct {
	durable.OS
	fail bool
}

func (f *brokenFS) SyncDir(name string) error {
	if f.fail {
		return errors.New("no")
	}
	return f.OS.SyncDir(name)
}

// TestStateBeforeSignature: what is not durable is not signed, and what may
// have become durable is not forgotten.
func TestStateBeforeSignature(t *testing.T) {
	l := openLedger(t, "example.org/a", 2)
	fsys := &brokenFS{}
	dir := t.TempDir()
	s := openServer(t, dir, Config{Signer: newKey(t, "w"), Logs: []string{l.VerifierKey()}, fsys: fsys})
	two := l.Checkpoint()
	fsys.fail = true
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/add-checkpoint", bytes.NewReader(request{note: two.Note}.marshal())))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "—") {
		t.Fatalf("status %d with %q after a failed sync, want 500 and no signature", w.Code, w.Body)
	}
	fsys.fail = false
	if _, err := s.Cosign(0, nil, two.Note); err == nil {
		t.Error("the checkpoint that may be durable was forgotten")
	}
	if _, err := s.Cosign(2, nil, two.Note); err != nil {
		t.Errorf("Cosign once the disk works = %v", err)
	}
	if _, err := Open(dir, Config{Signer: newKey(t, "w2")}); !errors.Is(err, audit.ErrLocked) {
		t.Errorf("a second witness in the directory = %v, want ErrLocked", err)
	}
}

// TestRestart: what a witness has seen survives it.
func TestRestart(t *testing.T) {
	l := openLedger(t, "example.org/a", 4)
	cfg := Config{Signer: newKey(t, "w"), Logs: []string{l.VerifierKey()}}
	dir := t.TempDir()
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	early := l.Checkpoint()
	late := grow(t, l, 1)
	if _, err := s.Cosign(0, nil, late.Note); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openServer(t, dir, cfg)
	if _, err := s.Cosign(0, nil, early.Note); err == nil {
		t.Error("a rollback was signed after a restart")
	}
	// A state that was changed is not trusted.
	if err := os.WriteFile(s.file(l.Origin()), []byte(early.Note), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Cosign(4, nil, early.Note); err == nil {
		t.Error("a state without this witness's signature was trusted")
	}
}

// TestConcurrent: of many checkpoints at once, those that are signed form one
// growing history.
func TestConcurrent(t *testing.T) {
	l := openLedger(t, "example.org/a", 1)
	signer := newKey(t, "w")
	s := openServer(t, t.TempDir(), Config{Signer: signer, Logs: []string{l.VerifierKey()}})
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	var all sync.WaitGroup
	for range 8 {
		c := grow(t, l, 1)
		all.Go(func() {
			g := &Group{Peers: []Peer{{web.URL, signer.VerifierKey()}}}
			_, err := g.Cosign(context.Background(), c, prover(l, c))
			if err != nil && !errors.Is(err, ErrQuorum) {
				t.Errorf("Cosign(%d) = %v", c.Size, err)
			}
		})
	}
	all.Wait()
	last, err := s.last(l.Origin(), s.logs[l.Origin()])
	if err != nil || last.Size < 2 {
		t.Errorf("the witness remembers %d entries, %v", last.Size, err)
	}
}

// answers is a witness that answers what it is told to.
type answers struct {
	mu   sync.Mutex
	list []answer
	seen int
}

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.list[min(a.seen, len(a.list)-1)]
	a.seen++
	if next.status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: next.status, Body: io.NopCloser(strings.NewReader(next.body)), Header: http.Header{}}, nil
}

func TestRetries(t *testing.T) {
	l := openLedger(t, "example.org/a", 3)
	c := l.Checkpoint()
	signer := newKey(t, "w")
	good := signer.cosign(textOf(c.Note), time.Unix(1_780_000_000, 0))
	foreign := newKey(t, "w").cosign(textOf(c.Note), time.Unix(1_780_000_000, 0))
	for _, tt := range []struct {
		name string
		list []answer
		seen int
		ok   bool
	}{
		{"at once", []answer{{200, good}}, 1, true},
		{"among others", []answer{{200, foreign + "rubbish\n" + good}}, 1, true},
		{"after faults", []answer{{0, ""}, {503, "busy"}, {200, good}}, 3, true},
		{"after learning the size", []answer{{409, "2\n"}, {200, good}}, 2, true},
		{"never", []answer{{500, ""}}, attempts, false},
		{"no answer", []answer{{0, ""}}, attempts, false},
		{"not ours", []answer{{403, "who?"}}, 1, false},
		{"size is none", []answer{{409, "many\n"}}, 1, false},
		{"fickle", []answer{{409, "2\n"}}, attempts, false},
		{"another key", []answer{{200, foreign}}, 1, false},
		{"empty", []answer{{200, ""}}, 1, false},
		{"fork", []answer{{422, ""}}, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &answers{list: tt.list}
				g := &Group{Peers: []Peer{{"http://w.example", signer.VerifierKey()}}, Client: &http.Client{Transport: a}}
				signed, err := g.Cosign(t.Context(), c, func(int64) ([][32]byte, error) { return nil, nil })
				if (err == nil) != tt.ok || a.seen != tt.seen {
					t.Errorf("Cosign = %v after %d requests, want ok %t after %d", err, a.seen, tt.ok, tt.seen)
				}
				if tt.ok && signed != c.Note+good {
					t.Errorf("the note is %q", signed)
				}
			})
		})
	}
}

func TestQuorum(t *testing.T) {
	l := openLedger(t, "example.org/a", 1)
	c := l.Checkpoint()
	one, two := newKey(t, "w1"), newKey(t, "w2")
	at := time.Unix(1_780_000_000, 0)
	signed := c.Note + one.cosign(textOf(c.Note), at)
	for _, tt := range []struct {
		quorum int
		keys   []string
		ok     bool
	}{
		{1, []string{one.VerifierKey(), two.VerifierKey()}, true},
		{0, []string{one.VerifierKey()}, true},
		{0, []string{one.VerifierKey(), two.VerifierKey()}, false},
		{1, []string{two.VerifierKey()}, false},
	} {
		if err := CheckQuorum(signed, tt.quorum, tt.keys...); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrQuorum) {
			t.Errorf("CheckQuorum(%d of %d keys) = %v, want ok %t", tt.quorum, len(tt.keys), err, tt.ok)
		}
	}
	bad := []byte(signed)
	bad[len(bad)-10] ^= 1
	if err := CheckQuorum(string(bad), 1, one.VerifierKey()); err == nil {
		t.Error("a changed cosignature counts")
	}
}

// TestSpecification reads a cosignature that the specification shows, of a key
// that it does not: the form alone.
func TestSpecification(t *testing.T) {
	const line = "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
	raw, err := base64.StdEncoding.DecodeString(strings.Fields(line)[2])
	if err != nil || len(raw) != 4+cosignatureLen {
		t.Fatalf("%d bytes, %v; want %d", len(raw), err, 4+cosignatureLen)
	}
	const body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
	want := "cosignature/v1\ntime 1679315147\n" + body
	if got := string(message(1679315147, body)); got != want {
		t.Errorf("message = %q, want %q", got, want)
	}
}

func TestKeysRefused(t *testing.T) {
	private, public, err := GenerateKey("w")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "w", "w+00000000+", strings.Replace(public, "w+", "x+", 1), public + "\n", private, strings.Replace(public, "+B", "+A", 1)} {
		if v, err := NewVerifier(bad); err == nil {
			t.Errorf("NewVerifier(%q) = %v", bad, v)
		}
	}
	for _, bad := range []string{"", public, private + " ", strings.Replace(private, "+w+", "+x+", 1)} {
		if _, err := NewSigner(bad); err == nil || strings.Contains(err.Error(), "+B") {
			t.Errorf("NewSigner of a bad key = %v", err)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\n"} {
		if _, _, err := GenerateKey(name); err == nil {
			t.Errorf("GenerateKey(%q) succeeded", name)
		}
	}
	if _, err := Open(t.TempDir(), Config{}); err == nil {
		t.Error("a witness without a key was opened")
	}
	if _, err := Open(t.TempDir(), Config{Signer: newKey(t, "w"), Logs: []string{"x"}}); err == nil {
		t.Error("a witness of a ledger without a key was opened")
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(request{old: 3, proof: [][32]byte{{1}, {2}}, note: "a\n5\nb\n\n— a AAAA\n"}.marshal())
	f.Add([]byte("old 0\n\n\n"))
	f.Add([]byte("old 01\n\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		if again := r.marshal(); !bytes.Equal(again, b) {
			t.Fatalf("two spellings:\n in %q\nout %q", b, again)
		}
	})
}

// FuzzCosignature: whatever stands on a checkpoint, only signatures that the
// witness made count.
func FuzzCosignature(f *testing.F) {
	signer := newSigner("w", bytes.Repeat([]byte{7}, 32))
	const body = "example.org/a\n3\nAAAA\n"
	at := time.Unix(1_780_000_000, 0)
	good := signer.cosign(body, at)
	f.Add(good)
	f.Add(good + good)
	f.Add("— w AAAAAAAA\n")
	f.Fuzz(func(t *testing.T, lines string) {
		found, err := Cosignatures(body+"\n"+lines, signer.VerifierKey())
		if err != nil || len(found) == 0 {
			return
		}
		unix := found[0].Time
		if want := signer.cosign(body, unix); !strings.Contains(lines, strings.TrimRight(strings.Fields(want)[2], "=")[:60]) {
			t.Fatalf("%q counts, and is not %q", lines, want)
		}
	})
}

func FuzzKey(f *testing.F) {
	signer := newSigner("w", bytes.Repeat([]byte{7}, 32))
	f.Add(signer.VerifierKey())
	f.Add(fmt.Sprintf("%s%s+%08x+%s", privatePrefix, "w", signer.id, encodeKey(bytes.Repeat([]byte{7}, 32))))
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := NewVerifier(text); err == nil {
			if _, err := note.NewVerifier(text); err == nil {
				t.Fatalf("%q is a key of a ledger too", text)
			}
			if !strings.HasPrefix(text, v.Name()+"+") {
				t.Fatalf("%q has the name %q", text, v.Name())
			}
		}
		if s, err := NewSigner(text); err == nil && !strings.Contains(text, s.Name()) {
			t.Fatalf("a key has the name %q", s.Name())
		}
	})
}
