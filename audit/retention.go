package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// Retention says which sealed segments need not be kept. The zero value keeps
// all. The newest segment, which is not sealed, always stays.
type Retention struct {
	// MaxAge removes segments whose newest entry is older. If zero, age does
	// not matter.
	MaxAge time.Duration
	// MaxBytes removes the oldest segments until the files of the others take
	// no more, see [Stats].Stored. If zero, size does not matter.
	MaxBytes int64
}

// PruneOptions tunes one [Ledger.Prune].
type PruneOptions struct {
	// DryRun changes nothing: the report says what would be removed.
	DryRun bool
	// Retention is used in place of [Config].Retention if it is not zero.
	Retention Retention
	// Now is what age is counted from. If zero, the current time.
	Now time.Time
}

// SegmentInfo describes a sealed segment.
type SegmentInfo struct {
	// Base is the index of its first entry, Entries their number.
	Base, Entries int64
	// Bytes is the size of the lines, Stored that of the files.
	Bytes, Stored int64
	// Oldest and Newest bound the Time of its entries.
	Oldest, Newest time.Time
	// Pruned says that lines and index were removed.
	Pruned bool
	// Reason says why it is removed: "age" or "size". Empty otherwise.
	Reason string
	// Held says why it is kept although retention would remove it. Empty
	// otherwise.
	Held string
}

// PruneReport says what retention did, or would do.
type PruneReport struct {
	// Removed are the segments whose lines and index are gone, the oldest first.
	Removed []SegmentInfo
	// Held are those that retention would remove if nothing kept them.
	Held []SegmentInfo
	// Entries and Stored are the sums over Removed. Stored counts what became
	// free: the hashes, 32 bytes an entry, stay.
	Entries, Stored int64
}

func (r *record) info() SegmentInfo {
	return SegmentInfo{
		Base: r.base, Entries: r.count, Bytes: r.bytes, Stored: r.stored, Pruned: r.pruned(),
		Oldest: time.Unix(0, r.minTime).UTC(), Newest: time.Unix(0, r.maxTime).UTC(),
	}
}

// Segments describes the sealed segments, the oldest first, pruned ones too.
func (l *Ledger) Segments() []SegmentInfo { return l.store.segments() }

// Segments is [Ledger.Segments].
func (r *Reader) Segments() []SegmentInfo { return r.store.segments() }

func (s *store) segments() []SegmentInfo {
	m := s.manifest()
	out := make([]SegmentInfo, len(m.records))
	for i := range m.records {
		out[i] = m.records[i].info()
	}
	return out
}

// Prune removes what retention does not keep: lines and index of whole sealed
// segments. The hashes of their entries stay, so that every proof of another
// entry, and every proof of theirs that somebody keeps, still holds; reading
// them gives [ErrPruned]. An entry of the ledger says what was removed and why.
// What is held stays, and is reported. It happens in the background too, if
// [Config].Retention asks for it. Errors are those of [Ledger.Append] and of
// the file system.
func (l *Ledger) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	r, err := l.prune(ctx, o)
	if err != nil {
		return r, fmt.Errorf("audit: prune: %w", err)
	}
	return r, nil
}

func (l *Ledger) prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	ctx, end, err := l.packer.begin(ctx)
	if err != nil {
		return PruneReport{}, err
	}
	defer end()
	l.holds.change.Lock() // nobody places a hold between our look and the removal
	defer l.holds.change.Unlock()
	if o.Retention == (Retention{}) {
		o.Retention = l.cfg.Retention
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	report, err := l.expired(ctx, o)
	if err != nil || o.DryRun {
		return report, err
	}
	// So many at a time as the entry that names them has room for.
	const most = 64
	var done int64
	for chunk := range slices.Chunk(report.Removed, most) {
		err := l.remove(ctx, chunk, func(entries int64) {
			done += entries
			l.packer.tell("prune", done, report.Entries)
		})
		if err != nil {
			return report, err
		}
	}
	return report, nil
}

// expired finds what retention does not keep.
func (l *Ledger) expired(ctx context.Context, o PruneOptions) (PruneReport, error) {
	m := l.store.manifest()
	total := l.store.stats().Stored
	var report PruneReport
	going := map[int64]bool{}
	for i := range m.records {
		r := &m.records[i]
		if r.pruned() {
			continue
		}
		info := r.info()
		switch {
		case o.Retention.MaxAge > 0 && r.maxTime < o.Now.Add(-o.Retention.MaxAge).UnixNano():
			info.Reason = "age"
		case o.Retention.MaxBytes > 0 && total > o.Retention.MaxBytes:
			info.Reason = "size"
		default:
			continue
		}
		var err error
		if info.Held, err = l.kept(ctx, info, going); err != nil {
			return report, err
		}
		if info.Held != "" {
			report.Held = append(report.Held, info)
			continue
		}
		freed := r.stored - 32*r.count
		total -= freed
		going[r.base] = true
		report.Removed = append(report.Removed, info)
		report.Entries += r.count
		report.Stored += freed
	}
	return report, nil
}

