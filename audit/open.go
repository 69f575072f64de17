package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// open takes the lock, creates or recovers the files, and puts the ledger
// together. It starts no goroutine.
func open(dir string, cfg Config) (_ *Ledger, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(cfg.fsys, dir); err != nil {
		return nil, err
	}
	l := &Ledger{cfg: cfg, queue: newQueue(cfg.sectionBytes)}
	if l.lock, err = cfg.fsys.Lock(filepath.Join(dir, lockName)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.abandon())
		}
	}()
	memory, err := checkRollback(dir, cfg)
	if err != nil {
		return nil, err
	}
	sig, err := prepare(dir, cfg)
	if err != nil {
		return nil, err
	}
	l.signer.Store(sig)
	if err := l.loadOverlap(dir); err != nil {
		return nil, err
	}
	if l.vault, err = openVault(cfg.fsys, keyPath(dir, cfg.KeyDir), sig.origin, cfg); err != nil {
		return nil, err
	}
	generation, err := l.recover(dir)
	if err != nil {
		return nil, err
	}
	if l.outward, err = openOutward(l, memory, generation > 0); err != nil {
		return nil, err
	}
	size := l.store.head.Size
	l.ring, err = createRing(cfg.fsys, dir, sig, generation+1, cfg.sectionBytes)
	l.keeper = newKeeper(l, size, cfg.publishEvery)
	l.keeper.held.Store(l.restored != nil || l.historyLost)
	l.scribe = newScribe(l)
	l.packer = newPacker(l)
	l.stored, l.ledger = l.store, l
	l.committer = committer{head: l.store.head, fresh: make(map[ulid.ULID]int)}
	if err == nil {
		l.committer.clock, err = publishedAt(cfg.fsys, dir)
	}
	return l, err
}

// abandon lets go of what open had taken before it failed.
func (l *Ledger) abandon() error {
	var err error
	if l.vault != nil {
		err = l.vault.close()
	}
	if l.outward != nil {
		err = errors.Join(err, l.outward.history.close())
	}
	if l.store != nil {
		err = errors.Join(err, l.store.closeFiles())
	}
	return errors.Join(err, l.lock.Close())
}

// prepare returns the signer of the ledger in dir, which it creates first if
// there is none.
func prepare(dir string, cfg Config) (*signer, error) {
	m, _, err := readManifest(cfg.fsys, dir)
	if err != nil {
		return nil, err
	}
	files, err := listDir(cfg.fsys, dir, m)
	if err != nil {
		return nil, err
	}
	name := keyPath(dir, cfg.KeyDir)
	if rel, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(rel) {
		return nil, fmt.Errorf("key directory %s is inside the ledger", filepath.Dir(name))
	}
	var s *signer
	if files.has(ledgerName) {
		if err := finishRotation(cfg.fsys, dir, name); err != nil {
			return nil, err
		}
		s, err = loadSigner(cfg.fsys, name)
	} else {
		s, err = create(dir, name, files, cfg)
	}
	if err != nil {
		return nil, err
	}
	if cfg.Origin != "" && cfg.Origin != s.origin {
		return nil, fmt.Errorf("origin is %q, not %q", s.origin, cfg.Origin)
	}
	return s, nil
}

// create makes an empty ledger. ledger.json comes last: until it is there, the
// rest is an attempt that a later call takes up again.
func create(dir, keyName string, files listing, cfg Config) (*signer, error) {
	s, err := ensureSigner(cfg.fsys, keyName, cfg.Origin)
	if err != nil {
		return nil, err
	}
	if err := checkUnfinished(dir, files, s, cfg.fsys); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(cfg.fsys, filepath.Join(dir, segDir)); err != nil {
		return nil, err
	}
	st := newStore(cfg.fsys, dir, s.vkey)
	err = st.createSegment(0)
	if err = errors.Join(err, st.closeFiles()); err != nil {
		return nil, err
	}
	empty := s.checkpoint(0, merkle.EmptyRoot())
	if err := durable.ReplaceFile(cfg.fsys, filepath.Join(dir, checkpointName), []byte(empty.Note)); err != nil {
		return nil, err
	}
	if err := beginHistory(cfg.fsys, dir, empty.Note); err != nil {
		return nil, err
	}
	return s, durable.ReplaceFile(cfg.fsys, filepath.Join(dir, ledgerName), ledgerJSON(formatVersion, s.origin, s.vkey))
}

// checkUnfinished refuses to make a ledger out of what was one: files without
// ledger.json may only be those of an attempt to create it, without entries.
func checkUnfinished(dir string, files listing, s *signer, fsys durable.FS) error {
	lost := &TamperError{Path: ledgerName, Index: -1, Reason: "file is missing"}
	if files.has(ringName) || files.has(manifestName) || len(files.bases) > 1 {
		return lost
	}
	for _, base := range files.bases {
		info, err := stat(fsys, filepath.Join(dir, segDir, segStem(base)+lineExt))
		if err != nil {
			return err
		}
		if base != 0 || info.Size() > 0 {
			return lost
		}
	}
	if !files.has(checkpointName) {
		return nil
	}
	c, err := readCheckpoint(fsys, dir, s.vkey)
	if err != nil {
		return err
	}
	if c.Size > 0 {
		return lost
	}
	return nil
}

func stat(fsys durable.FS, name string) (info fs.FileInfo, err error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Stat()
}

