package audit

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// Opening a ledger asks for its own entries about holds, erasures and keys. The
// manifest says for each sealed segment which kinds of them it has, so that the
// index files of the others are not opened: at 5,000 segments that is most of
// the time.

// maxSystemActions bounds the list of a segment. A ledger has a dozen kinds of
// entries of its own.
const maxSystemActions = 32

// systemActions lists the actions of the ledger's own entries in the index file
// idx of a segment, sorted, as JSON: "[]" if there are none. It is empty if that
// cannot be said: there are names that no version of ours has used.
func systemActions(idx []byte, base int64, count int) (string, error) {
	h, err := parseIdxHead(idx[:min(idxHeader, len(idx))], int64(len(idx)), base, count)
	if err != nil {
		return "", err
	}
	var sections [numSection][]byte
	for _, k := range []int{secZones, secTexts + colAgent, secTexts + colAction, secCodes + colAgent, secCodes + colAction} {
		if sections[k], err = h.read(bytes.NewReader(idx), k); err != nil {
			return "", err
		}
	}
	agent, some, err := texts(sections[secTexts+colAgent]).code(systemAgent)
	if err != nil || !some {
		return "[]", err
	}
	codes, err := ownCodes(zones(sections[secZones]), sections[secCodes+colAgent], sections[secCodes+colAction], agent, count)
	if err != nil {
		return "", err
	}
	var list []any
	for code, text := range texts(sections[secTexts+colAction]).all {
		if codes[uint64(code)] && strings.HasPrefix(string(text), systemPrefix) {
			list = append(list, string(text))
		}
	}
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	text, _ := systemList(list)
	return text, nil
}

// ownCodes are the codes of the actions that entries of an agent have.
func ownCodes(z zones, agents, actions []byte, agent uint32, count int) (map[uint64]bool, error) {
	a, err := newColumn(agents, groups(count), func(g int) uint { return z.width(g, colAgent) })
	if err != nil {
		return nil, err
	}
	c, err := newColumn(actions, groups(count), func(g int) uint { return z.width(g, colAction) })
	if err != nil {
		return nil, err
	}
	codes := map[uint64]bool{}
	own := filter{col: colAgent, codes: []uint32{agent}, data: a}
	for g := range groups(count) {
		if !own.mayMatch(z, g) {
			continue
		}
		hits, err := own.match(&scan{zones: z}, g)
		if err != nil {
			return nil, err
		}
		for i := range min(groupLen, count-g*groupLen) {
			if hits.has(i) {
				codes[uint64(z.min(g, colAction))+unpack(c.group(g), i, z.width(g, colAction))] = true
			}
		}
	}
	return codes, nil
}

// systemList is the text of a list of actions. False if it is not one that
// systemActions gives.
func systemList(list []any) (text string, ok bool) {
	if len(list) > maxSystemActions {
		return "", false
	}
	b := []byte{'['}
	before := ""
	for i, v := range list {
		action, _ := v.(string)
		if !isSystemAction(action) || action <= before {
			return "", false
		}
		if before = action; i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendQuote(b, action)
	}
	return string(append(b, ']')), true
}

// isSystemAction reports whether s has the form of the names that we give:
// lower-case letters and underscores after the prefix.
func isSystemAction(s string) bool {
	name, ok := strings.CutPrefix(s, systemPrefix)
	return ok && name != "" && len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// systemActions is the list that r.system is the text of.
func (r *record) systemActions() []string {
	list := []string{}
	for name := range strings.SplitSeq(strings.Trim(r.system, "[]"), ",") {
		if name != "" {
			list = append(list, strings.Trim(name, `"`))
		}
	}
	return list
}

// without reports whether the segment is known to have no entry that q is about.
func (r *record) without(q *Query) bool {
	return r.system != "" && q.AgentID == systemAgent && strings.HasPrefix(q.Action, systemPrefix) && !strings.Contains(r.system, `"`+q.Action+`"`)
}
