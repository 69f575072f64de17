package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sealedForTamper is a closed ledger with sealed segments, one of them pruned.
func sealedForTamper(t testing.TB) *memFS {
	t.Helper()
	fsys := freshFS(t)
	cfg := small()
	cfg.fsys = fsys
	l := mustOpen(t, "/l/audit", cfg)
	for round := range 3 {
		appendN(t, l, round*3, round*3+3)
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxAge: 1}, Now: l.Segments()[0].Newest.Add(2)}); err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 20, 22)
	mustClose(t, l)
	return fsys
}

// names are the files of the ledger.
func (m *memFS) ledgerFiles(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, dir := range []string{"/l/audit", "/l/audit/" + segDir} {
		files, err := m.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !f.IsDir() {
				out = append(out, filepath.Join(dir, f.Name()))
			}
		}
	}
	return out
}

// TestEveryBitFlipSealed flips each bit of each file of a ledger with sealed
// and pruned segments. Verify must name the file, and say of index and nodes
// that they can be made again.
func TestEveryBitFlipSealed(t *testing.T) {
	fsys := sealedForTamper(t)
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
		t.Fatal(err)
	}
	flips := 0
	for _, name := range fsys.ledgerFiles(t) {
		rel := strings.TrimPrefix(name, "/l/audit/")
		data := fsys.get(t, name)
		for i := range data {
			for bit := range 8 {
				if os.Getenv("KAIZEN_EVERY_BIT") == "" && len(data) > 200 && (bit != i%8 || i%11 > 0) {
					continue // of larger files one bit of every eleventh byte; the long form flips them all
				}
				bad := bytes.Clone(data)
				bad[i] ^= 1 << bit
				fsys.set(name, bad)
				_, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{})
				var damage *TamperError
				if !errors.As(err, &damage) || damage.Path != rel {
					t.Fatalf("%s byte %d bit %d: Verify = %v, want damage in that file", rel, i, bit, err)
				}
				isDerived := strings.HasPrefix(damage.Reason, derivedReason)
				if want := strings.HasSuffix(rel, idxExt) || strings.HasSuffix(rel, nodesExt); isDerived != want {
					t.Fatalf("%s byte %d bit %d: Verify = %v, derived %v, want %v", rel, i, bit, err, isDerived, want)
				}
				flips++
			}
		}
		fsys.set(name, data)
	}
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
		t.Error(err)
	}
	t.Logf("%d flips", flips)
}

