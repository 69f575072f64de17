package evidence

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// entries checks every entry and the proof, and gathers what the report says.
func (v *verifier) entries() error {
	var plain *lineReader
	if slices.ContainsFunc(v.m.Files, func(f file) bool { return f.Name == readableName }) != v.m.Revealed {
		return tampered(manifestName, -1, "and the files do not agree on what is revealed")
	}
	if v.m.Revealed {
		f, err := v.fsys.Open(readableName)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		plain = newLineReader(f, maxPlain)
	}
	return v.walk(plain)
}

// lineReader reads lines of bounded length.
type lineReader struct{ s *bufio.Scanner }

func newLineReader(r io.Reader, most int) *lineReader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), most)
	return &lineReader{s}
}

func (v *verifier) walk(plain *lineReader) (err error) {
	ef, err := v.fsys.Open(entriesName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ef.Close()) }()
	pf, err := v.fsys.Open(proofName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pf.Close()) }()
	proof, err := newProofReader(pf, v.m.Size)
	if err != nil {
		return tampered(proofName, -1, err.Error())
	}
	lines := bufio.NewScanner(ef)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		it, line, err := parseEntry(lines.Bytes())
		if err != nil {
			return err
		}
		it.own = v.own[it.Index]
		if err := v.entry(it, line, proof); err != nil {
			return err
		}
		shown := it
		if plain != nil {
			if shown, err = v.plain(it, plain); err != nil {
				return err
			}
		}
		v.tally.add(it, shown)
		if n := v.tally.entries; v.cfg.Progress != nil && n%1024 == 0 {
			v.cfg.Progress(n, v.m.Entries)
			if err := context.Cause(v.ctx); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return unreadable(entriesName, err)
	}
	return v.end(proof, plain)
}

// parseEntry reads a line of entries.jsonl, and gives the stored line back.
func parseEntry(text []byte) (item, []byte, error) {
	rest, ok := bytes.CutPrefix(text, []byte(`{"index":`))
	digits, rest, comma := bytes.Cut(rest, []byte(","))
	index, err := number(string(digits))
	if !ok || !comma || err != nil {
		return item{}, nil, tampered(entriesName, -1, "a line does not begin with an index")
	}
	line := append([]byte("{"), rest...)
	e, err := audit.DecodeLine(line)
	if err != nil {
		return item{}, nil, tampered(entriesName, index, "is not a stored line: "+err.Error())
	}
	e.Index = index
	return item{Entry: e}, line, nil
}

// entry compares one entry with the proof, and with what the pack claims of it.
func (v *verifier) entry(it item, line []byte, proof *proofReader) error {
	index, leaf, ok, err := proof.next()
	if err != nil {
		return tampered(proofName, -1, err.Error())
	}
	if !ok || index != it.Index {
		return tampered(entriesName, it.Index, "has no place in the proof: entries were added, removed or moved")
	}
	if got := tlog.RecordHash(line); got != leaf {
		return differs(entriesName, it.Index, "is not the entry that the proof is of", hex.EncodeToString(leaf[:]), hex.EncodeToString(got[:]))
	}
	if it.own {
		if !isOwn(&it.Entry) {
			return tampered(manifestName, it.Index, "calls an entry the ledger's own that is not")
		}
	} else if !v.m.Filter.admits(&it.Entry) {
		return tampered(entriesName, it.Index, "does not match what the manifest says was selected")
	}
	if want, ok := v.rotations[it.Index]; ok {
		if want != string(line) {
			return tampered(rotationsName, it.Index, "quotes another entry than the one at this index")
		}
		delete(v.rotations, it.Index)
	}
	return nil
}

// plain compares an entry in plain text with its stored line: whatever is not
// encrypted there must be the same.
func (v *verifier) plain(it item, lines *lineReader) (item, error) {
	if !lines.s.Scan() {
		if err := lines.s.Err(); err != nil {
			return it, unreadable(readableName, err)
		}
		return it, tampered(readableName, it.Index, "is missing")
	}
	var e audit.Entry
	if err := json.Unmarshal(lines.s.Bytes(), &e); err != nil {
		return it, tampered(readableName, it.Index, "is not an entry: "+err.Error())
	}
	same := e.Index == it.Index && e.ID == it.ID && e.Time.Equal(it.Time) && e.AgentID == it.AgentID && e.Action == it.Action &&
		e.Result == it.Result && e.SessionID == it.SessionID && e.RunID == it.RunID && e.TraceID == it.TraceID && e.SpanID == it.SpanID &&
		e.Parent == it.Parent && e.Severity == it.Severity
	if same && it.Subject == "" {
		a, errA := audit.EncodeLine(nil, e)
		b, errB := audit.EncodeLine(nil, it.Entry)
		same = errA == nil && errB == nil && bytes.Equal(a, b)
	}
	if !same {
		return it, tampered(readableName, it.Index, "differs from the proven entry in what is not encrypted")
	}
	return item{Entry: e, own: it.own}, nil
}

// end checks what comes after the last entry.
func (v *verifier) end(proof *proofReader, plain *lineReader) error {
	index, _, ok, err := proof.next()
	switch {
	case err != nil:
		return tampered(proofName, -1, err.Error())
	case ok:
		return tampered(entriesName, index, "is missing: the proof has it")
	case proof.tree.size != v.m.Size:
		return differs(proofName, -1, "ends early", strconv.FormatInt(v.m.Size, 10), strconv.FormatInt(proof.tree.size, 10))
	}
	if got := proof.tree.root(); got != tlog.Hash(v.head.Root) {
		return differs(proofName, -1, "does not lead to the root that was signed: an entry and its hash were changed together, or a node was",
			hex.EncodeToString(v.head.Root[:]), hex.EncodeToString(got[:]))
	}
	t := v.tally
	if t.entries != v.m.Entries || t.own != int64(len(v.own)) || t.first != v.m.First || t.last != v.m.Last {
		return differs(manifestName, -1, "counts other entries than there are",
			fmt.Sprintf("%d entries from %d to %d, %d own", v.m.Entries, v.m.First, v.m.Last, len(v.own)),
			fmt.Sprintf("%d entries from %d to %d, %d own", t.entries, t.first, t.last, t.own))
	}
	if v.m.Filter.empty() && t.entries != v.m.Size {
		// Entries that retention removed have no lines, and the ledger says so.
		if !v.prunedGaps() {
			return differs(proofName, -1, "has gaps, although the pack claims all entries", strconv.FormatInt(v.m.Size, 10), strconv.FormatInt(t.entries, 10))
		}
	}
	if plain != nil && plain.s.Scan() {
		return tampered(readableName, -1, "has more entries than the proof")
	}
	for index := range v.rotations {
		return tampered(rotationsName, index, "names a change of the key whose entry is not in the pack")
	}
	return nil
}

// prunedGaps reports whether the ledger says that entries were removed.
func (v *verifier) prunedGaps() bool {
	return slices.ContainsFunc(v.tally.notes, func(r row) bool { return r.action == actionPruned })
}

// derived makes what can be made again, and compares.
func (v *verifier) derived() error {
	var report bytes.Buffer
	if err := writeReport(&report, v.m, v.tally); err != nil {
		return err
	}
	for name, want := range map[string][]byte{readmeName: []byte(readme), reportName: report.Bytes()} {
		got, err := v.small(name, max(maxSmall, int64(len(want))))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return tampered(name, -1, "is not what the entries make of it")
		}
	}
	return nil
}
