package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

const actionErasure = systemPrefix + "erasure"

// Erasure asks to forget a subject.
type Erasure struct {
	// Subject is the name that entries had in Subject or UserID, or its token.
	Subject string
	// Reason and Authority say why, and on whose order. They stay in the ledger
	// in clear and must not contain the name.
	Reason, Authority string
	// DryRun says what would be erased, or which hold forbids it, and changes
	// nothing.
	DryRun bool
}

// ErasureReceipt says what an erasure covers.
type ErasureReceipt struct {
	// Found is unset if nothing is encrypted for that subject: it was erased
	// before, or never seen. The ledger cannot tell which, as it should be.
	Found bool
	// Token is what stands for the subject in the lines from now on.
	Token string
	// Entries is the number of entries with the subject or as the user, First
	// and Last the indexes of the first and last of them, -1 without any.
	Entries, First, Last int64
	// Clear is the number of entries that name the user in clear: those without
	// a subject, which erasure cannot change. The ledger does not note it.
	Clear int64
	// Time is when, and Receipt that of the entry that says all this.
	Time    time.Time
	Receipt Receipt
}

// erasure is what the receipt of an erasure says, as the key store keeps it
// until the ledger has it.
type erasure struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	Token     string    `json:"token"`
	Keys      []string  `json:"keys"`
	Entries   int64     `json:"entries"`
	First     int64     `json:"first"`
	Last      int64     `json:"last"`
	Reason    string    `json:"reason,omitempty"`
	Authority string    `json:"authority,omitempty"`
}

func (j *erasure) entry() Entry {
	return Entry{
		ID: j.ID, Time: j.Time, AgentID: systemAgent, Action: actionErasure, Result: Success,
		Details: withTexts(map[string]any{
			"token": j.Token, "keys": j.Keys, "entries": j.Entries, "first": j.First, "last": j.Last,
		}, j.Reason, j.Authority),
	}
}

// Erase makes what the ledger holds encrypted for a subject unreadable for
// good: in its own files, and in every copy of them. It destroys the subject's
// keys and the link from its token to its name, and the key under which the
// key store was written, so that older copies of that are useless too, unless
// they come with that key. Lines, hashes and proofs stay as they are. Then it
// records a receipt, which names the subject by its token alone.
//
// Entries about the same name that come later belong to a new subject. Erasing
// again does nothing. Errors are a [*HeldError] if a hold is on the subject or
// on one of its entries, an [*EntryError], and those of [Ledger.Append]. With
// [ErrNoSpace] and a result that says Found unset nothing has happened, and it can be asked again; with
// Found set, as with other errors after that, the keys were destroyed but the
// receipt could not be written: the next Erase or [Open] writes it.
func (l *Ledger) Erase(ctx context.Context, x Erasure) (ErasureReceipt, error) {
	return l.governor.Erase(ctx, x)
}

// Erase is [Ledger.Erase].
func (g *governor) Erase(ctx context.Context, x Erasure) (ErasureReceipt, error) {
	g.holds.change.Lock()
	defer g.holds.change.Unlock()
	r, err := g.erase(ctx, x)
	if err != nil {
		return r, fmt.Errorf("audit: erase: %w", err)
	}
	return r, nil
}

func (g *governor) erase(ctx context.Context, x Erasure) (ErasureReceipt, error) {
	if x.Subject == "" {
		return ErasureReceipt{}, &EntryError{Field: "subject", Reason: "missing"}
	}
	for _, j := range g.vault.unreceipted() { // of an earlier one, when the disk was full
		if x.DryRun {
			break
		}
		if _, err := g.appendErasure(context.WithoutCancel(ctx), j); err != nil {
			return ErasureReceipt{}, fmt.Errorf("the receipt of the erasure of %s, which has happened, still cannot be written: %w", j.Token, err)
		}
	}
	s := g.vault.find(x.Subject)
	if s == nil {
		return g.erasedBefore(ctx, x.Subject)
	}
	if err := checkTexts(x.Reason, x.Authority, s.name); err != nil {
		return ErasureReceipt{}, err
	}
	if err := g.heldSubject(ctx, s); err != nil {
		return ErasureReceipt{}, err
	}
	unsealed, err := g.stored.count(ctx, Query{UserID: s.name})
	if err != nil {
		return ErasureReceipt{}, err
	}
	if x.DryRun {
		j, err := g.prepareErasure(ctx, s, x)
		if err != nil {
			return ErasureReceipt{}, err
		}
		out := j.receipt(Receipt{Index: -1})
		out.Clear = unsealed
		return out, nil
	}
	j, err := g.vault.erase(s, func() (*erasure, error) { return g.prepareErasure(ctx, s, x) })
	if err != nil {
		return ErasureReceipt{}, err
	}
	// The keys are gone: the receipt must follow, whoever still waits for it.
	r, err := g.appendErasure(context.WithoutCancel(ctx), j)
	out := j.receipt(r)
	out.Clear = unsealed
	if err != nil {
		return out, fmt.Errorf("keys are destroyed, the receipt will be written by the next erasure, or when the ledger is opened again: %w", err)
	}
	return out, nil
}

func (j *erasure) receipt(r Receipt) ErasureReceipt {
	return ErasureReceipt{Found: true, Token: j.Token, Entries: j.Entries, First: j.First, Last: j.Last, Time: j.Time, Receipt: r}
}

