package audit

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
)

// member is one of an object.
type member struct {
	key   string
	value any
}

// fewMembers is how many members of an object are kept on the stack and put in
// order without a sort: more than most objects have.
const fewMembers = 8

var memberPool = sync.Pool{New: func() any { m := make([]member, 0, 4*fewMembers); return &m }}

func releaseMembers(m *[]member) {
	clear(*m) // the pool must not keep a caller's values alive
	*m = (*m)[:0]
	memberPool.Put(m)
}

// appendMap writes an object, its keys sorted.
func appendMap(b []byte, m map[string]any, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return b, tooDeep()
	}
	if len(m) > fewMembers {
		return appendLargeMap(b, m, depth)
	}
	var (
		members [fewMembers]member
		heads   [fewMembers]uint64
		n       int
	)
	for k, v := range m {
		members[n], heads[n] = member{key: k, value: v}, keyHead(k)
		n++
	}
	order, decided := orderHeads(heads[:n])
	if !decided {
		sortMembers(members[:n])
		order = inOrder
	}
	b = append(b, '{')
	for i := range n {
		var err error
		if b, err = appendMember(b, i, &members[order%fewMembers], depth); err != nil {
			return b, err
		}
		order >>= orderBits
	}
	return append(b, '}'), nil
}

// appendLargeMap is appendMap with members from the pool.
func appendLargeMap(b []byte, m map[string]any, depth int) ([]byte, error) {
	members := memberPool.Get().(*[]member)
	for k, v := range m {
		*members = append(*members, member{key: k, value: v})
	}
	b, err := appendMembers(b, *members, depth)
	releaseMembers(members)
	return b, err
}

// appendMembers writes an object of members, which it sorts.
func appendMembers(b []byte, members []member, depth int) ([]byte, error) {
	sortMembers(members)
	b = append(b, '{')
	for i := range members {
		var err error
		if b, err = appendMember(b, i, &members[i], depth); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

// appendMember writes the i-th member of an object.
func appendMember(b []byte, i int, m *member, depth int) ([]byte, error) {
	b, err := appendKey(b, i, m.key)
	if err != nil {
		return b, err
	}
	if b, err = appendValue(b, m.value, depth); err != nil {
		return b, inField("."+m.key, err)
	}
	return b, nil
}

// appendKey writes the key of the i-th member, with what stands around it.
func appendKey(b []byte, i int, key string) ([]byte, error) {
	if i > 0 {
		b = append(b, ',')
	}
	b, valid := quote(b, key)
	if !valid {
		return b, &EntryError{Reason: "key is not UTF-8"}
	}
	return append(b, ':'), nil
}

// appendTexts is appendMap for values that are all strings.
func appendTexts(b []byte, m map[string]string, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return b, tooDeep()
	}
	members := memberPool.Get().(*[]member)
	defer releaseMembers(members)
	for k := range m {
		*members = append(*members, member{key: k})
	}
	sortMembers(*members)
	b = append(b, '{')
	for i := range *members {
		key := (*members)[i].key
		var err error
		if b, err = appendKey(b, i, key); err != nil {
			return b, err
		}
		if b, err = appendText(b, m[key]); err != nil {
			return b, inField("."+key, err)
		}
	}
	return append(b, '}'), nil
}

// An order is the positions of few members, the first in the lowest bits: one
// number, where reading back bytes that were just written would stall.
const (
	orderBits = 4
	inOrder   = 0x76543210
)

// orderHeads gives the order of at most fewMembers keys by their heads, unless
// two are alike or one is beyond ASCII: whole keys have to be compared then. It
// counts for each how many come before it, without a branch that depends on
// which does: a map's order is random, so half the branches of a sort are
// guessed wrong.
func orderHeads(heads []uint64) (order uint64, decided bool) {
	var (
		ranks [fewMembers]uint64
		seen  uint64
	)
	for i, head := range heads {
		seen |= head
		for j, other := range heads[:i] {
			if head == other {
				return 0, false
			}
			_, before := bits.Sub64(head, other, 0)
			ranks[j] += before
			ranks[i] += 1 - before
		}
	}
	for i, rank := range ranks[:len(heads)] {
		order |= uint64(i) << (rank * orderBits)
	}
	return order, seen&tops == 0
}

// keyHead is the first eight bytes of s as a number that sorts as they do, with
// zeros for those that s lacks. Bytes that are read twice are the same twice.
func keyHead(s string) uint64 {
	switch n := len(s); {
	case n >= 8:
		return bits.ReverseBytes64(word(s))
	case n >= 4:
		first, last := bits.ReverseBytes32(halfWord(s)), bits.ReverseBytes32(halfWord(s[n-4:]))
		return uint64(first)<<32 | uint64(last)<<(8*(8-n))
	case n > 0:
		return uint64(s[0])<<56 | uint64(s[n/2])<<(56-8*(n/2)) | uint64(s[n-1])<<(56-8*(n-1))
	}
	return 0
}

func sortMembers(m []member) {
	slices.SortFunc(m, func(a, b member) int { return compareUTF16(a.key, b.key) })
}

// compareUTF16 orders keys by UTF-16 code units, as RFC 8785 asks. That is the
// order of UTF-8 bytes, except that U+E000 to U+FFFF (lead bytes EE and EF)
// come after everything beyond them, whose surrogates start with D8 to DB.
func compareUTF16(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return cmp.Compare(utf16Rank(a[i]), utf16Rank(b[i]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

func utf16Rank(c byte) byte {
	if c == 0xEE || c == 0xEF {
		return c + 0x10
	}
	return c
}
