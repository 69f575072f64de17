package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// identify reads ledger.json, and writes it if there is no ledger.
func (l *Ledger) identify(ctx context.Context) error {
	err := l.readIdentity(ctx)
	if !errors.Is(err, errAbsent) {
		return err
	}
	_, err = l.bucket.get(ctx, numbered(batchPrefix, 0))
	if err == nil { // a new one could name another key than the first
		return &audit.TamperError{Path: ledgerName, Index: -1, Reason: "object is missing, there are batches"}
	}
	if !errors.Is(err, errAbsent) {
		return err
	}
	if _, err := l.bucket.create(ctx, ledgerName, identityJSON(l.keys.Origin(), l.keys.VerifierKey())); err != nil {
		return err
	}
	return l.readIdentity(ctx)
}

// readIdentity reads ledger.json and compares it.
func (l *Ledger) readIdentity(ctx context.Context) error {
	have, err := l.bucket.get(ctx, ledgerName)
	if err != nil {
		return err
	}
	var id identity
	if json.Unmarshal(have, &id) != nil || string(have) != string(identityJSON(id.Origin, id.Key)) {
		return &audit.TamperError{Path: ledgerName, Index: -1, Reason: "not in its form"}
	}
	if id.Origin != l.keys.Origin() {
		want := identityJSON(l.keys.Origin(), l.keys.VerifierKey())
		return fmt.Errorf("%w: ledger.json is %s, want %s", ErrKey, strings.TrimSpace(string(have)), strings.TrimSpace(string(want)))
	}
	l.first = id.Key
	l.keys.Begin(id.Key)
	return nil
}

// load reads the newest state that is stored, and the batches after it. Then it
// makes sure that nothing is known of more than that. The number of requests does
// not depend on the size of the ledger.
func (l *Ledger) load(ctx context.Context) error {
	l.step.Lock()
	defer l.step.Unlock()
	p, err := l.pointer(ctx)
	if err != nil {
		return err
	}
	if err := l.loadState(ctx, p.State); err != nil {
		return err
	}
	if err := l.replay(ctx, true); err != nil {
		return err
	}
	if err := l.keys.Settle(); err != nil {
		return err
	}
	return l.complete(ctx, p)
}

// loadState restores the newest state, which is the one that the pointer names or
// one of the next. One that is damaged is no reason to fail: an older one, or
// none, does as well, and Verify reports it.
func (l *Ledger) loadState(ctx context.Context, hint int64) error {
	starts := []string{""}
	if hint > 0 {
		starts = []string{numbered(statePrefix, hint-1), ""}
	}
	for _, start := range starts {
		all, err := l.bucket.list(ctx, statePrefix, start)
		if err != nil {
			return err
		}
		if len(all) == 0 && start != "" { // a listing may be stale
			all = []object{{name: numbered(statePrefix, hint)}}
		}
		for _, o := range slices.Backward(all) {
			if done, err := l.tryState(ctx, o.name); done || err != nil {
				return err
			}
		}
	}
	return nil
}

// tryState begins at the state in an object, if that is whole.
func (l *Ledger) tryState(ctx context.Context, name string) (bool, error) {
	k, ok := number(statePrefix, name)
	if !ok {
		return false, nil
	}
	body, err := l.bucket.get(ctx, name)
	if errors.Is(err, errAbsent) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s, keys, err := openSnapshot(body, k, l.cfg.chunkLen, l.first)
	if err != nil {
		l.cfg.Logger.Error("s3: state is not used", "object", name, "error", err)
		return false, nil
	}
	for _, c := range keys.Changes() {
		if err := l.keys.Learn(c); err != nil {
			return false, err
		}
	}
	l.stored.Store(k)
	return true, l.restore(s)
}

// replay takes in one batch after the other until there is none: a listing could
// be stale. What is derived from them is made again if it may be lost.
func (l *Ledger) replay(ctx context.Context, lost bool) error {
	for {
		n := l.state.next
		body, err := l.bucket.get(ctx, numbered(batchPrefix, n))
		if errors.Is(err, errAbsent) {
			return nil
		}
		if err != nil {
			return err
		}
		list, err := l.absorb(n, body)
		if err != nil {
			return err
		}
		if !lost { // its writer stores them; without a page this process would be blind
			l.pending.add(slices.DeleteFunc(list, func(d derived) bool { return !strings.HasPrefix(d.name, pagePrefix) }))
			continue
		}
		if list, err = l.derive(list, n+1); err != nil && !errors.Is(err, group.ErrKey) {
			return err
		}
		l.pending.add(list)
	}
}

