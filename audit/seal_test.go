package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// sealedLedger has n entries in segments of about 60 that are sealed, and some
// in the newest, which is not.
func sealedLedger(t testing.TB, fsys *memFS, n int) *Ledger {
	t.Helper()
	cfg := small()
	cfg.fsys, cfg.segmentBytes = fsys, 20<<10
	l := mustOpen(t, "/l/audit", cfg)
	for at := 0; at < n; at += 25 {
		var batch []Entry
		for i := at; i < min(at+25, n); i++ {
			batch = append(batch, numbered(i))
		}
		if _, err := l.AppendBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.packer.seal(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return l
}

// sealedBig is sealedLedger with segments of several groups.
func sealedBig(t testing.TB, fsys *memFS, n int) *Ledger {
	t.Helper()
	cfg := small()
	cfg.fsys, cfg.segmentBytes, cfg.sectionBytes = fsys, 300<<10, 1<<20
	l := mustOpen(t, "/l/audit", cfg)
	for at := 0; at < n; at += 250 {
		var batch []Entry
		for i := at; i < min(at+250, n); i++ {
			batch = append(batch, numbered(i))
		}
		if _, err := l.AppendBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.packer.seal(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestQuerySealed asks a ledger of sealed and open segments everything that
// TestQuery asks, and counts and groups, against a plain scan.
func TestQuerySealed(t *testing.T) {
	fsys := freshFS(t)
	l := sealedBig(t, fsys, 2500)
	if st := l.Stats(); st.Sealed < 2 || st.Segments != st.Sealed+1 {
		t.Fatalf("Stats = %+v, want two sealed segments", st)
	}
	checkLedger(t, l)
	var all []Entry
	for i := range l.Size() {
		e, err := l.Get(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := openReader(fsys, "/l/audit")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	at := func(i int) time.Time { return numbered(i).Time }
	queries := map[string]Query{
		"all":              {},
		"agent":            {AgentID: "agent-3"},
		"agent and result": {AgentID: "agent-3", Result: Denied},
		"user and action":  {UserID: "u-2", Action: "model.call"},
		"session":          {SessionID: "s-10"},
		"run":              {RunID: "r-77"},
		"trace":            {TraceID: numbered(1999).TraceID},
		"span":             {SpanID: numbered(1024).SpanID},
		"span and agent":   {SpanID: numbered(7).SpanID, AgentID: numbered(7).AgentID},
		"unknown agent":    {AgentID: "nobody"},
		"unknown trace":    {TraceID: strings.Repeat("f", 32)},
		"unknown result":   {Result: "perhaps"},
		"since":            {Since: at(2400)},
		"until":            {Until: at(3)},
		"window":           {Since: at(100), Until: at(1100), AgentID: "agent-1"},
		"instant":          {Since: at(1024), Until: at(1024)},
		"between instants": {Since: at(1024).Add(1), Until: at(1025).Add(-1)},
		"long ago":         {Until: time.Unix(-5, 0)},
		"wide":             {Since: time.Unix(-5, 0), Until: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), RunID: "r-3"},
		"the ledger's own": {AgentID: systemAgent, Action: actionSealed},
	}
	for name, q := range queries {
		t.Run(name, func(t *testing.T) {
			var want []int64
			for i := range all {
				if q.match(&all[i]) {
					want = append(want, int64(i))
				}
			}
			checkPages(t, l, q, want)
			checkPages(t, r, q, want)
			checkGroups(t, l, r, q, all)
		})
	}
	if _, err := l.Group(t.Context(), Query{}, "trace_id", 0); err == nil {
		t.Error("Group by trace_id = nil, want an error")
	}
}

// checkGroups compares Group with a plain count.
func checkGroups(t *testing.T, l *Ledger, r *Reader, q Query, all []Entry) {
	t.Helper()
	for by, value := range map[Field]func(e *Entry) string{
		ByAgent:   func(e *Entry) string { return e.AgentID },
		ByUser:    func(e *Entry) string { return e.UserID },
		BySubject: func(e *Entry) string { return e.Subject },
		ByAction:  func(e *Entry) string { return e.Action },
		ByResult:  func(e *Entry) string { return string(e.Result) },
	} {
		total := map[string]int64{}
		for i := range all {
			if q.match(&all[i]) {
				total[value(&all[i])]++
			}
		}
		for _, top := range []int{0, 2} {
			want := topCounts(total, top)
			got, err := l.Group(t.Context(), q, by, top)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("Group by %s, top %d = %v, %v; want %v", by, top, got, err, want)
			}
			if got, err = r.Group(t.Context(), q, by, top); err != nil || !slices.Equal(got, want) {
				t.Errorf("reader's Group by %s, top %d = %v, %v; want %v", by, top, got, err, want)
			}
		}
	}
}

// TestSealSurvivesReopening seals, closes, reopens and appends in turn. Every
// proof stays valid, and ids are known however old they are.
func TestSealSurvivesReopening(t *testing.T) {
	fsys := freshFS(t)
	cfg := small()
	cfg.fsys, cfg.segmentBytes = fsys, 30<<10
	var held []Receipt
	for round := range 5 {
		l := mustOpen(t, "/l/audit", cfg)
		held = append(held, appendN(t, l, round*150, round*150+150)...)
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.Seal(t.Context()); err != nil { // there is nothing to seal but what sealing wrote
			t.Fatal(err)
		}
		checkReceipts(t, l, held)
		checkLedger(t, l)
		for _, i := range []int{0, 77, round*150 + 149} {
			r, err := l.Append(t.Context(), numbered(i))
			if err != nil || !r.Duplicate || r.Index != held[i].Index || r.LeafHash != held[i].LeafHash {
				t.Fatalf("Append of an id that is sealed = %+v, %v; want the receipt of entry %d", r, err, held[i].Index)
			}
		}
		size, segs := l.Size(), l.Stats().Segments
		mustClose(t, l)
		report, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Indexes: true, Checkpoint: []byte(held[3].Checkpoint.Note)})
		if err != nil || !report.Clean || report.Entries != size || report.Segments != segs || report.Sealed == 0 {
			t.Fatalf("Verify = %+v, %v; want %d entries, clean", report, err, size)
		}
	}
}

// TestSegmentsOfBefore reads segments as they were made at first, with frames of
// 256 lines and no list of the ledger's own entries, beside those of today.
func TestSegmentsOfBefore(t *testing.T) {
	fsys := freshFS(t)
	cfg := small()
	cfg.fsys, cfg.segmentBytes, cfg.sectionBytes = fsys, 1<<20, 1<<20
	l := mustOpen(t, "/l/audit", cfg)
	var want []Entry
	for _, l.packer.old = range []bool{true, false, true} {
		if _, _, err := l.Hold(t.Context(), Hold{AgentID: "nobody"}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			batch := make([]Entry, 250)
			for k := range batch {
				batch[k] = numbered(len(want) + k)
			}
			receipts, err := l.AppendBatch(t.Context(), batch)
			if err != nil {
				t.Fatal(err)
			}
			for k := range batch {
				batch[k].Index, batch[k].ID = receipts[k].Index, receipts[k].ID
			}
			want = append(want, batch...)
		}
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for k, per := range []int{oldFrameLines, frameLines, oldFrameLines} {
		seg := l.store.sealed[k]
		b := fsys.get(t, filepath.Join("/l/audit", seg.zstPath()))
		fr, err := readFrames(bytes.NewReader(b), int64(len(b)), int(seg.rec.count), seg.rec.bytes)
		if old := per == oldFrameLines; old != (seg.rec.system == "") {
			t.Errorf("segment %d: list of own entries %q", k, seg.rec.system)
		}
		if err != nil || fr.lines != per || len(fr.sizes) != framesOf(int(seg.rec.count), per) {
			t.Fatalf("segment %d: frames = %+v, %v; want %d lines in each", k, fr, err, per)
		}
	}
	for i := range want {
		e, err := l.Get(t.Context(), want[i].Index)
		if err != nil || e.ID != want[i].ID {
			t.Fatalf("Get(%d) = %s, %v, want %s", want[i].Index, e.ID, err, want[i].ID)
		}
	}
	mustClose(t, l)
	if l = mustOpen(t, "/l/audit", cfg); len(l.Holds()) != 3 {
		t.Errorf("Holds after opening = %v, want 3", l.Holds())
	}
	mustClose(t, l)
	if r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Indexes: true}); err != nil || r.Sealed != 3 {
		t.Errorf("Verify = %+v, %v", r, err)
	}
}

// TestZstd holds sealed lines to the format: frames of 64 lines that any
// decoder reads, one after the other, and the seek table at the end.
func TestZstd(t *testing.T) {
	fsys := freshFS(t)
	l := sealedBig(t, fsys, 1500)
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	seg := l.store.sealed[0]
	plain, err := dec.DecodeAll(fsys.get(t, filepath.Join("/l/audit", seg.zstPath())), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(bytes.Count(plain, []byte("\n"))); n != seg.rec.count || int64(len(plain)) != seg.rec.bytes {
		t.Errorf("%d lines, %d bytes; want %d and %d", n, len(plain), seg.rec.count, seg.rec.bytes)
	}
	for i := range seg.rec.count {
		line, err := l.store.rawLine(i)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(plain, line) {
			t.Fatalf("line %d differs", i)
		}
		plain = plain[len(line)+1:]
	}
}

// TestTreeFromFiles compares roots and proofs that are read from files with
// those of a tree in memory, across segments and steps of eight levels.
func TestTreeFromFiles(t *testing.T) {
	fsys := freshFS(t)
	l := sealedBig(t, fsys, 2000)
	var whole merkle.Store
	for i := range l.Size() {
		whole.Append(leafOf(t, l, i))
	}
	v, err := l.store.view()
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		size := 1 + rnd.Int64N(l.Size())
		i := rnd.Int64N(size)
		if got := rootOf(t, l, size); got != whole.Root(size) {
			t.Fatalf("Root(%d) differs", size)
		}
		got, err := v.Inclusion(i, size)
		want, wantErr := whole.Inclusion(i, size)
		if err != nil || wantErr != nil || !slices.Equal(got, want) {
			t.Fatalf("Inclusion(%d, %d) differs: %v", i, size, err)
		}
		got, err = v.Consistency(i, size)
		want, wantErr = whole.Consistency(i, size)
		if err != nil || wantErr != nil || !slices.Equal(got, want) {
			t.Fatalf("Consistency(%d, %d) differs: %v", i, size, err)
		}
	}
	for level := range 2 {
		full := l.Size() >> (8 * level)
		for n := int64(0); n*256 < full; n++ {
			width := int(min(256, full-n*256))
			got, err := v.Tile(level, n, width)
			want, wantErr := whole.Tile(level, n, width)
			if err != nil || wantErr != nil || !slices.Equal(got, want) {
				t.Fatalf("Tile(%d, %d, %d) differs: %v", level, n, width, err)
			}
		}
	}
	if _, err := v.Inclusion(0, l.Size()+1); err == nil {
		t.Error("Inclusion beyond the end = nil, want an error")
	}
}

// TestSealBesideWork seals in the background while entries are appended, read
// and followed by a reader.
func TestSealBesideWork(t *testing.T) {
	dir := t.TempDir() + "/audit"
	cfg := small()
	cfg.sealing, cfg.publishEvery = true, time.Millisecond
	cfg.segmentBytes = 30 << 10
	l := mustOpen(t, dir, cfg)
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for n := range 40 {
		rs := appendN(t, l, n*25, n*25+25)
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, i := range []int64{0, r.Size() / 2, r.Size() - 1} {
			if i < 0 || r.Size() == 0 {
				continue
			}
			if _, err := r.Get(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		if e, err := l.Get(t.Context(), rs[3].Index); err != nil || e.ID != rs[3].ID {
			t.Fatalf("Get = %v, %v", e, err)
		}
		if n%10 == 9 {
			if _, err := Verify(t.Context(), dir, VerifyConfig{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkLedger(t, l)
	size := l.Size()
	mustClose(t, l)
	checkClean(t, dir, size)
}

// TestSealAge seals a quiet ledger whose entries are old, but never what
// sealing itself wrote.
func TestSealAge(t *testing.T) {
	fsys := freshFS(t)
	cfg := small()
	cfg.fsys, cfg.SealAfter = fsys, time.Hour
	l := mustOpen(t, "/l/audit", cfg)
	if l.due(time.Now()) {
		t.Error("an empty ledger is due")
	}
	appendN(t, l, 0, 3)
	// However late the background is, times of long ago seal nothing that was
	// just written.
	if err := l.packer.round(false); err != nil || l.Stats().Sealed != 0 {
		t.Errorf("a round after the first entries: %v, %d segments sealed; want none", err, l.Stats().Sealed)
	}
	if !l.due(testTime.Add(2 * time.Hour)) {
		t.Error("a segment of two hours is not due")
	}
	if l.due(testTime.Add(time.Minute)) {
		t.Error("a segment of a minute is due")
	}
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := l.Stats(); st.Sealed != 1 || st.Entries != 4 || l.due(time.Now().Add(48*time.Hour)) {
		t.Errorf("after sealing: %+v, due %v; want one segment of three and the entry about it", st, l.due(time.Now()))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Seal(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Seal after Close = %v, want ErrClosed", err)
	}
}

// sealLife is a life with sealing, pruning and archiving.
func sealLife(cfg Config, rnd *rand.Rand) (acked []Receipt) {
	ctx := context.Background()
	n := 0
	for range 2 {
		l, err := Open("/l/audit", cfg)
		if err != nil {
			continue
		}
		for round := range 3 {
			for range 3 {
				batch := make([]Entry, 2+rnd.IntN(4))
				for i := range batch {
					batch[i] = numbered(n)
					n++
				}
				if rs, err := l.AppendBatch(ctx, batch); err == nil {
					acked = append(acked, rs...)
				}
			}
			// Their failures show in what follows.
			_ = l.Seal(ctx)
			_, _ = l.Archive(ctx, dirTarget{cfg.fsys, "/l/archive"})
			if round == 1 {
				_, _ = l.Prune(ctx, PruneOptions{Retention: Retention{MaxBytes: 6 << 10}})
			}
		}
		_ = l.Close()
	}
	return acked
}

// TestSealFaultSweep fails every write, sync, rename, truncate, create and
// remove of a life with sealing, archiving and pruning, as TestFaultSweep does.
func TestSealFaultSweep(t *testing.T) {
	seeds := rounds(t, "KAIZEN_FAULT_SEEDS", 1)
	states := 0
	for seed := range seeds {
		probe := freshFS(t)
		sealLife(tiny(probe), rand.New(rand.NewPCG(uint64(seed), 1)))
		for at := 1; at <= probe.ops; at++ {
			if seeds == 1 && at%16 != 3 {
				continue // the long form fails every call, in all ways
			}
			for mode := range 4 {
				if seeds == 1 && mode != at/16%4 {
					continue
				}
				fsys := freshFS(t)
				fsys.failAt, fsys.kept, fsys.stop = at, mode&1 == 1, mode&2 == 2
				acked := sealLife(tiny(fsys), rand.New(rand.NewPCG(uint64(seed), 1)))
				for how := range crashModes {
					if seeds == 1 && how != at/64%crashModes {
						continue
					}
					name := fmt.Sprintf("seed %d, call %d, kept %v, stop %v, crash %d", seed, at, fsys.kept, fsys.stop, how)
					survivor := fsys.crash(how, rand.New(rand.NewPCG(uint64(seed*1000+at), uint64(how))))
					if !t.Run(name, func(t *testing.T) { checkSealSurvivor(t, survivor, acked) }) {
						return
					}
					states++
				}
			}
		}
	}
	t.Logf("%d crash states", states)
}

// checkSealSurvivor is checkSurvivor for a ledger of which segments were
// sealed and pruned: every acknowledged entry has its hash, and its line unless
// it was pruned.
func checkSealSurvivor(t *testing.T, fsys *memFS, acked []Receipt) {
	t.Helper()
	if len(acked) > 0 {
		if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Checkpoint: []byte(acked[len(acked)-1].Checkpoint.Note)}); err != nil {
			t.Fatalf("Verify after the crash: %v", err)
		}
	}
	l, err := Open("/l/audit", tiny(fsys))
	if err != nil {
		t.Fatalf("Open after the crash: %v", err)
	}
	for _, r := range acked {
		if got := leafOf(t, l, r.Index); got != r.LeafHash {
			t.Fatalf("entry %d has another hash", r.Index)
		}
		if e, err := l.Get(t.Context(), r.Index); !errors.Is(err, ErrPruned) && (err != nil || e.ID != r.ID) {
			t.Fatalf("Get(%d) = %v, %v", r.Index, e, err)
		}
		if rootOf(t, l, r.Checkpoint.Size) != r.Checkpoint.Root {
			t.Fatalf("checkpoint of %d entries is not of this history", r.Checkpoint.Size)
		}
	}
	if _, err := l.Append(t.Context(), numbered(9999)); err != nil {
		t.Fatal(err)
	}
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Archive(t.Context(), dirTarget{fsys, "/l/archive"}); err != nil {
		t.Fatal(err)
	}
	size := l.Size()
	mustClose(t, l)
	r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{})
	if err != nil || !r.Clean || r.Entries != size {
		t.Fatalf("Verify after recovery = %+v, %v; want %d entries, clean", r, err, size)
	}
	// What was archived is whole, unless a segment was pruned before it got there.
	if _, err := verify(t.Context(), fsys, "/l/archive", VerifyConfig{}); err != nil && r.Pruned == 0 {
		t.Fatalf("Verify of the archive: %v", err)
	}
}
