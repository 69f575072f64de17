package shard

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// Config says what a [Set] is made of. Super and Shards must be set.
type Config struct {
	// Super records the shards' checkpoints. It belongs to the caller, and so
	// do the shards: [Set.Close] closes none of them.
	Super interface {
		audit.Backend
		Super
	}
	// Shards are the ledgers that take the entries. Their number and order must
	// stay the same: an agent belongs to one of them by its name.
	Shards []audit.Backend
	// Every is how often their checkpoints are recorded while they grow. If
	// zero, 10 s.
	Every time.Duration
	// Logger receives failures of recording in the background. If nil, nothing
	// is logged.
	Logger *slog.Logger
}

// Set is a ledger in several parts. All methods may be called at once.
type Set struct {
	cfg      Config
	recorder *Recorder
	stop     context.CancelFunc
	done     sync.WaitGroup
}

// Receipt is the receipt of a shard, and which one it is. Index and Checkpoint
// are the shard's.
type Receipt struct {
	audit.Receipt
	Shard int
}

// Entry is an entry of a shard.
type Entry struct {
	audit.Entry
	Shard int
}

// New joins ledgers, and records their checkpoints in the background until
// Close. An error of [ErrFork] means that a shard is not what was recorded.
func New(ctx context.Context, cfg Config) (*Set, error) {
	if cfg.Super == nil || len(cfg.Shards) == 0 {
		return nil, errors.New("shard: Super and Shards must be set")
	}
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	recorder, err := NewRecorder(ctx, cfg.Super)
	if err != nil {
		return nil, err
	}
	s := &Set{cfg: cfg, recorder: recorder}
	origins := map[string]bool{cfg.Super.Origin(): true}
	for i, l := range cfg.Shards {
		if origins[l.Origin()] {
			return nil, fmt.Errorf("shard: %d has the origin %s, as another one has", i, l.Origin())
		}
		origins[l.Origin()] = true
		if _, err := s.submission(l); err != nil {
			return nil, err
		}
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.run(background) })
	return s, nil
}

func (s *Set) run(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.Record(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Logger.Error("shard: checkpoints were not recorded", "error", err)
			}
		}
	}
}

// Of is the shard of an agent: the first 8 bytes of the SHA-256 of its name,
// high byte first, modulo the number of shards.
func (s *Set) Of(agent string) int {
	sum := sha256.Sum256([]byte(agent))
	return int(binary.BigEndian.Uint64(sum[:8]) % uint64(len(s.cfg.Shards)))
}

// Append records e in the shard of its agent.
func (s *Set) Append(ctx context.Context, e audit.Entry) (Receipt, error) {
	i := s.Of(e.AgentID)
	r, err := s.cfg.Shards[i].Append(ctx, e)
	return Receipt{r, i}, err
}

