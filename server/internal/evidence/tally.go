package evidence

import (
	"cmp"
	"slices"
	"time"
)

// maxGroups bounds the values that a tally keeps apart; those beyond it are
// counted together.
const maxGroups = 10_000

// shownGroups is how many of them the report lists.
const shownGroups = 30

// tally is what the report says of the entries, gathered while they pass.
type tally struct {
	entries, own    int64
	first, last     int64 // indexes
	oldest, newest  time.Time
	encrypted       int64
	agents, actions counts
	results, days   counts
	erased          map[string]bool // tokens
	rows            []row
	notes           []row // the ledger's own entries
	most            int   // rows
}

// row is an entry in the report.
type row struct {
	index                                      int64
	time                                       time.Time
	agent, action, result, person, token, what string
	encrypted, revealed                        bool
	own                                        bool
}

type counts map[string]int64

func (c counts) add(value string) {
	if _, ok := c[value]; !ok && len(c) >= maxGroups {
		value = otherValues
	}
	c[value]++
}

const otherValues = "(all others)"

type count struct {
	value string
	n     int64
}

// top are the largest counts, and the rest as one; by value if sorted so.
func (c counts) top(byValue bool) []count {
	list := make([]count, 0, len(c))
	for v, n := range c {
		list = append(list, count{v, n})
	}
	slices.SortFunc(list, func(a, b count) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.value, b.value)) })
	var rest count
	if len(list) > shownGroups {
		for _, x := range list[shownGroups:] {
			rest.n += x.n
		}
		rest.value, list = otherValues, list[:shownGroups]
	}
	if byValue {
		slices.SortFunc(list, func(a, b count) int { return cmp.Compare(a.value, b.value) })
	}
	if rest.n > 0 {
		list = append(list, rest)
	}
	return list
}

func newTally(rows int) *tally {
	return &tally{
		first: -1, last: -1, agents: counts{}, actions: counts{}, results: counts{}, days: counts{},
		erased: map[string]bool{}, most: rows,
	}
}

// detailsLen is how much of an entry's details the report shows.
const detailsLen = 240

// add takes an entry in: it, as the line has it, and shown, as the reader may
// see it, which is the same unless the pack reveals what is encrypted.
func (t *tally) add(it item, shown item) {
	e := shown.Entry
	_, sealed := it.Details["sealed"].(map[string]any)
	r := row{
		index: e.Index, time: e.Time, agent: e.AgentID, action: e.Action, result: string(e.Result),
		person: e.UserID, token: it.Subject, what: detailsText(e.Details, detailsLen), encrypted: sealed, own: it.own,
		revealed: sealed && e.UserID != it.UserID,
	}
	if r.person == "" {
		r.person = it.UserID
	}
	if r.token == "" {
		r.token = it.UserID
	}
	if it.Action == actionErasure && isOwn(&it.Entry) {
		if token, ok := it.Details["token"].(string); ok {
			t.erased[token] = true
		}
	}
	if it.own || isOwn(&it.Entry) && noted(e.Action) {
		t.notes = append(t.notes, r)
	}
	if it.own {
		t.own++
		return
	}
	if t.entries == 0 {
		t.first, t.oldest, t.newest = e.Index, e.Time, e.Time
	}
	t.last = e.Index
	t.entries++
	if e.Time.Before(t.oldest) {
		t.oldest = e.Time
	}
	if e.Time.After(t.newest) {
		t.newest = e.Time
	}
	if sealed {
		t.encrypted++
	}
	t.agents.add(e.AgentID)
	t.actions.add(e.Action)
	t.results.add(string(e.Result))
	t.days.add(e.Time.UTC().Format(time.DateOnly))
	if len(t.rows) < t.most {
		t.rows = append(t.rows, r)
	}
}
