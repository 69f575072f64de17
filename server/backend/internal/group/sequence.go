package group

import (
	"fmt"

	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// Sequence gives every record that is not known its index, from base on, and
// the others what the first one has. It returns the new ones in their order.
// Calls that must begin elsewhere are refused.
func (g *Group) Sequence(base int64, known map[ulid.ULID]Known) []*Record {
	var fresh []*Record
	seen := make(map[ulid.ULID]*Record)
	for _, c := range g.Calls {
		if c.Err = nil; c.First >= 0 {
			if err := c.position(base+int64(len(fresh)), known); err != nil {
				c.Err = err
				continue
			}
		}
		for _, r := range c.Records {
			r.Duplicate = false
			if k, ok := known[r.ID]; ok {
				r.Index, r.Leaf, r.Duplicate = k.Index, k.Leaf, !k.Own
				continue
			}
			if first, ok := seen[r.ID]; ok {
				r.Index, r.Leaf, r.Duplicate = first.Index, first.Leaf, true
				continue
			}
			r.Index = base + int64(len(fresh))
			fresh = append(fresh, r)
			seen[r.ID] = r
		}
	}
	return fresh
}

// Known is where an id stands already. Own says that it was written by an
// earlier attempt to commit the same group, whose outcome was not known.
type Known struct {
	Index int64
	Leaf  tlog.Hash
	Own   bool
}

// position checks that an import continues the ledger at next. If an earlier
// attempt has written it, it stands where it must already.
func (c *Call) position(next int64, known map[ulid.ULID]Known) error {
	for i, r := range c.Records {
		want := c.First + int64(i)
		k, ok := known[r.ID]
		switch {
		case ok && k.Own && k.Index == want:
		case ok:
			return fmt.Errorf("import entry %d: %w: its id is that of entry %d", want, audit.ErrPosition, k.Index)
		case want != next+int64(i):
			return fmt.Errorf("import entry %d: %w: it has %d entries", c.First, audit.ErrPosition, next)
		}
	}
	return nil
}

// IDs returns the ids to look up before sequencing: those that callers gave, or
// all of them.
func (g *Group) IDs(all bool) []ulid.ULID {
	var ids []ulid.ULID
	for _, c := range g.Calls {
		for _, r := range c.Records {
			if r.Given || all {
				ids = append(ids, r.ID)
			}
		}
	}
	return ids
}
