package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Actions of the entries that holds and releases are.
const (
	actionHold    = systemPrefix + "hold"
	actionRelease = systemPrefix + "release"
)

// ErrNoHold means that no hold with that id is active.
var ErrNoHold = errors.New("no such hold")

// Hold keeps entries from being removed by retention, and their subjects from
// being erased, until it is released. It selects the entries that match all of
// its fields, present and future; without any it selects all.
type Hold struct {
	// ID names the hold: letters, digits, dot, dash and underscore, at most 64.
	// If empty, placing it makes one up.
	ID string
	// AgentID to TraceID select entries that have this value.
	AgentID, UserID, Subject, SessionID, RunID, TraceID string
	// Since and Until bound their Time, both inclusive.
	Since, Until time.Time
	// Reason and Authority say why, and on whose order. They stay in the ledger
	// in clear and must not contain the name of the user or subject.
	Reason, Authority string
	// Placed is when, and Index which entry says so. The ledger sets both.
	Placed time.Time
	Index  int64
}

// Release ends the hold with that ID.
type Release struct {
	ID                string
	Reason, Authority string
}

// HeldError says that something cannot be erased or removed because a hold is
// on it.
type HeldError struct {
	// Hold is the id of the hold, Reason and Authority what was said when it
	// was placed.
	Hold, Reason, Authority string
}

// Error implements error.
func (e *HeldError) Error() string {
	s := "held by hold " + e.Hold
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	return s
}

// holds are the ones that are active, by id.
type holds struct {
	// change is held while a hold is placed or released, and by whoever removes
	// something because no hold is on it.
	change sync.Mutex

	mu     sync.RWMutex // guards what follows
	active map[string]Hold
}

// Hold places h and returns when the entry that says so is durable. Errors are
// an [*EntryError] for a hold that is not valid or whose ID is active, and
// those of [Ledger.Append].
func (l *Ledger) Hold(ctx context.Context, h Hold) (Hold, Receipt, error) {
	return l.governor.Hold(ctx, h)
}

// Hold is [Ledger.Hold].
func (g *governor) Hold(ctx context.Context, h Hold) (Hold, Receipt, error) {
	g.holds.change.Lock()
	defer g.holds.change.Unlock()
	h, r, err := g.place(ctx, h)
	if err != nil {
		return Hold{}, Receipt{}, fmt.Errorf("audit: hold: %w", err)
	}
	return h, r, nil
}

func (g *governor) place(ctx context.Context, h Hold) (Hold, Receipt, error) {
	if h.ID == "" {
		h.ID = newID()
	}
	h.Placed = time.Now().UTC()
	if err := h.check(); err != nil {
		return h, Receipt{}, err
	}
	if _, active := g.holds.get(h.ID); active {
		return h, Receipt{}, &EntryError{Field: "hold", Reason: "id " + h.ID + " is active already"}
	}
	stored, err := g.vault.tokens(h)
	if err != nil {
		return h, Receipt{}, err
	}
	r, err := g.ledger.appendSystem(ctx, Entry{Action: actionHold, Time: h.Placed, Details: stored.details()})
	if err != nil {
		return h, Receipt{}, err
	}
	stored.Index, h.Index = r.Index, r.Index
	g.holds.add(stored)
	return h, r, nil
}

// Release ends a hold and returns when the entry that says so is durable.
// Errors are [ErrNoHold], an [*EntryError], and those of [Ledger.Append].
func (l *Ledger) Release(ctx context.Context, x Release) (Receipt, error) {
	return l.governor.Release(ctx, x)
}

// Release is [Ledger.Release].
func (g *governor) Release(ctx context.Context, x Release) (Receipt, error) {
	g.holds.change.Lock()
	defer g.holds.change.Unlock()
	r, err := g.endHold(ctx, x)
	if err != nil {
		return Receipt{}, fmt.Errorf("audit: release %s: %w", x.ID, err)
	}
	return r, nil
}

func (g *governor) endHold(ctx context.Context, x Release) (Receipt, error) {
	h, active := g.holds.get(x.ID)
	if !active {
		return Receipt{}, ErrNoHold
	}
	h = g.vault.named(h)
	if err := checkTexts(x.Reason, x.Authority, h.UserID, h.Subject); err != nil {
		return Receipt{}, err
	}
	r, err := g.ledger.appendSystem(ctx, Entry{Action: actionRelease, Details: withTexts(map[string]any{"hold": x.ID}, x.Reason, x.Authority)})
	if err == nil {
		g.holds.remove(x.ID)
	}
	return r, err
}

// Holds lists the active holds in the order they were placed. A user or
// subject whose name is not known any more is a token.
func (l *Ledger) Holds() []Hold { return l.governor.Holds() }

// Holds is [Ledger.Holds].
func (g *governor) Holds() []Hold { return g.holds.list(g.vault) }

// Holds is [Ledger.Holds], as of the entries that the reader shows.
func (r *Reader) Holds() []Hold { return r.holds.list(r.vault) }