// AppendBatch records entries, those of one shard together and in their order.
// Shards answer for themselves: after an error some may have written, which the
// receipts that are not empty tell.
func (s *Set) AppendBatch(ctx context.Context, entries []audit.Entry) ([]Receipt, error) {
	parts := make([][]audit.Entry, len(s.cfg.Shards))
	places := make([][]int, len(s.cfg.Shards))
	for k, e := range entries {
		i := s.Of(e.AgentID)
		parts[i], places[i] = append(parts[i], e), append(places[i], k)
	}
	out := make([]Receipt, len(entries))
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		if len(part) == 0 {
			continue
		}
		wg.Go(func() {
			rs, err := s.cfg.Shards[i].AppendBatch(ctx, part)
			errs[i] = err
			for k, r := range rs {
				out[places[i][k]] = Receipt{r, i}
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// Query yields what matches from all shards, in the order of the entries' times
// as far as each shard has them in order. After is that of no shard and must be
// zero: continue with Since. A query for one agent asks one shard.
func (s *Set) Query(ctx context.Context, q audit.Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if q.After != 0 {
			yield(Entry{}, errors.New("shard: query: After is the place in one ledger; use Since"))
			return
		}
		m := merge{descending: q.Descending}
		defer m.stop()
		for i, l := range s.cfg.Shards {
			if q.AgentID != "" && s.Of(q.AgentID) != i {
				continue
			}
			if err := m.add(i, l.Query(ctx, q)); err != nil {
				yield(Entry{}, err)
				return
			}
		}
		for left := q.Limit; ; {
			e, ok, err := m.next()
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !ok {
				return
			}
			if left--; !yield(e, nil) || left == 0 {
				return
			}
		}
	}
}

// Count is the number of entries in all shards that match q.
func (s *Set) Count(ctx context.Context, q audit.Query) (n int64, err error) {
	for i, l := range s.cfg.Shards {
		if q.AgentID != "" && s.Of(q.AgentID) != i {
			continue
		}
		k, err := l.Count(ctx, q)
		if err != nil {
			return 0, err
		}
		n += k
	}
	return n, nil
}

// merge joins the answers of shards by time.
type merge struct {
	descending bool
	heads      []mergeHead
}

type mergeHead struct {
	shard int
	entry audit.Entry
	pull  func() (audit.Entry, error, bool)
	stop  func()
}

func (m *merge) add(shard int, seq iter.Seq2[audit.Entry, error]) error {
	pull, stop := iter.Pull2(seq)
	h := mergeHead{shard: shard, pull: pull, stop: stop}
	e, err, ok := pull()
	if err != nil || !ok {
		stop()
		return err
	}
	h.entry = e
	m.heads = append(m.heads, h)
	return nil
}

func (m *merge) next() (Entry, bool, error) {
	if len(m.heads) == 0 {
		return Entry{}, false, nil
	}
	best := 0
	for i := range m.heads {
		order := m.heads[i].entry.Time.Compare(m.heads[best].entry.Time)
		if m.descending {
			order = -order
		}
		if cmp.Or(order, cmp.Compare(m.heads[i].shard, m.heads[best].shard)) < 0 {
			best = i
		}
	}
	h := &m.heads[best]
	out := Entry{h.entry, h.shard}
	e, err, ok := h.pull()
	if h.entry = e; !ok {
		h.stop()
		m.heads = append(m.heads[:best], m.heads[best+1:]...)
	}
	return out, err == nil, err
}

func (m *merge) stop() {
	for _, h := range m.heads {
		h.stop()
	}
}

// Record appends the checkpoints of all shards that have grown to the
// super-ledger, whose next checkpoint covers them.
func (s *Set) Record(ctx context.Context) error {
	var all []Submission
	for _, l := range s.cfg.Shards {
		if err := l.Flush(ctx); err != nil {
			return fmt.Errorf("shard: %s: %w", l.Origin(), err)
		}
		sub, err := s.submission(l)
		if err != nil {
			return err
		}
		if sub.Note != "" {
			all = append(all, sub)
		}
	}
	_, err := s.recorder.Record(ctx, all...)
	return err
}

// submission is the newest checkpoint of a shard with the proof that it extends
// the one on record; without note if there is nothing to record.
func (s *Set) submission(l audit.Backend) (Submission, error) {
	head := l.Checkpoint()
	last, _, _ := s.recorder.Last(l.Origin())
	if head.Size == 0 && last.Size == 0 {
		return Submission{}, nil
	}
	if head.Size < last.Size {
		return Submission{}, fmt.Errorf("shard: %s: %w: %d entries after %d", l.Origin(), ErrFork, head.Size, last.Size)
	}
	sub := Submission{Key: l.VerifierKey(), Note: head.Note, From: last.Size}
	var err error
	if sub.Consistency, err = l.Consistency(last.Size, head.Size); err != nil {
		return sub, err
	}
	return sub, checkHistory(l.Origin(), last, head, sub.Consistency)
}

func checkHistory(origin string, last, head audit.Checkpoint, proof [][32]byte) error {
	if err := checkConsistency(last, head, proof); err != nil {
		return fmt.Errorf("shard: %s: %w: %w", origin, ErrFork, err)
	}
	return nil
}

// Checkpoint is the super-ledger's: with [Set.Record] before it, one signature
// over all shards.
func (s *Set) Checkpoint() audit.Checkpoint { return s.cfg.Super.Checkpoint() }

// Close ends the recording in the background, after a last time.
func (s *Set) Close(ctx context.Context) error {
	s.stop()
	s.done.Wait()
	return s.Record(ctx)
}

// Proof shows that an entry of a shard is covered by a checkpoint of the
// super-ledger.
type Proof struct {
	// Entry proves the entry in its shard, Super the recorded checkpoint of the
	// shard in the super-ledger.
	Entry, Super audit.Proof
	// Consistency shows that the checkpoints that the two speak of are of one
	// history.
	Consistency [][32]byte
}

// Prove makes the proof of one entry. It is [audit.ErrNotFound] if no
// checkpoint on record covers the entry: see [Set.Record].
func (s *Set) Prove(ctx context.Context, shard int, index int64) (Proof, error) {
	if shard < 0 || shard >= len(s.cfg.Shards) {
		return Proof{}, fmt.Errorf("shard: prove: there is no shard %d: %w", shard, audit.ErrNotFound)
	}
	l := s.cfg.Shards[shard]
	for e, err := range s.cfg.Super.Query(ctx, audit.Query{AgentID: "kaizen", Action: audit.ShardAction, Descending: true}) {
		if err != nil {
			return Proof{}, err
		}
		c, recorded, err := audit.ParseShardEntry(e)
		if err != nil {
			return Proof{}, err
		}
		if c.Key != l.VerifierKey() {
			continue
		}
		if recorded.Size <= index {
			break
		}
		return s.prove(l, index, recorded, e.Index)
	}
	return Proof{}, fmt.Errorf("shard: prove entry %d of %s: no checkpoint on record covers it: %w", index, l.Origin(), audit.ErrNotFound)
}

func (s *Set) prove(l audit.Backend, index int64, recorded audit.Checkpoint, at int64) (p Proof, err error) {
	if p.Entry, err = l.Proof(index); err != nil {
		return p, err
	}
	head, err := p.Entry.Checkpoint(l.VerifierKey())
	if err != nil {
		return p, err
	}
	if p.Consistency, err = l.Consistency(recorded.Size, head.Size); err != nil {
		return p, err
	}
	p.Super, err = s.cfg.Super.Proof(at)
	return p, err
}

// Check verifies the proof with nothing but the super-ledger's public key.
func (p Proof) Check(superKey string) error {
	if err := p.Super.Check(superKey); err != nil {
		return err
	}
	e, err := p.Super.Entry()
	if err != nil {
		return err
	}
	c, recorded, err := audit.ParseShardEntry(e)
	if err != nil {
		return fmt.Errorf("%w: %w", audit.ErrProof, err)
	}
	if err := p.Entry.Check(c.Key); err != nil {
		return err
	}
	head, err := p.Entry.Checkpoint(c.Key)
	if err != nil {
		return err
	}
	if p.Entry.Index >= recorded.Size || checkConsistency(recorded, head, p.Consistency) != nil {
		return fmt.Errorf("shard: %w: the checkpoint on record does not cover the entry", audit.ErrProof)
	}
	return nil
}

// Verify checks shards against a super-ledger, reading every line of every one:
// each checkpoint on record must be the root of that many of its shard's first
// lines. Sources are what [audit.OpenReader] or a backend gives. A shard that is
// on record and not given, goes back, or has another history is an error of
// [ErrFork].
func Verify(ctx context.Context, super interface {
	Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error]
}, shards ...audit.Source) error {
	wanted := map[string][]audit.Checkpoint{}
	for e, err := range super.Query(ctx, audit.Query{AgentID: "kaizen", Action: audit.ShardAction}) {
		if err != nil {
			return fmt.Errorf("shard: verify: %w", err)
		}
		c, head, err := audit.ParseShardEntry(e)
		if err != nil {
			return fmt.Errorf("shard: verify: %w", err)
		}
		wanted[c.Key] = append(wanted[c.Key], head)
	}
	for _, source := range shards {
		if err := verifyShard(ctx, source, wanted[source.VerifierKey()]); err != nil {
			return fmt.Errorf("shard: verify %s: %w", source.Origin(), err)
		}
		delete(wanted, source.VerifierKey())
	}
	for key := range wanted {
		return fmt.Errorf("shard: verify: %w: %s is on record and was not given", ErrFork, originOf(key))
	}
	return nil
}

// verifyShard computes the root at each size on record, and at the end.
func verifyShard(ctx context.Context, source audit.Source, recorded []audit.Checkpoint) error {
	own := source.Checkpoint()
	if head, err := audit.ParseCheckpoint([]byte(own.Note), source.VerifierKey()); own.Size > 0 && (err != nil || head.Size != own.Size || head.Root != own.Root) {
		return fmt.Errorf("%w: its own checkpoint is not signed", ErrSignature)
	}
	recorded = append(recorded, own)
	var tree roots
	for line, err := range source.Lines(ctx, 0) {
		if err != nil {
			return err
		}
		tree.append(tlog.RecordHash(line))
		for len(recorded) > 0 && recorded[0].Size == tree.size {
			if recorded[0].Root != tree.root() {
				return fmt.Errorf("%w: the first %d entries are not those on record", ErrFork, tree.size)
			}
			recorded = recorded[1:]
		}
	}
	for _, c := range recorded {
		if c.Size != 0 {
			return fmt.Errorf("%w: it has %d entries, %d are on record", ErrFork, tree.size, c.Size)
		}
	}
	return nil
}

// roots is the right edge of a Merkle tree.
type roots struct {
	size int64
	edge []tlog.Hash
}

func (t *roots) append(leaf tlog.Hash) {
	h := leaf
	for s := t.size; s&1 == 1; s >>= 1 {
		last := len(t.edge) - 1
		h = tlog.NodeHash(t.edge[last], h)
		t.edge = t.edge[:last]
	}
	t.edge = append(t.edge, h)
	t.size++
}

func (t *roots) root() [32]byte {
	last := len(t.edge) - 1
	h := t.edge[last]
	for i := last - 1; i >= 0; i-- {
		h = tlog.NodeHash(t.edge[i], h)
	}
	return h
}