// prepareErasure counts what is covered, once the entries on their way are in
// the ledger, and makes sure that the receipt can be written.
func (g *governor) prepareErasure(ctx context.Context, s *subject, x Erasure) (*erasure, error) {
	if err := g.ledger.Flush(ctx); err != nil {
		return nil, err
	}
	j := &erasure{ID: newID(), Time: time.Now().UTC(), Token: s.token, Reason: x.Reason, Authority: x.Authority, Keys: []string{}}
	for _, d := range s.keys {
		j.Keys = append(j.Keys, d.id)
	}
	if err := g.coverage(ctx, j); err != nil {
		return nil, err
	}
	_, err := EncodeLine(nil, j.entry())
	return j, err
}

// coverage fills in which entries have the token, as subject or as user.
func (g *governor) coverage(ctx context.Context, j *erasure) error {
	asSubject, asUser := Query{Subject: j.Token}, Query{UserID: j.Token}
	for _, part := range []struct {
		q    Query
		sign int64
	}{{asSubject, 1}, {asUser, 1}, {Query{Subject: j.Token, UserID: j.Token}, -1}} {
		n, err := g.stored.count(ctx, part.q)
		if err != nil {
			return err
		}
		j.Entries += part.sign * n
	}
	j.First, j.Last = math.MaxInt64, -1
	for _, q := range []Query{asSubject, asUser} {
		for _, q.Descending = range []bool{false, true} {
			q.Limit = 1
			for e, err := range g.stored.query(ctx, q) {
				if err != nil {
					return err
				}
				j.First, j.Last = min(j.First, e.Index), max(j.Last, e.Index)
			}
		}
	}
	if j.Last < 0 {
		j.First = -1
	}
	return nil
}

// erase destroys s. Prepare runs when nobody can use the keys any more; if it
// fails they can again.
func (v *vault) erase(s *subject, prepare func() (*erasure, error)) (*erasure, error) {
	v.disk.Lock()
	defer v.disk.Unlock()
	if err := v.ready(); err != nil {
		return nil, err
	}
	v.forget(s)
	j, err := prepare()
	if err != nil {
		v.remember(s)
		return nil, err
	}
	return j, v.destroy(s, j)
}

// appendErasure writes the receipt of j, at most once.
func (g *governor) appendErasure(ctx context.Context, j *erasure) (Receipt, error) {
	r, err := g.ledger.appendSystem(ctx, j.entry())
	if err != nil {
		return r, err
	}
	return r, g.vault.done(j.Token)
}

// erasedBefore answers for a subject that the key store does not know: with
// the receipt, if it is asked for by its token.
func (g *governor) erasedBefore(ctx context.Context, who string) (ErasureReceipt, error) {
	out := ErasureReceipt{First: -1, Last: -1}
	if !isToken(who) {
		var err error
		out.Clear, err = g.stored.count(ctx, Query{UserID: who})
		return out, err
	}
	err := systemEntries(ctx, g.stored, actionErasure, 0, func(e *Entry) error {
		if e.Details["token"] != who {
			return nil
		}
		out.Found, out.Token, out.Time = true, who, e.Time
		if first, ok := e.Details[timeKey].(string); ok { // the receipt was repeated by retention
			out.Time, _ = parseTime(first)
		}
		out.Entries, out.First, out.Last = number(e.Details["entries"]), number(e.Details["first"]), number(e.Details["last"])
		p, err := g.stored.prove(e.Index)
		out.Receipt = Receipt{Index: e.Index, ID: e.ID, LeafHash: merkle.HashLeaf(p.Line), Checkpoint: g.ledger.Checkpoint(), Duplicate: true}
		return err
	})
	return out, err
}

func number(v any) int64 {
	n, ok := v.(json.Number)
	if !ok {
		return -1
	}
	i, err := n.Int64()
	if err != nil {
		return -1
	}
	return i
}

// erasedTokens are those that the entries from index after on call erased.
func erasedTokens(ctx context.Context, s entries, after int64) ([]string, error) {
	var tokens []string
	err := systemEntries(ctx, s, actionErasure, after, func(e *Entry) error {
		if token, _ := e.Details["token"].(string); isToken(token) {
			tokens = append(tokens, token)
		}
		return nil
	})
	return tokens, err
}

// resume brings key store and ledger together after an open: erasures that a
// crash interrupted get their receipt, and what an older copy of the key store
// brought back is destroyed again.
func (g *governor) resume(ctx context.Context) error {
	if err := g.holds.load(ctx, g.stored, 0); err != nil {
		return err
	}
	tokens, err := erasedTokens(ctx, g.stored, 0)
	if err != nil {
		return err
	}
	if back := g.vault.learnErased(tokens); len(back) > 0 {
		g.vault.log.Warn("audit ledger: the key store is older than an erasure; destroying its keys again", "subjects", len(back))
		if err := g.vault.restate(); err != nil {
			return err
		}
	}
	for _, j := range g.vault.unreceipted() {
		g.vault.log.Warn("audit ledger: writing the receipt of an erasure that was interrupted", "token", j.Token)
		if _, err := g.appendErasure(ctx, j); err != nil {
			return err
		}
	}
	return nil
}