// catchUp takes in the batches that others have stored.
func (l *Ledger) catchUp(ctx context.Context) error {
	if err := l.Usable(ctx); err != nil {
		return err
	}
	l.step.Lock()
	err := l.replay(ctx, false)
	l.step.Unlock()
	if err != nil {
		return err
	}
	// A process that appends nothing would hold the pages of others for ever.
	if err := l.storePending(ctx, false); err != nil {
		l.cfg.Logger.Warn("s3: "+notStored, "error", err)
	}
	return nil
}

// complete looks for signs that the end of the ledger was removed: a later
// batch, a pointer or a checkpoint beyond it.
func (l *Ledger) complete(ctx context.Context, p latest) error {
	last := numbered(batchPrefix, l.state.next)
	later, err := l.bucket.list(ctx, batchPrefix, last)
	if err != nil {
		return err
	}
	for _, o := range later {
		if n, ok := number(batchPrefix, o.name); !ok || n > l.state.next {
			// It may have been stored a moment ago.
			if err := l.replay(ctx, false); err != nil {
				return err
			}
			if n >= l.state.next {
				return &audit.TamperError{Path: last, Index: l.state.head.Size, Reason: "batch is missing, there are later ones", Got: o.name}
			}
		}
	}
	newest, err := l.newestCheckpoint(ctx)
	if err != nil {
		return err
	}
	for _, text := range []string{p.Note, newest} {
		if text == "" {
			continue
		}
		if err := l.consistent(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// latest is the object that says how far the ledger went when it was written.
type latest struct {
	Batch int64  `json:"batch"`
	Note  string `json:"note"`
	// State is the newest that was stored then.
	State int64 `json:"state"`
}

func (l *Ledger) pointer(ctx context.Context) (p latest, err error) {
	body, err := l.bucket.get(ctx, latestName)
	if errors.Is(err, errAbsent) {
		return p, nil
	}
	if err == nil && json.Unmarshal(body, &p) != nil {
		err = &audit.TamperError{Path: latestName, Index: -1, Reason: "not in its form"}
	}
	return p, err
}

func (l *Ledger) newestCheckpoint(ctx context.Context) (string, error) {
	all, err := l.bucket.list(ctx, checkpointPrefix, numbered(checkpointPrefix, max(0, l.state.head.Size-1)))
	if err != nil || len(all) == 0 {
		return "", err
	}
	body, err := l.bucket.get(ctx, all[len(all)-1].name)
	if errors.Is(err, errAbsent) {
		return "", nil
	}
	return string(body), err
}

// consistent checks that a signed checkpoint is one of this history. The caller
// holds step.
func (l *Ledger) consistent(ctx context.Context, text string) error {
	c, err := l.keys.Open(text)
	if err != nil || c.Size > l.state.head.Size {
		// Another process may have stored it since, under another key even.
		head := l.state.head.Size
		if err := l.replay(ctx, false); err != nil {
			return err
		}
		if c, err = l.keys.Open(text); err != nil {
			return &audit.TamperError{Path: checkpointPrefix, Index: -1, Reason: "a checkpoint is not as it was signed: " + err.Error()}
		}
		if c.Size > l.state.head.Size {
			return &audit.TamperError{
				Path: batchPrefix, Index: head, Reason: "ledger is older than a checkpoint of it that is known",
				Want: fmt.Sprintf("%d entries", c.Size), Got: fmt.Sprint(head),
			}
		}
	}
	if c.Size == 0 {
		return nil
	}
	v := l.state.view()
	root := tlog.Hash(v.head.Root)
	if c.Size < v.head.Size {
		if root, err = tlog.TreeHash(c.Size, l.hashes(ctx, &v)); err != nil {
			return err
		}
	}
	if c.Root != [32]byte(root) {
		return &audit.TamperError{
			Path: checkpointPrefix, Index: -1, Reason: fmt.Sprintf("the first %d entries are not those that were signed", c.Size),
			Want: fmt.Sprintf("root %x", c.Root), Got: fmt.Sprintf("%x", root),
		}
	}
	return nil
}

// hashes reads the hashes of a moment, checked against its root.
func (l *Ledger) hashes(ctx context.Context, v *view) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: v.head.Size, Hash: v.head.Root}, tiles{l, ctx, v})
}
