package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// Repair makes the index and the nodes of sealed segments in dir again where
// they are missing or damaged, and returns the paths of those files below dir.
// They follow from the entries, so each must come out as it was sealed; if one
// does not, the damage is elsewhere, and a [*TamperError] says so. Entries,
// hashes and checkpoints are never changed. No ledger may have dir open:
// [ErrLocked].
func Repair(ctx context.Context, dir string) (repaired []string, err error) {
	repaired, err = repair(ctx, durable.OS{}, dir)
	if err != nil {
		return repaired, fmt.Errorf("audit: repair %s: %w", dir, err)
	}
	return repaired, nil
}

func repair(ctx context.Context, fsys durable.FS, dir string) (repaired []string, err error) {
	m, _, err := readManifest(fsys, dir)
	if err != nil {
		return nil, err
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	s := newStore(fsys, dir, "")
	defer func() { err = errors.Join(err, s.closeFiles(), lock.Close()) }()
	if err := s.adopt(m); err != nil {
		return nil, err
	}
	v := &treeView{files: s.files, cache: &s.nodes, sealed: s.sealed, size: m.end()}
	for _, seg := range s.sealed {
		if err := context.Cause(ctx); err != nil {
			return repaired, err
		}
		for _, f := range []struct {
			path string
			want merkle.Hash
			make func() ([]byte, error)
			skip bool
		}{
			{seg.nodesPath(), seg.rec.nodes, func() ([]byte, error) { return v.remakeNodes(seg) }, false},
			{seg.idxPath(), seg.rec.idx, func() ([]byte, error) { return s.remakeIndex(seg) }, seg.rec.pruned()},
		} {
			if f.skip {
				continue
			}
			made, err := s.remake(f.path, f.want, f.make)
			if err != nil {
				return repaired, err
			}
			if made {
				repaired = append(repaired, f.path)
			}
		}
	}
	return repaired, nil
}

// remake writes a file again unless it has the digest that it must have.
func (s *store) remake(path string, want merkle.Hash, content func() ([]byte, error)) (made bool, err error) {
	b, err := durable.ReadFile(s.fsys, s.path(path), maxManifest)
	if err == nil && sha256.Sum256(b) == want {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if b, err = content(); err != nil {
		return false, err
	}
	if got := sha256.Sum256(b); got != want {
		return false, notSealed(path, want, got)
	}
	return true, durable.ReplaceFile(s.fsys, s.path(path), b)
}

// remakeIndex is the index that the lines of a sealed segment give.
func (s *store) remakeIndex(seg *segment) ([]byte, error) {
	b := newIdxBuilder(seg.base)
	for i := range int(seg.rec.count) {
		line, err := s.sealedText(seg, i)
		if err != nil {
			return nil, err
		}
		e, err := header(line)
		if err != nil {
			return nil, &TamperError{Path: seg.zstPath(), Index: seg.base + int64(i), Reason: err.Error()}
		}
		b.add(&e)
	}
	return b.encode(), nil
}

// remakeNodes are the nodes of a segment, from leaf hashes alone.
func (v *treeView) remakeNodes(seg *segment) ([]byte, error) {
	var out []byte
	for step := 1; step*tileHeight < 63; step++ {
		first := seg.base >> (step * tileHeight)
		for i := range nodesIn(seg.base, seg.end(), step) {
			h, err := v.fromLeaves(step, first+i)
			if err != nil {
				return nil, err
			}
			out = append(out, h[:]...)
		}
	}
	return out, nil
}

func (v *treeView) fromLeaves(step int, i int64) (merkle.Hash, error) {
	if step == 1 {
		below, err := v.span(0, i*merkle.TileWidth, merkle.TileWidth)
		if err != nil {
			return merkle.Hash{}, err
		}
		return merkle.Perfect(below), nil
	}
	below := make([]merkle.Hash, merkle.TileWidth)
	for k := range below {
		var err error
		if below[k], err = v.fromLeaves(step-1, i*merkle.TileWidth+int64(k)); err != nil {
			return merkle.Hash{}, err
		}
	}
	return merkle.Perfect(below), nil
}
