package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
)

// Verify checks the ledger as [audit.Verify] checks a directory: every line,
// hash and signed checkpoint, and that the columns which queries use say what
// the lines say, for an entry that is not found is as good as removed. It reads
// one snapshot of the database, in which others may append meanwhile.
//
// It returns a report, a [*audit.TamperError] whose Path is the table, or the
// error that kept it from reading. Entries that retention has removed are
// checked by their hashes alone.
func (l *Ledger) Verify(ctx context.Context, cfg audit.VerifyConfig) (audit.Report, error) {
	err := l.Usable(ctx)
	v := newVerifier(l, cfg)
	if err == nil {
		err = v.run(ctx)
	}
	if err != nil {
		return audit.Report{}, l.Wrap("verify", err)
	}
	return v.report, nil
}

// newVerifier is to be called before the snapshot is taken: what this process
// knows must not be newer.
func newVerifier(l *Ledger, cfg audit.VerifyConfig) *verifier {
	return &verifier{
		l: l, cfg: cfg, vkey: l.VerifierKey(), known: l.keys.Changes(), seen: l.Head(),
		published: map[int64][]string{}, changes: map[int64]audit.KeyChange{},
	}
}

type verifier struct {
	l   *Ledger
	cfg audit.VerifyConfig
	// What this process knew before.
	vkey  string            // the present key
	known []audit.KeyChange // how it came to be
	seen  audit.Checkpoint  // the newest
	held  map[int64][]kept  // checkpoints in other hands whose size the tree has not passed

	head      audit.Checkpoint
	tree      group.Tree
	nodes     []group.Node       // completed and not yet compared
	published map[int64][]string // checkpoints whose size the tree has not passed
	keys      *group.Keys
	changes   map[int64]audit.KeyChange // by the size that they are from
	totals    []total                   // of the partitions that are there
	report    audit.Report
}

// kept is a checkpoint that somebody has outside the database.
type kept struct {
	audit.Checkpoint
	source string
}

func (v *verifier) run(ctx context.Context) error {
	return v.l.pool.InTx(ctx, "ISOLATION LEVEL REPEATABLE READ, READ ONLY", func(tx *pgwire.Conn) error { return v.check(ctx, tx) })
}

func (v *verifier) check(ctx context.Context, tx *pgwire.Conn) error {
	if err := v.start(ctx, tx); err != nil {
		return err
	}
	if err := v.entries(ctx, tx); err != nil {
		return err
	}
	return v.finish(ctx, tx)
}

// start reads head, key, held checkpoint and published ones.
func (v *verifier) start(ctx context.Context, tx *pgwire.Conn) error {
	schema := v.l.cfg.Schema
	var origin, vkey, text string
	var size int64
	if err := tx.QueryRow(ctx, "SELECT origin, vkey, size, note FROM "+schema+".head").Scan(&origin, &vkey, &size, &text); err != nil {
		return err
	}
	var err error
	if v.keys, err = v.readKeys(ctx, tx, vkey); err != nil {
		return err
	}
	for _, trusted := range []string{v.cfg.Key, v.vkey} {
		if trusted != "" && !v.keys.Trusts(trusted) {
			return damage("head", -1, "signed with another key than the trusted one", trusted, vkey)
		}
	}
	if v.head, err = group.OpenCheckpoint(text, vkey); err != nil {
		return damage("head", -1, "the checkpoint is not as it was signed: "+err.Error(), "", "")
	}
	if v.head.Size != size {
		return damage("head", -1, "size is not that of the checkpoint", strconv.FormatInt(v.head.Size, 10), strconv.FormatInt(size, 10))
	}
	if err := v.hold(); err != nil {
		return err
	}
	v.report = audit.Report{Origin: origin, Key: vkey, Checkpoint: v.head, Clean: true}
	rows, err := tx.Query(ctx, "SELECT size, note FROM "+schema+".checkpoints UNION ALL SELECT size, note FROM "+schema+".cosigned")
	if err != nil {
		return err
	}
	var at int64
	if err = pgwire.Each(rows, []any{&at, &text}, func() error { v.published[at] = append(v.published[at], text); return nil }); err != nil {
		return err
	}
	if v.totals, err = readTotals(ctx, tx, schema); err != nil {
		return err
	}
	return tx.QueryRow(ctx, "SELECT count(*) FROM "+schema+".partitions").Scan(&v.report.Segments)
}