// kept says why a segment must be kept, empty if nothing keeps it: a hold, a
// release that its hold needs, or an archive that does not have it yet. Going are
// the segments that are removed with it. The caller holds l.holds.change.
func (l *Ledger) kept(ctx context.Context, seg SegmentInfo, going map[int64]bool) (reason string, err error) {
	err = l.heldEntries(ctx, seg.Base, seg.Base+seg.Entries)
	if hold := (*HeldError)(nil); errors.As(err, &hold) {
		return "hold " + hold.Hold, nil
	}
	if err != nil {
		return "", err
	}
	if reason, err := l.unpaired(ctx, seg, going); reason != "" || err != nil {
		return reason, err
	}
	if l.cfg.Archive == "" {
		return "", nil
	}
	have, err := archived(ctx, ArchiveDir(l.cfg.Archive), l.store, seg.Base)
	if err != nil || have {
		return "", err
	}
	return "not in the archive yet", nil
}

// remove takes lines and index of segments away. First the ledger says so, then
// the manifest, and then the files go: a crash in between leaves files that the
// next Open removes. Tell hears of the entries of each segment that is gone.
func (l *Ledger) remove(ctx context.Context, segs []SegmentInfo, tell func(entries int64)) error {
	s := l.store
	m := s.manifest()
	gone := map[int64]string{}
	for _, info := range segs {
		gone[info.Base] = info.Reason
	}
	if err := l.carryState(ctx, segs); err != nil {
		return err
	}
	if err := l.carryOver(ctx, m, gone); err != nil {
		return err
	}
	var list []any
	for i := range m.records {
		r := &m.records[i]
		if reason, ok := gone[r.base]; ok {
			d := r.details()
			d["reason"] = reason
			list = append(list, d)
		}
	}
	receipt, err := l.appendSystem(ctx, Entry{Action: actionPruned, Details: map[string]any{"segments": list}})
	if err != nil {
		return err
	}
	for i := range m.records {
		if _, ok := gone[m.records[i].base]; ok {
			m.records[i].prunedAt = receipt.Index
		}
	}
	if err := l.replaceRecords(ctx, m); err != nil {
		return err
	}
	for i := range m.records {
		if _, ok := gone[m.records[i].base]; ok {
			if err := s.discard(newSealed(m.records[i])); err != nil {
				return err
			}
			tell(m.records[i].count)
		}
	}
	return s.fsys.SyncDir(s.path(segDir))
}

// replaceRecords publishes changed records. The entries that they refer to must
// be under the published checkpoint first.
func (l *Ledger) replaceRecords(ctx context.Context, m *manifest) error {
	if err := l.Flush(ctx); err != nil {
		return err
	}
	if err := l.store.replaceManifest(m); err != nil {
		return err
	}
	sealed := make([]*segment, len(m.records))
	for i, r := range m.records {
		sealed[i] = newSealed(r)
	}
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	l.store.sealed = sealed
	return nil
}

// carryOver repeats what entries that are about to go say about segments that
// stay: a segment is never without an entry that vouches for it.
func (l *Ledger) carryOver(ctx context.Context, m *manifest, gone map[int64]string) error {
	for i := range m.records {
		r := &m.records[i]
		if _, going := gone[r.base]; going {
			continue
		}
		said := r.entry
		if r.pruned() {
			said = r.prunedAt
		}
		k := slices.IndexFunc(m.records, func(o record) bool { return said >= o.base && said < o.end() })
		if k < 0 {
			continue
		}
		if _, going := gone[m.records[k].base]; !going {
			continue
		}
		action, details := actionSealed, l.vouched(r)
		if r.pruned() {
			action, details = actionPruned, map[string]any{"segments": []any{details}}
		}
		receipt, err := l.appendSystem(ctx, Entry{Action: action, Details: details})
		if err != nil {
			return err
		}
		if r.pruned() {
			r.prunedAt = receipt.Index
		} else {
			r.entry = receipt.Index
		}
	}
	return nil
}

// discard removes the files of a pruned segment.
func (s *store) discard(seg *segment) error {
	s.cache.drop(seg.base)
	s.plain.drop(seg.base)
	for _, path := range []string{seg.zstPath(), seg.idxPath()} {
		if err := s.files.drop(path); err != nil {
			return err
		}
		if err := s.fsys.Remove(s.path(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