func (hs *holds) list(v *vault) []Hold {
	hs.mu.RLock()
	list := slices.Collect(maps.Values(hs.active))
	hs.mu.RUnlock()
	slices.SortFunc(list, func(a, b Hold) int { return cmp.Compare(a.Index, b.Index) })
	for i := range list {
		list[i] = v.named(list[i])
	}
	return list
}

func (hs *holds) get(id string) (Hold, bool) {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	h, ok := hs.active[id]
	return h, ok
}

func (hs *holds) add(h Hold) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.active == nil {
		hs.active = map[string]Hold{}
	}
	hs.active[h.ID] = h
}

func (hs *holds) remove(id string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	delete(hs.active, id)
}

// load takes in the holds and releases among the entries from index after on.
func (hs *holds) load(ctx context.Context, s entries, after int64) error {
	released := map[string]int64{} // the newest release of each id
	err := systemEntries(ctx, s, actionRelease, after, func(e *Entry) error {
		id, _ := e.Details["hold"].(string)
		released[id] = e.Index
		return nil
	})
	if err != nil {
		return err
	}
	err = systemEntries(ctx, s, actionHold, after, func(e *Entry) error {
		h, err := parseHold(e)
		if err != nil {
			h = unknownHold(e, h.ID)
		}
		if end, ok := released[h.ID]; !ok || end < e.Index {
			hs.add(h)
		}
		return nil
	})
	for id, end := range released {
		if h, ok := hs.get(id); ok && h.Index < end {
			hs.remove(id)
		}
	}
	return err
}

// held returns a [*HeldError] if a hold is on an entry from index from to
// before to, or was placed there. The caller holds g.holds.change for as long
// as it relies on the answer.
func (g *governor) held(ctx context.Context, from, to int64) error {
	for _, h := range g.Holds() {
		if h.Index >= from && h.Index < to {
			return h.err()
		}
	}
	return g.heldEntries(ctx, from, to)
}

// heldEntries is held without the entries that place the holds.
func (g *governor) heldEntries(ctx context.Context, from, to int64) error {
	for _, h := range g.Holds() {
		q := h.query()
		q.After, q.Limit = from, 1
		for e, err := range g.vault.stored(ctx, g.stored, q) {
			if err != nil {
				return err
			}
			if e.Index < to {
				return h.err()
			}
		}
	}
	return nil
}

// heldSubject returns a [*HeldError] if a hold is on s, or on an entry that
// erasing s would change.
func (g *governor) heldSubject(ctx context.Context, s *subject) error {
	for _, h := range g.Holds() {
		if h.UserID == s.name || h.Subject == s.name {
			return h.err()
		}
		for _, as := range []*string{&h.Subject, &h.UserID} {
			if *as != "" {
				continue
			}
			*as = s.token
			n, err := g.vault.count(ctx, g.stored, h.query())
			*as = ""
			if err != nil {
				return err
			}
			if n > 0 {
				return h.err()
			}
		}
	}
	return nil
}

func (h *Hold) err() error { return &HeldError{Hold: h.ID, Reason: h.Reason, Authority: h.Authority} }

// query selects what h is on.
func (h *Hold) query() Query {
	return Query{
		AgentID: h.AgentID, UserID: h.UserID, Subject: h.Subject, SessionID: h.SessionID,
		RunID: h.RunID, TraceID: h.TraceID, Since: h.Since, Until: h.Until,
	}
}

func (h *Hold) check() error {
	if !isHoldID(h.ID) {
		return &EntryError{Field: "hold", Reason: "id is not 1 to 64 letters, digits, dots, dashes or underscores"}
	}
	if h.TraceID != "" && !isHexID(h.TraceID, 32) {
		return &EntryError{Field: "trace_id", Reason: "not 32 digits of lower-case hex, or zero"}
	}
	for _, f := range []struct{ name, value string }{
		{"agent_id", h.AgentID}, {"user_id", h.UserID}, {"subject", h.Subject}, {"session_id", h.SessionID}, {"run_id", h.RunID},
	} {
		if len(f.value) > MaxNameBytes || !utf8.ValidString(f.value) {
			return &EntryError{Field: f.name, Reason: fmt.Sprintf("longer than %d bytes, or not UTF-8", MaxNameBytes)}
		}
	}
	for _, t := range []time.Time{h.Since, h.Until} {
		if !t.IsZero() && (t.Before(minTime) || !t.Before(maxTime)) {
			return &EntryError{Field: "time", Reason: "not between 1970 and 2261"}
		}
	}
	if !h.Since.IsZero() && !h.Until.IsZero() && h.Until.Before(h.Since) {
		return &EntryError{Field: "until", Reason: "before since"}
	}
	return checkTexts(h.Reason, h.Authority, h.UserID, h.Subject)
}