// TestSealedTampering changes a ledger with sealed segments in the larger ways.
func TestSealedTampering(t *testing.T) {
	seg := func(base int64, ext string) string { return "/l/audit/" + segDir + "/" + segStem(base) + ext }
	base := func(t *testing.T, fsys *memFS) []record {
		m, _, err := readManifest(fsys, "/l/audit")
		if err != nil {
			t.Fatal(err)
		}
		return m.records
	}
	remove := func(t *testing.T, fsys *memFS, name string) {
		if err := fsys.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	// rewrite changes the manifest and gives it a right hash again.
	rewrite := func(t *testing.T, fsys *memFS, change func(m *manifest)) {
		m, _, err := readManifest(fsys, "/l/audit")
		if err != nil {
			t.Fatal(err)
		}
		change(m)
		fsys.set("/l/audit/"+manifestName, m.encode())
	}
	tests := map[string]func(t *testing.T, fsys *memFS, r []record) (path string){
		"remove the manifest": func(t *testing.T, fsys *memFS, r []record) string {
			remove(t, fsys, "/l/audit/"+manifestName)
			return ""
		},
		"remove the last segment from the manifest": func(t *testing.T, fsys *memFS, r []record) string {
			rewrite(t, fsys, func(m *manifest) { m.records = m.records[:2] })
			return ""
		},
		"swap two segments": func(t *testing.T, fsys *memFS, r []record) string {
			for _, ext := range []string{zstExt, idxExt, hashExt, nodesExt} {
				a, b := fsys.get(t, seg(r[1].base, ext)), fsys.get(t, seg(r[2].base, ext))
				fsys.set(seg(r[1].base, ext), b)
				fsys.set(seg(r[2].base, ext), a)
			}
			return ""
		},
		"swap two segments and their digests": func(t *testing.T, fsys *memFS, r []record) string {
			for _, ext := range []string{zstExt, idxExt, hashExt, nodesExt} {
				a, b := fsys.get(t, seg(r[1].base, ext)), fsys.get(t, seg(r[2].base, ext))
				fsys.set(seg(r[1].base, ext), b)
				fsys.set(seg(r[2].base, ext), a)
			}
			rewrite(t, fsys, func(m *manifest) {
				a, b := &m.records[1], &m.records[2]
				a.zst, b.zst, a.idx, b.idx, a.l0, b.l0, a.nodes, b.nodes = b.zst, a.zst, b.idx, a.idx, b.l0, a.l0, b.nodes, a.nodes
			})
			return ""
		},
		"another index with its digest": func(t *testing.T, fsys *memFS, r []record) string {
			idx := newIdxBuilder(r[1].base)
			for i := range r[1].count {
				e := numbered(int(i) + 500) // hides what is there
				idx.add(&e)
			}
			b := idx.encode()
			fsys.set(seg(r[1].base, idxExt), b)
			rewrite(t, fsys, func(m *manifest) { m.records[1].idx = sha256.Sum256(b) })
			return manifestName
		},
		"another time in the manifest": func(t *testing.T, fsys *memFS, r []record) string {
			rewrite(t, fsys, func(m *manifest) { m.records[1].maxTime -= 1e9 })
			return manifestName
		},
		"a reference to another entry": func(t *testing.T, fsys *memFS, r []record) string {
			rewrite(t, fsys, func(m *manifest) { m.records[1].entry-- })
			return manifestName
		},
		"a reference to no entry": func(t *testing.T, fsys *memFS, r []record) string {
			rewrite(t, fsys, func(m *manifest) { m.records[1].entry = 1 << 40 })
			return manifestName
		},
		"a segment pruned by hand": func(t *testing.T, fsys *memFS, r []record) string {
			remove(t, fsys, seg(r[1].base, zstExt))
			remove(t, fsys, seg(r[1].base, idxExt))
			rewrite(t, fsys, func(m *manifest) { m.records[1].prunedAt = m.records[0].prunedAt })
			return manifestName
		},
		"a segment with another index, vouched for by nobody": func(t *testing.T, fsys *memFS, r []record) string {
			b := fsys.get(t, seg(r[2].base, idxExt))
			fsys.set(seg(r[1].base, idxExt), b)
			rewrite(t, fsys, func(m *manifest) { m.records[1].idx, m.records[1].entry = sha256.Sum256(b), -1 })
			return ""
		},
		"cut off lines": func(t *testing.T, fsys *memFS, r []record) string {
			b := fsys.get(t, seg(r[1].base, zstExt))
			fsys.set(seg(r[1].base, zstExt), b[:len(b)-1])
			return segDir + "/" + segStem(r[1].base) + zstExt
		},
		"cut off lines at the start": func(t *testing.T, fsys *memFS, r []record) string {
			fsys.set(seg(r[1].base, zstExt), fsys.get(t, seg(r[1].base, zstExt))[1:])
			return segDir + "/" + segStem(r[1].base) + zstExt
		},
		"more lines": func(t *testing.T, fsys *memFS, r []record) string {
			fsys.set(seg(r[1].base, zstExt), append(fsys.get(t, seg(r[1].base, zstExt)), 0))
			return segDir + "/" + segStem(r[1].base) + zstExt
		},
		"remove lines": func(t *testing.T, fsys *memFS, r []record) string {
			remove(t, fsys, seg(r[2].base, zstExt))
			return segDir + "/" + segStem(r[2].base) + zstExt
		},
		"remove an index": func(t *testing.T, fsys *memFS, r []record) string {
			remove(t, fsys, seg(r[2].base, idxExt))
			return segDir + "/" + segStem(r[2].base) + idxExt
		},
		"remove nodes": func(t *testing.T, fsys *memFS, r []record) string {
			remove(t, fsys, seg(r[2].base, nodesExt))
			return segDir + "/" + segStem(r[2].base) + nodesExt
		},
		"remove hashes of a pruned segment": func(t *testing.T, fsys *memFS, r []record) string {
			remove(t, fsys, seg(r[0].base, hashExt))
			return segDir + "/" + segStem(r[0].base) + hashExt
		},
		"an older checkpoint alone": func(t *testing.T, fsys *memFS, r []record) string {
			s, err := loadSigner(fsys, "/l/keys/audit.key")
			if err != nil {
				t.Fatal(err)
			}
			fsys.set("/l/audit/"+checkpointName, []byte(s.checkpoint(r[1].end(), r[1].root).Note))
			return checkpointName
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			fsys := sealedForTamper(t)
			path := change(t, fsys, base(t, fsys))
			_, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{})
			var damage *TamperError
			if !errors.As(err, &damage) || path != "" && damage.Path != path {
				t.Errorf("Verify = %v, want damage in %q", err, path)
			}
		})
	}
}