// hold takes in the checkpoints that the auditor has, and the newest that this
// process has seen.
func (v *verifier) hold() error {
	all := append([]audit.Remembered{{Note: string(v.cfg.Checkpoint), Source: "the auditor's hands"}}, v.cfg.Checkpoints...)
	all = append(all, audit.Remembered{Note: v.seen.Note, Source: "the memory of this process"})
	v.held = map[int64][]kept{}
	for i, r := range all {
		if r.Note == "" && (i == 0 || i == len(all)-1) {
			continue // there is none
		}
		c, err := v.keys.Open(r.Note)
		if err != nil {
			return damage("head", -1, fmt.Sprintf("the checkpoint in %s is not signed with this ledger's key: %v", r.Source, err), "", v.keys.VerifierKey())
		}
		if c.Size > v.head.Size {
			return damage("head", v.head.Size, "ledger is older than a checkpoint of it that is known, in "+r.Source,
				fmt.Sprintf("%d entries", c.Size), strconv.FormatInt(v.head.Size, 10))
		}
		v.held[c.Size] = append(v.held[c.Size], kept{c, r.Source})
	}
	return nil
}

// entries walks all lines in order, a portion at a time from one cursor, and
// takes the hashes of those that were dropped from where they are kept.
func (v *verifier) entries(ctx context.Context, tx *pgwire.Conn) error {
	schema := v.l.cfg.Schema
	if err := v.compare(); err != nil {
		return err
	}
	if err := v.dropped(ctx, tx); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "DECLARE lines NO SCROLL CURSOR FOR SELECT idx, id, leaf, time, result, agent, action, usr, subject, session, run, trace, span, line FROM "+schema+".entries ORDER BY idx"); err != nil {
		return err
	}
	for {
		rows, err := tx.Query(ctx, "FETCH 2000 FROM lines")
		if err != nil {
			return err
		}
		n := 0
		for rows.Next() {
			n++
			if err := v.row(rows); err != nil {
				rows.Close()
				return err
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if v.cfg.Progress != nil {
			v.cfg.Progress(v.tree.Size, v.head.Size)
		}
		if n == 0 {
			return nil
		}
	}
}

// dropped extends the tree by the hashes of entries that retention removed.
func (v *verifier) dropped(ctx context.Context, tx *pgwire.Conn) error {
	rows, err := tx.Query(ctx, "SELECT base, hashes FROM "+v.l.cfg.Schema+".leaves ORDER BY base")
	if err != nil {
		return err
	}
	var base int64
	var hashes []byte
	err = pgwire.Each(rows, []any{&base, &hashes}, func() error {
		if base != v.tree.Size || len(hashes)%tlog.HashSize != 0 {
			return damage("leaves", v.tree.Size, "hashes are missing or broken", "", "")
		}
		for ; len(hashes) > 0; hashes = hashes[tlog.HashSize:] {
			if err := v.extend(tlog.Hash(hashes[:tlog.HashSize])); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// row checks one entry.
func (v *verifier) row(rows *pgwire.Rows) error {
	var s stored
	if err := rows.Scan(&s.index, &s.id, &s.leaf, &s.time, &s.result, &s.agent, &s.action, &s.user, &s.subject, &s.session, &s.run, &s.trace, &s.span, &s.line); err != nil {
		return err
	}
	if want := v.tree.Size; s.index != want {
		return damage("entries", want, "entry is missing", strconv.FormatInt(want, 10), strconv.FormatInt(s.index, 10))
	}
	if s.index >= v.head.Size {
		return damage("entries", s.index, "entry is not covered by the checkpoint", fmt.Sprintf("%d entries", v.head.Size), "")
	}
	if err := checkLine(s.index, s.line, s.leaf); err != nil {
		return err
	}
	e, err := audit.DecodeLine(s.line)
	if err != nil {
		return damage("entries", s.index, err.Error(), "", "")
	}
	if column := s.differs(&e); column != "" {
		return damage("entries", s.index, "column "+column+" does not say what the line says", "", "")
	}
	v.count(s.index, s.time, int64(len(s.line))+1)
	v.report.Entries++
	v.report.Bytes += int64(len(s.line)) + 1
	return v.extend(tlog.Hash(s.leaf))
}

// extend adds a leaf and compares with every checkpoint of the new size.
func (v *verifier) extend(leaf tlog.Hash) error {
	v.nodes = v.tree.Append(leaf, v.nodes)
	if c, ok := v.changes[v.tree.Size]; ok {
		if tlog.RecordHash(c.Entry) != leaf {
			return damage("keys", c.From-1, "the entry that names the new key is not in the ledger", "", "")
		}
		delete(v.changes, c.From)
	}
	return v.compare()
}

func (v *verifier) compare() error {
	size := v.tree.Size
	for _, text := range v.published[size] {
		c, err := v.keys.Open(text)
		if err != nil || c.Size != size {
			return damage("checkpoints", -1, fmt.Sprintf("the checkpoint at %d is not as it was signed", size), "", "")
		}
		if err := v.root("checkpoints", kept{c, ""}); err != nil {
			return err
		}
	}
	delete(v.published, size)
	for _, k := range v.held[size] {
		if err := v.root("entries", k); err != nil {
			return err
		}
	}
	delete(v.held, size)
	return nil
}

func (v *verifier) root(table string, c kept) error {
	if got := v.tree.Root(); got != tlog.Hash(c.Root) {
		reason := fmt.Sprintf("the first %d entries are not those that were signed", c.Size)
		if c.source != "" {
			reason += ", by the checkpoint in " + c.source
		}
		return damage(table, -1, reason,
			fmt.Sprintf("root %x", c.Root), hex.EncodeToString(got[:]))
	}
	return nil
}

// finish compares the end with the head, and the tree's nodes with the table.
func (v *verifier) finish(ctx context.Context, tx *pgwire.Conn) error {
	if v.tree.Size != v.head.Size {
		return damage("entries", v.tree.Size, "entry is missing", fmt.Sprintf("%d entries", v.head.Size), strconv.FormatInt(v.tree.Size, 10))
	}
	if err := v.root("head", kept{v.head, ""}); err != nil {
		return err
	}
	for size := range v.published {
		return damage("checkpoints", -1, fmt.Sprintf("there is a checkpoint of %d entries", size), fmt.Sprintf("at most %d", v.head.Size), "")
	}
	for from := range v.changes {
		return damage("keys", -1, fmt.Sprintf("there is a change of the key at %d entries", from), fmt.Sprintf("at most %d", v.head.Size), "")
	}
	if err := v.checkTotals(); err != nil {
		return err
	}
	want := map[group.Node]bool{}
	for _, n := range v.nodes {
		want[n] = true
	}
	rows, err := tx.Query(ctx, "SELECT level, n, hash FROM "+v.l.cfg.Schema+".nodes")
	if err != nil {
		return err
	}
	var n group.Node
	var hash []byte
	err = pgwire.Each(rows, []any{&n.Level, &n.N, &hash}, func() error {
		if len(hash) == tlog.HashSize {
			n.Hash = tlog.Hash(hash)
		}
		if !want[n] {
			return damage("nodes", -1, fmt.Sprintf("hash %d of level %d is not that of the entries", n.N, n.Level), "", hex.EncodeToString(hash))
		}
		delete(want, n)
		return nil
	})
	if err != nil {
		return err
	}
	for n := range want {
		return damage("nodes", -1, fmt.Sprintf("hash %d of level %d is missing", n.N, n.Level), n.Hash.String(), "")
	}
	return nil
}

func damage(table string, index int64, reason, want, got string) error {
	return &audit.TamperError{Path: table, Index: index, Reason: reason, Want: want, Got: got}
}

// stored is a row with all its columns.
type stored struct {
	index                       int64
	id                          [16]byte
	leaf, line                  []byte
	time                        int64
	result                      int16
	agent, action               string
	user, subject, session, run *string
	trace                       *[16]byte
	span                        *int64
}

// differs names the first column that is not what the entry says.
func (s *stored) differs(e *audit.Entry) string {
	optional := func(p *string, want string) bool {
		if p == nil {
			return want == ""
		}
		return *p == escape(want) && want != ""
	}
	id, err := ulidOf(e.ID)
	trace, span := "", ""
	if s.trace != nil {
		trace = hex.EncodeToString(s.trace[:])
	}
	if s.span != nil {
		span = fmt.Sprintf("%016x", uint64(*s.span))
	}
	for _, c := range []struct {
		name string
		same bool
	}{
		{"id", err == nil && s.id == id}, {"time", s.time == e.Time.UnixNano()}, {"result", s.result == resultCode(e.Result)},
		{"agent", s.agent == escape(e.AgentID)}, {"action", s.action == escape(e.Action)},
		{"usr", optional(s.user, e.UserID)}, {"subject", optional(s.subject, e.Subject)},
		{"session", optional(s.session, e.SessionID)}, {"run", optional(s.run, e.RunID)},
		{"trace", trace == e.TraceID}, {"span", span == e.SpanID},
	} {
		if !c.same {
			return c.name
		}
	}
	return ""
}

func ulidOf(s string) ([16]byte, error) {
	id, err := ulid.ParseStrict(s)
	return id, err
}
