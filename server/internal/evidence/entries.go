package evidence

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// The ledger's own entries, which say what was done to it.
const (
	systemAgent  = "kaizen"
	systemPrefix = "ledger."

	actionErasure  = systemPrefix + "erasure"
	actionHold     = systemPrefix + "hold"
	actionRelease  = systemPrefix + "release"
	actionRotation = systemPrefix + "key_rotation"
	actionPruned   = systemPrefix + "pruned"
	actionRestored = systemPrefix + "restored"
)

// notedActions are those that an auditor has to know about. Releases come after
// the holds that they end.
var notedActions = []string{actionHold, actionRelease, actionErasure, actionRotation, actionPruned, actionRestored}

func noted(action string) bool { return slices.Contains(notedActions, action) }

func isOwn(e *audit.Entry) bool {
	return e.AgentID == systemAgent && strings.HasPrefix(e.Action, systemPrefix)
}

// ownEntries finds the ledger's own entries that a reader of the pack must know:
// erasures and holds that touch what q selects, and whatever concerns the whole
// ledger. They are few, and kept in memory.
func ownEntries(ctx context.Context, src Source, q audit.Query, size int64) ([]audit.Entry, error) {
	var out []audit.Entry
	held := map[string]bool{} // ids of holds that touch
	for _, action := range notedActions {
		for e, err := range src.Query(ctx, audit.Query{AgentID: systemAgent, Action: action, Stored: true}) {
			if err != nil {
				return nil, fmt.Errorf("evidence: %s: %w", action, err)
			}
			if e.Index >= size {
				break
			}
			touches, err := touches(ctx, src, q, &e, held)
			if err != nil {
				return nil, err
			}
			if touches {
				out = append(out, e)
			}
		}
	}
	slices.SortFunc(out, func(a, b audit.Entry) int { return cmp.Compare(a.Index, b.Index) })
	return out, nil
}

// touches reports whether what the ledger says in e concerns an entry that q
// selects.
func touches(ctx context.Context, src Source, q audit.Query, e *audit.Entry, held map[string]bool) (bool, error) {
	text := func(name string) string {
		s, _ := e.Details[name].(string)
		return s
	}
	switch e.Action {
	case actionHold:
		n, err := overlap(ctx, src, q, audit.Query{
			AgentID: text("agent_id"), UserID: text("user_id"), Subject: text("subject"), SessionID: text("session_id"), RunID: text("run_id"),
			TraceID: text("trace_id"), Since: timeOf(text("since")), Until: timeOf(text("until")),
		})
		held[text("hold")] = held[text("hold")] || n
		return n, err
	case actionRelease:
		return held[text("hold")], nil
	case actionErasure:
		for _, person := range []audit.Query{{Subject: text("token")}, {UserID: text("token")}} {
			if n, err := overlap(ctx, src, q, person); n || err != nil {
				return n, err
			}
		}
		return false, nil
	}
	return true, nil
}

func timeOf(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// overlap reports whether an entry matches both. A person is a token in x, and
// may be a name in q.
func overlap(ctx context.Context, src Source, q, x audit.Query) (bool, error) {
	for _, f := range []struct{ into, from *string }{
		{&q.AgentID, &x.AgentID}, {&q.SessionID, &x.SessionID}, {&q.RunID, &x.RunID}, {&q.TraceID, &x.TraceID},
	} {
		if *f.into != "" && *f.from != "" && *f.into != *f.from {
			return false, nil
		}
		if *f.into == "" {
			*f.into = *f.from
		}
	}
	for _, f := range []struct {
		into, from *string
		of         func(*audit.Entry) string
		only       audit.Query
	}{
		{&q.UserID, &x.UserID, func(e *audit.Entry) string { return e.UserID }, audit.Query{UserID: q.UserID}},
		{&q.Subject, &x.Subject, func(e *audit.Entry) string { return e.Subject }, audit.Query{Subject: q.Subject}},
	} {
		if *f.from == "" {
			continue
		}
		if *f.into == "" {
			*f.into = *f.from
			continue
		}
		token, err := tokenOf(ctx, src, f.only, *f.into, f.of)
		if err != nil || token != *f.from {
			return false, err
		}
	}
	if x.Since.After(q.Since) {
		q.Since = x.Since
	}
	if !x.Until.IsZero() && (q.Until.IsZero() || x.Until.Before(q.Until)) {
		q.Until = x.Until
	}
	n, err := src.Count(ctx, q)
	if err != nil {
		return false, fmt.Errorf("evidence: count: %w", err)
	}
	return n > 0, nil
}

// tokenOf is what stands for a person in the newest entry that names them.
func tokenOf(ctx context.Context, src Source, q audit.Query, name string, of func(*audit.Entry) string) (string, error) {
	q.Stored, q.Descending, q.Limit = true, true, 1
	for e, err := range src.Query(ctx, q) {
		if err != nil {
			return "", fmt.Errorf("evidence: read entries: %w", err)
		}
		return of(&e), nil
	}
	return name, nil
}

// item is an entry of a pack.
type item struct {
	audit.Entry
	// own says that it did not match, and is there as one of the ledger's own.
	own bool
}

// items yields what q selects and the own entries, in the order of their indexes.
func items(ctx context.Context, src Source, q audit.Query, size int64, own []audit.Entry) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		rest := own
		for e, err := range src.Query(ctx, q) {
			if err != nil {
				yield(item{}, fmt.Errorf("evidence: read entries: %w", err))
				return
			}
			if e.Index >= size {
				break
			}
			for len(rest) > 0 && rest[0].Index <= e.Index {
				if rest[0].Index < e.Index && !yield(item{rest[0], true}, nil) {
					return
				}
				rest = rest[1:]
			}
			if !yield(item{Entry: e}, nil) {
				return
			}
		}
		for _, e := range rest {
			if !yield(item{e, true}, nil) {
				return
			}
		}
	}
}

// detailsText is details for a reader, cut to a length.
func detailsText(details map[string]any, most int) string {
	if len(details) == 0 {
		return ""
	}
	shown := maps.Clone(details)
	if box, ok := shown["sealed"].(map[string]any); ok && box["enc"] != nil {
		shown["sealed"] = "encrypted"
	}
	b, err := json.Marshal(shown)
	if err != nil {
		return "(cannot be shown)"
	}
	text := string(b)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " …"
	}
	return text
}

// pull is iter.Pull2 for pairs of an item and an error.
func pull(seq iter.Seq2[item, error]) (next func() (item, bool, error), stop func()) {
	n, stop := iter.Pull2(seq)
	return func() (item, bool, error) {
		it, err, ok := n()
		return it, ok, err
	}, stop
}