func isHoldID(s string) bool {
	ok := func(c rune) bool {
		return c < utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c)) || strings.ContainsRune("._-", c)
	}
	return s != "" && len(s) <= 64 && strings.IndexFunc(s, func(c rune) bool { return !ok(c) }) < 0
}

// checkTexts holds what goes into the ledger in clear, for good, to its limits:
// among them that it names nobody who may have to be forgotten.
func checkTexts(reason, authority string, names ...string) error {
	for _, f := range []struct{ name, text string }{{"reason", reason}, {"authority", authority}} {
		if len(f.text) > MaxNameBytes || !utf8.ValidString(f.text) {
			return &EntryError{Field: f.name, Reason: fmt.Sprintf("longer than %d bytes, or not UTF-8", MaxNameBytes)}
		}
		for _, name := range names {
			if containsWord(f.text, name) {
				return &EntryError{Field: f.name, Reason: "names the user or subject: it would stay in the ledger for good"}
			}
		}
	}
	return nil
}

// containsWord reports whether text has name in it, in any case, as more than
// a part of another word.
func containsWord(text, name string) bool {
	if name == "" {
		return false
	}
	text, name = strings.ToLower(text), strings.ToLower(name)
	inWord := func(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }
	for at := 0; ; at++ {
		i := strings.Index(text[at:], name)
		if i < 0 {
			return false
		}
		at += i
		before, _ := utf8.DecodeLastRuneInString(text[:at])
		after, _ := utf8.DecodeRuneInString(text[at+len(name):])
		if !inWord(before) && !inWord(after) {
			return true
		}
	}
}

// tokens is h with tokens in the place of names: those of new subjects, if
// nothing is known of them yet, so that the hold is on what will come.
func (v *vault) tokens(h Hold) (Hold, error) {
	for _, who := range []*string{&h.UserID, &h.Subject} {
		if *who == "" || isToken(*who) {
			continue
		}
		s := v.find(*who)
		if s == nil {
			if err := v.ensure([]string{*who}, time.Now()); err != nil {
				return h, err
			}
			if s = v.find(*who); s == nil {
				return h, errors.New("the subject was erased at this moment")
			}
		}
		*who = s.token
	}
	return h, nil
}

// named is h with names in the place of tokens, where they are known.
func (v *vault) named(h Hold) Hold {
	h.UserID, h.Subject = v.nameOf(h.UserID), v.nameOf(h.Subject)
	return h
}

// holdFields are the text fields of a hold in its entry's details.
func (h *Hold) holdFields() map[string]*string {
	return map[string]*string{
		"hold": &h.ID, "agent_id": &h.AgentID, "user_id": &h.UserID, "subject": &h.Subject, "session_id": &h.SessionID,
		"run_id": &h.RunID, "trace_id": &h.TraceID, "reason": &h.Reason, "authority": &h.Authority,
	}
}

func (h *Hold) details() map[string]any {
	d := map[string]any{}
	for name, value := range h.holdFields() {
		if *value != "" {
			d[name] = *value
		}
	}
	for name, t := range map[string]time.Time{"since": h.Since, "until": h.Until} {
		if !t.IsZero() {
			d[name] = t
		}
	}
	return d
}

// unknownHold stands for a hold that a later version placed: it is on all
// entries, rather than on too few.
func unknownHold(e *Entry, id string) Hold {
	if !isHoldID(id) {
		id = fmt.Sprintf("entry-%d", e.Index)
	}
	return Hold{ID: id, Placed: e.Time, Index: e.Index, Reason: "a hold of a form that this version does not know"}
}

// parseHold is the reverse of details.
func parseHold(e *Entry) (Hold, error) {
	h := Hold{Placed: e.Time, Index: e.Index}
	h.ID, _ = e.Details["hold"].(string) // first: it names even a hold that is not understood
	fields := h.holdFields()
	for name, value := range e.Details {
		text, ok := value.(string)
		switch into := fields[name]; {
		case name == carriedKey:
			_, ok = indexOf(value)
		case ok && name == timeKey:
			h.Placed, ok = parseTime(text)
		case ok && into != nil:
			*into = text
		case ok && name == "since":
			h.Since, ok = parseTime(text)
		case ok && name == "until":
			h.Until, ok = parseTime(text)
		default:
			ok = false
		}
		if !ok {
			return h, fmt.Errorf("hold has a field %q that is not known, or not of its form", name)
		}
	}
	if !isHoldID(h.ID) {
		return h, errors.New("hold without id")
	}
	return h, nil
}

// withTexts adds reason and authority to details, if there are any.
func withTexts(d map[string]any, reason, authority string) map[string]any {
	for name, value := range map[string]string{"reason": reason, "authority": authority} {
		if value != "" {
			d[name] = value
		}
	}
	return d
}

// MarshalJSON gives the hold as the command prints it, without what is empty.
func (h Hold) MarshalJSON() ([]byte, error) {
	d := h.details()
	d["placed"], d["index"] = h.Placed, h.Index
	delete(d, "hold")
	d["id"] = h.ID
	return json.Marshal(d)
}
