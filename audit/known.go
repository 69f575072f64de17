package audit

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// known is the checkpoints of a ledger that somebody kept, to be compared with
// its tree as that grows. The zero value knows none.
type known struct {
	list []knownCheckpoint // by size
	next int
}

type knownCheckpoint struct {
	Checkpoint
	source string
}

// add takes in a checkpoint, before the first comparison. It returns an error
// if two checkpoints of one size have different roots: the ledger's key signed
// two histories, whichever of them this one is.
func (k *known) add(c Checkpoint, source string) error {
	if c.Size == 0 && c.Root != merkle.EmptyRoot() {
		return splitView(knownCheckpoint{c, source}, knownCheckpoint{Checkpoint{Root: merkle.EmptyRoot()}, "the empty ledger"})
	}
	at, _ := slices.BinarySearchFunc(k.list, c.Size, func(have knownCheckpoint, size int64) int { return int(min(1, max(-1, have.Size-size))) })
	if at < len(k.list) && k.list[at].Size == c.Size {
		if k.list[at].Root != c.Root {
			return splitView(knownCheckpoint{c, source}, k.list[at])
		}
		return nil
	}
	k.list = slices.Insert(k.list, at, knownCheckpoint{c, source})
	return nil
}

// due reports whether a checkpoint of that size is known.
func (k *known) due(size int64) bool {
	return k.next < len(k.list) && k.list[k.next].Size <= size
}

// reached compares the root of the tree with the checkpoint of its size.
func (k *known) reached(size int64, root func() merkle.Hash) error {
	for ; k.due(size); k.next++ {
		c := k.list[k.next]
		if c.Size < size {
			continue
		}
		if got := root(); got != c.Root {
			return &TamperError{
				Path: checkpointName, Index: -1, Want: fmt.Sprintf("root %x", c.Root), Got: fmt.Sprintf("%x", got),
				Reason: fmt.Sprintf("fork: the first %d entries are not those of the signed checkpoint in %s", c.Size, c.source),
			}
		}
	}
	return nil
}

// beyond reports a checkpoint of more entries than there are. An archive ends
// before the newest entries, and may have been made after the key was changed.
func (k *known) beyond(size int64, archive bool) error {
	list := slices.DeleteFunc(slices.Clone(k.list), func(c knownCheckpoint) bool { return archive && c.source == rotationsName })
	if len(list) == 0 || list[len(list)-1].Size <= size {
		return nil
	}
	c := list[len(list)-1]
	return &TamperError{
		Path: checkpointName, Index: size, Want: strconv.FormatInt(c.Size, 10) + " entries", Got: strconv.FormatInt(size, 10),
		Reason: "rollback: ledger is older than a checkpoint of it that is known, in " + c.source,
	}
}

// splitView names two signed checkpoints that cannot both be of one history.
func splitView(a, b knownCheckpoint) error {
	return &TamperError{
		Path: checkpointName, Index: -1, Want: fmt.Sprintf("root %x", a.Root), Got: fmt.Sprintf("%x", b.Root),
		Reason: fmt.Sprintf("split view: the checkpoints in %s and %s are both signed, of %d entries, and have different roots", a.source, b.source, a.Size),
	}
}

// remember takes in the checkpoints that the auditor holds, and those of the
// ledger's own history.
func (v *verifier) remember(spans []keySpan) error {
	v.known = known{}
	held := v.cfg.Checkpoints
	if v.cfg.Checkpoint != nil {
		held = append([]Remembered{{string(v.cfg.Checkpoint), "the auditor's hands"}}, held...)
	}
	for _, h := range held {
		c, err := parseSpans([]byte(h.Note), spans, parseCheckpoint)
		if err != nil {
			return &TamperError{Path: ledgerName, Index: -1, Got: spans[0].vkey, Reason: "the checkpoint in " + h.Source + " is not signed with this ledger's key: " + err.Error()}
		}
		if err := v.known.add(c, h.Source); err != nil {
			return err
		}
	}
	for _, r := range v.rotations {
		c, err := parseCheckpoint([]byte(r.note), r.vkey)
		if err == nil {
			err = v.known.add(c, rotationsName)
		}
		if err != nil {
			return err
		}
	}
	var err error
	if v.history, err = historyOf(v.fsys, v.dir, spans); err != nil {
		return err
	}
	v.claims.marks = v.history.marks
	for _, c := range v.history.list {
		if err := v.known.add(c, historyName); err != nil {
			return err
		}
	}
	return v.known.reached(0, v.tree.Root)
}

// checkHistory wants a history, but for an archive and a ledger of the version
// without, and compares the end of that of a closed ledger with its checkpoint:
// Close has written it there.
func (v *verifier) checkHistory(clean bool) error {
	archive := len(v.files.bases) == 0
	if v.version == oldVersion && len(v.manifest.records) > 0 {
		return &TamperError{Path: ledgerName, Index: -1, Reason: "version without sealed segments, and there are some"}
	}
	have := int64(len(v.history.list))
	if v.history.absent {
		have = -1
	}
	if err := lostHistory(have, v.checkpoint.Size); err != nil {
		if v.version == oldVersion || archive && v.history.absent {
			return nil
		}
		return err
	}
	if clean && have == 0 {
		return &TamperError{Path: historyName, Index: -1, Reason: "file is empty: the checkpoint of the closed ledger is not there"}
	}
	if clean && (v.history.torn || v.history.list[have-1].Size != v.checkpoint.Size) {
		return &TamperError{Path: historyName, Index: -1, Reason: "the newest checkpoint is not there: lines were removed from its end"}
	}
	return nil
}
