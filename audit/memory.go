package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strings"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// The signer's memory is a file beside the key, and so out of reach of whoever
// restores or replaces the ledger's directory: the newest checkpoint that was
// published. Open refuses a ledger that is older, or of another history.

// memoryPath is where the memory of the ledger in dir lies.
func memoryPath(dir, keyDir string) string {
	return strings.TrimSuffix(keyPath(dir, keyDir), ".key") + memoryExt
}

// memoryExt stands in the place of the key's ".key".
const memoryExt = ".last"

// actionRestored is the entry that records a deliberate restore.
const actionRestored = "ledger.restored"

// remembered reads the memory; ok is false if there is none.
func remembered(fsys durable.FS, dir, keyDir string) (c Checkpoint, ok bool, err error) {
	name := memoryPath(dir, keyDir)
	b, err := durable.ReadFile(fsys, name, maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	spans, err := knownKeys(fsys, keyPath(dir, keyDir))
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil // no key to have signed with: of a ledger that is gone
	}
	if err == nil {
		c, err = parseSpans(b, spans, parseOwnCheckpoint)
	}
	if err != nil {
		return c, false, &TamperError{Path: name, Index: -1, Reason: "the memory of what was signed is damaged: " + err.Error()}
	}
	return c, true, nil
}

// knownKeys are the public keys of the key files at name.
func knownKeys(fsys durable.FS, name string) ([]keySpan, error) {
	s, err := loadSigner(fsys, name)
	if err != nil {
		return nil, err
	}
	spans := []keySpan{{s.vkey, math.MaxInt64}}
	for _, ext := range []string{oldKeyExt, nextKeyExt} {
		other, err := loadSigner(fsys, name+ext)
		switch {
		case err == nil:
			spans = append(spans, keySpan{other.vkey, math.MaxInt64})
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return spans, nil
}

// oldKeyExt is appended to the name of a key that was replaced.
const oldKeyExt = ".old"

// checkRollback compares what is in dir with the memory before anything is
// changed. It finds a ledger that is older; another history shows when the
// entries have been read, see checkFork.
func checkRollback(dir string, cfg Config) (Checkpoint, error) {
	memory, ok, err := remembered(cfg.fsys, dir, cfg.KeyDir)
	if err != nil || !ok || memory.Size == 0 {
		return Checkpoint{}, err
	}
	_, published, err := identity(cfg.fsys, dir)
	if errors.Is(err, fs.ErrNotExist) || isTamper(err) && noLedger(cfg.fsys, dir) {
		published, err = Checkpoint{}, nil // removed, or begun anew under the old name
	}
	if err != nil {
		return Checkpoint{}, err
	}
	if published.Size < memory.Size && !cfg.AcceptRestored {
		return memory, restoreError(rollback(published.Size, memory.Size))
	}
	return memory, nil
}

// noLedger reports whether dir has no ledger.json.
func noLedger(fsys durable.FS, dir string) bool {
	_, err := stat(fsys, filepath.Join(dir, ledgerName))
	return errors.Is(err, fs.ErrNotExist)
}

// restoreError says what to do about a ledger that is not the remembered one.
func restoreError(err error) error {
	return fmt.Errorf("%w; if a backup was restored on purpose, open it once with AcceptRestored (kaizen audit accept-restore), which is recorded", err)
}

// checkFork compares the opened ledger with the memory, and records a restore
// that was accepted. It runs before anybody can append.
func (l *Ledger) checkFork(memory Checkpoint) error {
	if memory.Note == "" {
		return nil
	}
	_, err := l.store.proveConsistency([]byte(memory.Note), l.store.checkpoint())
	if err == nil || !isTamper(err) {
		return err
	}
	if !l.cfg.AcceptRestored {
		return restoreError(err)
	}
	l.restored = &memory
	return nil
}

// recordRestore appends the entry about a restore that checkFork accepted. Until
// it is durable nothing is published, which would replace the memory: a crash
// leaves either the entry, or a ledger that is refused again.
func (l *Ledger) recordRestore(ctx context.Context) error {
	if l.restored == nil && !l.historyLost {
		return nil
	}
	have := l.store.checkpoint()
	details := map[string]any{"size": have.Size, "root": hex.EncodeToString(have.Root[:])}
	if lost := l.restored; lost != nil {
		details["remembered_size"], details["remembered_root"] = lost.Size, hex.EncodeToString(lost.Root[:])
		l.cfg.Logger.Warn("audit ledger was restored to another state than the one that was signed last", "dir", l.store.dir, "entries", have.Size, "remembered", lost.Size)
	}
	if l.historyLost {
		details[historyKey] = historyLostValue
		l.cfg.Logger.Warn("audit ledger goes on without the history of checkpoints that it had", "dir", l.store.dir)
	}
	_, err := l.appendRaw(ctx, []Entry{{AgentID: systemAgent, Action: actionRestored, Result: Success, Details: details}})
	if err != nil {
		return err
	}
	l.keeper.held.Store(false)
	if l.historyLost {
		return l.outward.beginHistory()
	}
	return nil
}

// historyKey is, in the details of entries of the ledger's own, how far the
// history had come, or that it was lost.
const (
	historyKey       = "history"
	historyLostValue = "lost"
)

// findHistory opens the history. If it is gone the ledger is opened only as a
// restored one, and with a history that is owed until the entry about that is
// durable: a crash before leaves none, so the next Open refuses again.
func (l *Ledger) findHistory(spans []keySpan, crashed bool) (*history, error) {
	fsys, dir := l.cfg.fsys, l.store.dir
	have, err := historySize(fsys, dir)
	if err != nil {
		return nil, err
	}
	published, _ := l.recovered["after_checkpoint"].(int64)
	if lost := lostHistory(have, published); lost != nil {
		if !l.cfg.AcceptRestored {
			return nil, restoreError(lost)
		}
		l.historyLost = true
		return &history{}, nil
	}
	h, err := openHistory(fsys, dir, spans, crashed)
	if err != nil || !l.cfg.AcceptRestored {
		return h, err
	}
	if l.historyLost, err = l.unrecordedLoss(h, spans); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// unrecordedLoss finds a history that was made anew and is not in the ledger:
// older versions began it before they wrote the entry.
func (l *Ledger) unrecordedLoss(h *history, spans []keySpan) (bool, error) {
	first, err := h.firstSize(spans)
	if size := l.store.checkpoint().Size; err != nil || first <= 0 || first+1 < size {
		return false, err
	}
	for e, err := range l.store.query(context.Background(), Query{AgentID: systemAgent, Action: actionRestored, Descending: true}) {
		return err == nil && (e.Details[historyKey] != historyLostValue || e.Index+1 < first), err
	}
	return true, nil
}

// rememberSigned keeps a published checkpoint in the memory. It is called by
// the keeper, at most once a second. A failure is logged and counted, and does
// not stop the ledger: the memory is then older than it could be.
func (l *Ledger) rememberSigned(c Checkpoint) {
	err := durable.ReplaceFile(l.cfg.fsys, memoryPath(l.store.dir, l.cfg.KeyDir), []byte(c.Note))
	if err != nil && l.memoryFailures.Add(1) == 1 {
		l.cfg.Logger.Error("audit ledger cannot remember what it has signed: a rollback may go unnoticed", "dir", l.store.dir, "error", err)
	}
}
