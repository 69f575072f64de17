package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// Verify reads every object anew and checks it: lines, chain of batches, signed
// checkpoints, everything that is derived from the batches, and that no object
// has an older version or a marker of a removal. It returns a report, a
// [*audit.TamperError] whose Path is the object, or the error that kept it from
// reading.
func (l *Ledger) Verify(ctx context.Context, cfg audit.VerifyConfig) (audit.Report, error) {
	report, err := l.verify(ctx, cfg)
	if err != nil {
		return audit.Report{}, wrap("verify", err)
	}
	return report, nil
}

// verifier reads the ledger from its first batch on, as another process would,
// and gathers what must be in the derived objects.
type verifier struct {
	*Ledger
	want  map[string]string  // SHA-256 of derived objects, by name
	known map[int64][]string // names of checkpoints, by size
	chunk hash.Hash          // of the batches since the last chunk
}

func (l *Ledger) verify(ctx context.Context, cfg audit.VerifyConfig) (audit.Report, error) {
	var none audit.Report
	if err := l.Usable(ctx); err != nil {
		return none, err
	}
	vkey := l.VerifierKey() // before the batches are read, which may have another from now on
	again := &Ledger{cfg: l.cfg, bucket: l.bucket, keys: group.ReadOnly(vkey), ctx: ctx}
	again.state.init()
	if err := again.readIdentity(ctx); errors.Is(err, errAbsent) {
		return none, &audit.TamperError{Path: ledgerName, Index: -1, Reason: "object is missing"}
	} else if err != nil {
		return none, err
	}
	v := verifier{Ledger: again, want: map[string]string{}, known: map[int64][]string{}, chunk: sha256.New()}
	if err := v.listCheckpoints(ctx); err != nil {
		return none, err
	}
	v.step.Lock()
	defer v.step.Unlock()
	if err := v.batches(ctx, cfg.Progress, l); err != nil {
		return none, err
	}
	for _, trusted := range []string{cfg.Key, vkey} {
		if trusted != "" && !v.keys.Trusts(trusted) {
			return none, &audit.TamperError{Path: ledgerName, Index: -1, Reason: "signed with another key than the trusted one", Want: trusted, Got: v.keys.VerifierKey()}
		}
	}
	if err := v.checkDerived(ctx); err != nil {
		return none, err
	}
	p, err := v.pointer(ctx)
	if err == nil {
		err = v.complete(ctx, p)
	}
	if err == nil {
		err = v.checkVersions(ctx)
	}
	if err != nil {
		return none, err
	}
	held := []string{string(cfg.Checkpoint), l.Head().Note}
	for _, c := range cfg.Checkpoints {
		held = append(held, c.Note)
	}
	for _, text := range held {
		if text != "" {
			if err := v.consistent(ctx, text); err != nil {
				return none, err
			}
		}
	}
	head := v.Head()
	report := audit.Report{Origin: l.Origin(), Key: v.keys.VerifierKey(), Checkpoint: head, Entries: head.Size, Segments: int(v.state.next), Clean: true}
	report.Bytes = v.state.view().total().Bytes
	return report, nil
}

// batches reads them all; packed ones too, for they are what was signed first.
func (v *verifier) batches(ctx context.Context, progress func(done, total int64), l *Ledger) error {
	for n := int64(0); ; n++ {
		body, err := v.bucket.get(ctx, numbered(batchPrefix, n))
		if errors.Is(err, errAbsent) {
			return nil
		}
		var list []derived
		if err == nil {
			list, err = v.absorb(n, body)
		}
		if err == nil {
			err = v.note(n, body, list)
		}
		if err == nil {
			err = v.compare(ctx)
		}
		if err != nil {
			return err
		}
		if size := v.Head().Size; progress != nil {
			progress(size, max(size, l.Size()))
		}
	}
}

// note takes note of what follows from a batch.
func (v *verifier) note(n int64, body []byte, list []derived) error {
	for _, d := range list {
		sum := sha256.Sum256(d.body)
		v.want[d.name] = hex.EncodeToString(sum[:])
	}
	v.chunk.Write(body)
	if (n+1)%v.cfg.chunkLen != 0 {
		return nil
	}
	k := n / v.cfg.chunkLen
	v.want[numbered(chunkPrefix, k)] = hex.EncodeToString(v.chunk.Sum(nil))
	v.chunk.Reset()
	line, err := v.snapshotJSON()
	sum := sha256.Sum256(line)
	v.want[numbered(statePrefix, k+1)] = hex.EncodeToString(sum[:])
	return err
}

// listCheckpoints finds the checkpoints that were stored.
func (v *verifier) listCheckpoints(ctx context.Context) error {
	for _, prefix := range []string{checkpointPrefix, cosignedPrefix} {
		all, err := v.bucket.list(ctx, prefix, "")
		if err != nil {
			return err
		}
		for _, o := range all {
			size, ok := number(prefix, o.name)
			if !ok {
				return &audit.TamperError{Path: o.name, Index: -1, Reason: "does not belong in a ledger"}
			}
			v.known[size] = append(v.known[size], o.name)
		}
	}
	return nil
}

