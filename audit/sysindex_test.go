package audit

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// idxFS counts how often index files are opened.
type idxFS struct {
	durable.FS
	opened atomic.Int64
}

func (f *idxFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if strings.HasSuffix(name, idxExt) {
		f.opened.Add(1)
	}
	return f.FS.OpenFile(name, flag, perm)
}

// TestSystemActions compares the lists in the manifest with the entries, and
// opens no index but those of segments that have what opening asks for.
func TestSystemActions(t *testing.T) {
	mem := freshFS(t)
	fsys := &idxFS{FS: mem}
	cfg := tiny(mem)
	cfg.fsys = fsys
	l := mustOpen(t, "/l/audit", cfg)
	for i := range 12 {
		if i == 7 {
			if _, _, err := l.Hold(t.Context(), Hold{AgentID: "a"}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.AppendBatch(t.Context(), []Entry{numbered(2 * i), numbered(2*i + 1)}); err != nil {
			t.Fatal(err)
		}
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := map[int64][]string{}
	for e, err := range l.Query(t.Context(), Query{AgentID: systemAgent}) {
		if err != nil {
			t.Fatal(err)
		}
		if seg := findSealed(l.store.sealed, e.Index); seg != nil && !slices.Contains(want[seg.base], e.Action) {
			want[seg.base] = append(want[seg.base], e.Action)
		}
	}
	holds := int64(0)
	for _, seg := range l.store.sealed {
		slices.Sort(want[seg.base])
		if got := seg.rec.systemActions(); seg.rec.system == "" || !slices.Equal(got, want[seg.base]) {
			t.Errorf("segment %d: %q, want %q", seg.base, seg.rec.system, want[seg.base])
		}
		if strings.Contains(seg.rec.system, actionHold) {
			holds++
		}
	}
	if holds != 1 {
		t.Fatalf("%d segments have a hold, want 1", holds)
	}
	mustClose(t, l)
	fsys.opened.Store(0)
	l = mustOpen(t, "/l/audit", cfg)
	if got := len(l.Holds()); got != 1 {
		t.Errorf("%d holds after opening, want 1", got)
	}
	if n := fsys.opened.Load(); n != holds {
		t.Errorf("opening opened %d index files, want %d", n, holds)
	}
	mustClose(t, l)
}

// TestSystemActionsTampered hides an entry of the ledger's own from opening, by
// a manifest whose hash is right.
func TestSystemActionsTampered(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", tiny(fsys))
	if _, _, err := l.Hold(t.Context(), Hold{AgentID: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	seg := l.store.sealed[0]
	idx := fsys.get(t, filepath.Join("/l/audit", seg.idxPath()))
	mustClose(t, l)
	path := filepath.Join("/l/audit", manifestName)
	m, err := parseManifest(fsys.get(t, path))
	if err != nil {
		t.Fatal(err)
	}
	if m.records[0].system != `["ledger.hold"]` {
		t.Fatalf("system = %s", m.records[0].system)
	}
	for _, system := range []string{`[]`, ``, `["ledger.release"]`, `["ledger.hold","ledger.release"]`} {
		m.records[0].system = system
		if err := durable.ReplaceFile(fsys, path, m.encode()); err != nil {
			t.Fatal(err)
		}
		if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); !isTamper(err) || !strings.Contains(err.Error(), manifestName) {
			t.Errorf("Verify with system %q = %v, want damage in %s", system, err, manifestName)
		}
		// Also if the entry that vouches for the segment said the same.
		if err := checkSystem(newSealed(m.records[0]), idx); (err == nil) != (system == "") {
			t.Errorf("checkSystem of %q = %v", system, err)
		}
	}
	for _, bad := range []string{`["ledger.hold","ledger.erasure"]`, `["ledger.hold","ledger.hold"]`, `["ledger."]`, `["hold"]`, `[1]`, `{}`, `"ledger.hold"`} {
		m.records[0].system = bad
		if _, err := parseManifest(m.encode()); err == nil {
			t.Errorf("a manifest with system %s was taken", bad)
		}
	}
}

// TestSystemActionsUnknown leaves open what a list cannot say.
func TestSystemActionsUnknown(t *testing.T) {
	for _, tt := range []struct {
		name, agent, action string
		want                string
	}{
		{"none", "planner", "ledger.hold", `[]`},
		{"other action", systemAgent, "hold", `[]`},
		{"one", systemAgent, "ledger.hold", `["ledger.hold"]`},
		{"a name that is not ours", systemAgent, `ledger.a"b`, ``},
		{"prefix alone", systemAgent, "ledger.", ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newIdxBuilder(0)
			for i := range 600 {
				e := numbered(i)
				if i%97 == 5 {
					e.AgentID, e.Action = tt.agent, tt.action
				}
				b.add(&e)
			}
			got, err := systemActions(b.encode(), 0, 600)
			if err != nil || got != tt.want {
				t.Errorf("systemActions = %s, %v, want %s", got, err, tt.want)
			}
			r := record{system: got}
			if q := (Query{AgentID: tt.agent, Action: tt.action}); r.without(&q) {
				t.Errorf("the segment is taken to be without %s of %s", tt.action, tt.agent)
			}
		})
	}
	if _, err := systemActions(bytes.Repeat([]byte{1}, 700), 0, 600); err == nil {
		t.Error("systemActions of what is not an index = nil")
	}
}