// TestSealedDamageIsNotHandedOut reads from damaged segments: an error that
// names the file, or what is right, but nothing else.
func TestSealedDamageIsNotHandedOut(t *testing.T) {
	clean := freshFS(t)
	l := sealedBig(t, clean, 1300)
	want := map[int64]string{}
	for e, err := range l.Query(t.Context(), Query{AgentID: "agent-3"}) {
		if err != nil {
			t.Fatal(err)
		}
		want[e.Index] = e.ID
	}
	count, err := l.Count(t.Context(), Query{UserID: "u-2"})
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	rnd := rand.New(rand.NewPCG(5, 6))
	var files []string
	for _, name := range clean.ledgerFiles(t) {
		if _, ext, _ := strings.Cut(name, "."); slices.Contains([]string{zstExt, idxExt, nodesExt, hashExt}, "."+ext) {
			files = append(files, name)
		}
	}
	named := 0
	for range rounds(t, "KAIZEN_FLIP_ROUNDS", 150) {
		name := files[rnd.IntN(len(files))]
		data := clean.get(t, name)
		if len(data) == 0 {
			continue
		}
		bad := bytes.Clone(data)
		bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
		clean.set(name, bad)
		rel := strings.TrimPrefix(name, "/l/audit/")
		if _, err := verify(t.Context(), clean, "/l/audit", VerifyConfig{}); !isTamper(err) || !strings.Contains(err.Error(), rel) {
			t.Fatalf("%s: Verify = %v, want damage in that file", rel, err)
		}
		r, err := openReader(clean, "/l/audit")
		if err == nil {
			for e, err := range r.Query(t.Context(), Query{AgentID: "agent-3"}) {
				if err != nil {
					if !isTamper(err) {
						t.Fatalf("%s: Query = %v, want a TamperError", rel, err)
					}
					named++
					break
				}
				if want[e.Index] != e.ID {
					t.Fatalf("%s: Query yields entry %d, %s", rel, e.Index, e.ID)
				}
			}
			if n, err := r.Count(t.Context(), Query{UserID: "u-2"}); err == nil && n != count || err != nil && !isTamper(err) {
				t.Fatalf("%s: Count = %d, %v; want %d or a TamperError", rel, n, err, count)
			}
			i := rnd.Int64N(r.Size())
			if p, err := r.Proof(i); err == nil && p.Check(r.VerifierKey()) != nil {
				t.Fatalf("%s: Proof(%d) is a wrong one", rel, i)
			}
			r.Close()
		}
		clean.set(name, data)
	}
	if named == 0 {
		t.Error("no query met the damage")
	}
}