// compare checks the stored checkpoints of the present size.
func (v *verifier) compare(ctx context.Context) error {
	head := v.Head()
	for _, name := range v.known[head.Size] {
		body, err := v.bucket.get(ctx, name)
		if err != nil {
			return err
		}
		c, err := v.keys.Open(string(body))
		if err != nil || c.Size != head.Size {
			return &audit.TamperError{Path: name, Index: -1, Reason: "checkpoint is not as it was signed"}
		}
		if c.Root != head.Root {
			return &audit.TamperError{
				Path: name, Index: -1, Reason: fmt.Sprintf("the first %d entries are not those that were signed", c.Size),
				Want: fmt.Sprintf("root %x", c.Root), Got: fmt.Sprintf("%x", head.Root),
			}
		}
	}
	delete(v.known, head.Size)
	return nil
}

// checkDerived compares every derived object with what follows from the batches.
// One that is missing can be made again.
func (v *verifier) checkDerived(ctx context.Context) error {
	for size, names := range v.known {
		if size <= v.Head().Size {
			return &audit.TamperError{Path: names[0], Index: -1, Reason: "no batch ends there"}
		}
	}
	for _, prefix := range []string{tilePrefix, pagePrefix, chunkPrefix, statePrefix} {
		all, err := v.bucket.list(ctx, prefix, "")
		if err != nil {
			return err
		}
		for _, o := range all {
			want, ok := v.want[o.name]
			if !ok && v.newer(o.name) {
				continue // stored since
			}
			sum, err := v.derivedSum(ctx, o.name, prefix == statePrefix && ok)
			if err != nil {
				return err
			}
			if got := hex.EncodeToString(sum[:]); got != want {
				return &audit.TamperError{Path: o.name, Index: -1, Reason: "object is not what follows from the entries", Want: want, Got: got}
			}
		}
	}
	return nil
}

// derivedSum is the hash of a derived object, without the seal if it has one. A
// chunk is not read into memory for it.
func (v *verifier) derivedSum(ctx context.Context, name string, sealed bool) (sum [sha256.Size]byte, err error) {
	if !sealed {
		return v.bucket.sum(ctx, name)
	}
	body, err := v.bucket.get(ctx, name)
	if err != nil {
		return sum, err
	}
	if body, err = v.unseal(name, body); err != nil {
		return sum, &audit.TamperError{Path: name, Index: -1, Reason: "state is not as it was sealed: " + err.Error()}
	}
	return sha256.Sum256(body), nil
}

// newer reports whether a derived object is of entries that were appended since
// the batches were read.
func (v *verifier) newer(name string) bool {
	if k, ok := number(chunkPrefix, name); ok {
		return k >= v.state.next/v.cfg.chunkLen
	}
	if k, ok := number(statePrefix, name); ok {
		return k > v.state.next/v.cfg.chunkLen
	}
	var level int
	var n int64
	if _, err := fmt.Sscanf(name, tilePrefix+"%d/%d", &level, &n); err == nil && level >= 0 && level < 8 {
		return name == leveled(tilePrefix, level, n) && n >= v.Head().Size>>(8*(level+1))
	}
	if _, err := fmt.Sscanf(name, pagePrefix+"%d/%d", &level, &n); err == nil && level > 0 && level < 8 {
		span := v.cfg.chunkLen
		for range level {
			span *= int64(v.cfg.fan)
		}
		return name == leveled(pagePrefix, level, n) && n+span > v.state.next
	}
	return false
}

// unseal checks the seal of a state by any of the ledger's keys, and returns what
// is sealed.
func (v *verifier) unseal(name string, body []byte) ([]byte, error) {
	line, seal, _ := bytes.Cut(body, []byte("\n"))
	line = append(line[:len(line):len(line)], '\n')
	k, _ := number(statePrefix, name)
	err := errors.New("no key")
	for _, key := range v.keys.VerifierKeys() {
		if err = group.CheckSeal(string(seal), sealed(k), sha256.Sum256(line), key); err == nil {
			break
		}
	}
	if err == nil && !json.Valid(line) {
		err = errors.New("not JSON")
	}
	return line, err
}

// checkVersions looks for objects that were removed or replaced: in a bucket
// with versions they leave traces.
func (l *Ledger) checkVersions(ctx context.Context) error {
	all, err := l.bucket.versions(ctx, "")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, o := range all {
		if o.name == latestName {
			continue // it is replaced
		}
		switch {
		case o.deleted:
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "object was removed: there is a delete marker"}
		case seen[o.name]:
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "object was replaced: it has several versions"}
		}
		seen[o.name] = true
	}
	return nil
}
