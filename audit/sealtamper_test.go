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
func (m *memFS) ledgerFiles(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	for _, dir := range []string{dir, dir + "/" + segDir} {
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

// fullForTamper is a closed ledger with everything that one can have: sealed,
// pruned and open segments, subjects, an erasure, a hold, two changes of the
// key, and an archive in /l/archive.
func fullForTamper(t testing.TB) *memFS {
	t.Helper()
	fsys := freshFS(t)
	cfg := small()
	cfg.fsys = fsys
	for life := range 3 {
		l := mustOpen(t, "/l/audit", cfg)
		appendN(t, l, life*10, life*10+2)
		mustAppend(t, l, about(life*10+2, "p0"), about(life*10+3, "p1"))
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Archive(t.Context(), dirTarget{fsys, "/l/archive"}); err != nil {
			t.Fatal(err)
		}
		var err error
		switch life {
		case 0:
			_, err = l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxAge: 1}, Now: l.Segments()[0].Newest.Add(2)})
		case 1:
			_, err = l.Erase(t.Context(), Erasure{Subject: "p1"})
		case 2:
			_, _, err = l.Hold(t.Context(), Hold{Subject: "p0"})
		}
		if err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
		if life < 2 {
			if _, _, err := RotateKey(t.Context(), "/l/audit", cfg); err != nil {
				t.Fatal(err)
			}
		}
	}
	return fsys
}

// sampled says whether a flip is among those that this run tries: every bit of
// every byte if asked to (make tamper), or of small files; otherwise one bit of
// every ninth byte, and with the race detector of every 101st.
func sampled(size, i, bit int) bool {
	if os.Getenv("KAIZEN_EVERY_BIT") != "" || size <= 200 && !raced {
		return true
	}
	step := 9
	if raced {
		step = 101
	}
	return bit == i%8 && i%step == 0
}

// TestEveryBitFlipSealed flips each bit of each file of a ledger that has
// everything, and of its archive. Verify must name the file, and say of index
// and nodes that they can be made again.
func TestEveryBitFlipSealed(t *testing.T) {
	for _, dir := range []string{"/l/audit", "/l/archive"} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			fsys := fullForTamper(t)
			if _, err := verify(t.Context(), fsys, dir, VerifyConfig{}); err != nil {
				t.Fatal(err)
			}
			flips, kinds := 0, map[string]bool{}
			for _, name := range fsys.ledgerFiles(t, dir) {
				rel := strings.TrimPrefix(name, dir+"/")
				kinds[filepath.Ext(rel)] = true
				data := fsys.get(t, name)
				for i := range data {
					for bit := range 8 {
						if !sampled(len(data), i, bit) {
							continue
						}
						bad := bytes.Clone(data)
						bad[i] ^= 1 << bit
						fsys.set(name, bad)
						_, err := verify(t.Context(), fsys, dir, VerifyConfig{})
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
			if _, err := verify(t.Context(), fsys, dir, VerifyConfig{}); err != nil {
				t.Error(err)
			}
			t.Logf("%d flips in files of %d kinds", flips, len(kinds))
		})
	}
}

// TestKeyDirBitFlips flips each bit of each file beside the key. Open must
// refuse, naming the file, or find nothing missing.
func TestKeyDirBitFlips(t *testing.T) {
	fsys := fullForTamper(t)
	cfg := small()
	cfg.fsys = fsys
	for _, f := range mustReadDir(t, fsys, "/l/keys") {
		name := "/l/keys/" + f
		data := fsys.get(t, name)
		refused := 0
		for i := range data {
			for bit := range 8 {
				if os.Getenv("KAIZEN_EVERY_BIT") == "" && (bit != i%8 || i%7 > 0) {
					continue
				}
				try := fsys.clone()
				bad := bytes.Clone(data)
				bad[i] ^= 1 << bit
				try.set(name, bad)
				cfg.fsys = try
				l, err := Open("/l/audit", cfg)
				if err != nil {
					refused++
					if !strings.Contains(err.Error(), f) && !strings.Contains(err.Error(), ledgerName) {
						t.Errorf("%s byte %d bit %d: Open = %v, want the file named", f, i, bit, err)
					}
					continue
				}
				if e := mustGet(t, l, l.Size()-1); e.AgentID == "" {
					t.Errorf("%s byte %d bit %d: %+v", f, i, bit, e)
				}
				mustClose(t, l)
				if !strings.HasSuffix(f, ".subjects") { // whose last record only says that it was closed
					t.Errorf("%s byte %d bit %d: Open = nil", f, i, bit)
				}
			}
		}
		t.Logf("%s: %d refused", f, refused)
	}
}

func mustReadDir(t testing.TB, fsys *memFS, dir string) (names []string) {
	t.Helper()
	files, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
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
	for _, name := range clean.ledgerFiles(t, "/l/audit") {
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