// recover brings the files to the state that Close would have left, whatever
// happened before, and fills l.store. It signs nothing but entries that an
// earlier checkpoint covers or that ring frames, with the ledger's MAC, hold.
// It returns the generation of the ring that it found.
func (l *Ledger) recover(dir string) (generation uint64, err error) {
	fsys, log := l.cfg.fsys, l.cfg.Logger.With("dir", dir)
	vkey, published, err := identity(fsys, dir)
	if err != nil {
		return 0, err
	}
	if vkey != l.signer.Load().vkey {
		return 0, &TamperError{Path: ledgerName, Index: -1, Reason: "belongs to another key than the one in the key directory", Want: l.signer.Load().vkey, Got: vkey}
	}
	m, _, err := readManifest(fsys, dir)
	if err != nil {
		return 0, err
	}
	if m.end() > published.Size {
		return 0, rollback(published.Size, m.end())
	}
	files, err := listDir(fsys, dir, m)
	if err != nil {
		return 0, err
	}
	for _, name := range append(files.leftover, files.orphans...) {
		if err := removeSynced(fsys, dir, name); err != nil {
			return 0, err
		}
	}
	ring, err := readRing(fsys, dir, l.signer.Load().macKey)
	if err != nil {
		return 0, err
	}
	l.crashed = len(ring.frames) > 0 || ring.torn
	l.recovered = map[string]any{"after_checkpoint": published.Size, "torn": ring.torn}
	if ring.torn {
		log.Warn("audit ledger: cut off an entry that was being written when the process ended", "entries", max(ring.end(), published.Size))
	}
	if err := raise(fsys, dir, published); err != nil {
		return 0, err
	}
	l.store = newStore(fsys, dir, vkey)
	if err := l.store.adopt(m); err != nil {
		return 0, err
	}
	l.store.write, l.store.segmentBytes = true, l.cfg.segmentBytes
	if l.cfg.AcceptRestored && len(files.bases) == 0 && m.end() > 0 && m.end() == published.Size && ring.generation == 0 {
		// An archive, which ends with a sealed segment, goes on as a ledger.
		if err := l.store.createSegment(m.end()); err != nil {
			return 0, err
		}
	}
	if err := l.store.openListed(files.bases); err != nil {
		return 0, err
	}
	if err := l.restore(&ring, published); err != nil {
		return 0, err
	}
	l.recovered["entries"] = l.store.head.Size - published.Size
	if n := l.store.head.Size - published.Size; n > 0 {
		log.Info("audit ledger recovered", "entries", l.store.head.Size, "after_checkpoint", n)
	}
	return ring.generation, nil
}

// restore loads the entries that the segments must hold, takes the newer ones
// from the ring, and publishes the checkpoint of all.
func (l *Ledger) restore(ring *chain, published Checkpoint) error {
	a, err := anchor(ring, published)
	if err != nil {
		return err
	}
	s := l.store
	roots := rootsWanted(ring, published, s.edge.Size())
	c, err := s.load(context.Background(), a, roots)
	if err == nil {
		err = checkRoots(roots, ring, published)
	}
	if err != nil {
		return s.blame(err, published)
	}
	rest := ring.after(a)
	if err := compareTail(c, &rest); err != nil {
		return err
	}
	if err := s.cut(c); err != nil {
		return err
	}
	l.tree, s.head = s.loaded(), published
	if err := l.replay(rest); err != nil {
		return err
	}
	if _, err := s.sync(); err != nil {
		return err
	}
	if s.head.Size == published.Size {
		return nil
	}
	return durable.ReplaceFile(s.fsys, filepath.Join(s.dir, checkpointName), []byte(s.head.Note))
}

// replay writes the lines of a crashed ledger's ring to the segments, as the
// committer would have. Nobody sees what is between, so it signs once.
func (l *Ledger) replay(rest []group) error {
	if len(rest) == 0 {
		return nil
	}
	headers, wait := parsed(rest)
	defer wait()
	for i := range rest {
		if err := <-headers[i]; err != nil {
			return err
		}
		l.store.owed.Add(int64(len(rest[i].buf)))
		l.tree.AppendAll(rest[i].leaves)
		head := Checkpoint{Size: l.tree.Size()}
		if i == len(rest)-1 {
			head = l.signer.Load().checkpoint(l.tree.Size(), l.tree.Root())
		}
		if err := l.store.apply(&rest[i], head); err != nil {
			return err
		}
	}
	return nil
}

// parsed reads the headers of the lines of groups on all processors, each
// group's ready when its channel has a value. Wait returns when all are.
func parsed(groups []group) (done []chan error, wait func()) {
	done = make([]chan error, len(groups))
	for i := range done {
		done[i] = make(chan error, 1)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(groups)); i = next.Add(1) - 1 {
				done[i] <- groups[i].parse()
			}
		})
	}
	return done, wg.Wait
}

// parse fills in the entries of a group that was read from a ring.
func (g *group) parse() error {
	entries := make([]Entry, g.len())
	g.entries = make([]*Entry, g.len())
	for n := range entries {
		var err error
		if entries[n], err = header(g.line(n)); err != nil {
			return &TamperError{Path: ringName, Index: g.base + int64(n), Reason: err.Error()}
		}
		g.entries[n] = &entries[n]
	}
	return nil
}
