package audit

import "bytes"

// KeyChange is one change of a ledger's signing key, as an auditor needs it to
// follow from the key before to the new one. A ledger in files has them in
// keys.jsonl; another [Backend] keeps the same lines.
type KeyChange struct {
	// From is how many entries there were when the new key took over. The last of
	// them is Entry.
	From int64
	// Previous and Key are the public keys before and after.
	Previous, Key string
	// Entry is the stored line that names the new key, under the old one.
	Entry []byte
	// Note is the checkpoint of From entries with the signatures of both keys.
	Note string
}

// KeyChangeEntry is the entry that announces a change. Callers of
// [Backend].Append cannot make one.
func KeyChangeEntry(previous, key string) Entry {
	return Entry{
		AgentID: systemAgent, Action: actionRotation, Result: Success,
		Details: map[string]any{"previous": previous, "vkey": key},
	}
}

// Encode gives the line of the change, with its newline.
func (c KeyChange) Encode() []byte {
	return rotation{from: c.From, previous: c.Previous, vkey: c.Key, line: string(c.Entry), note: c.Note}.encode()
}

// ParseKeyChange reads what [KeyChange.Encode] gives, and checks all that can be
// checked without the ledger: that both keys have signed, and that the entry
// names the new one.
func ParseKeyChange(line []byte) (KeyChange, error) {
	r, err := parseRotation(append(bytes.TrimSuffix(line, []byte("\n")), '\n'))
	if err != nil {
		return KeyChange{}, err
	}
	return KeyChange{From: r.from, Previous: r.previous, Key: r.vkey, Entry: []byte(r.line), Note: r.note}, nil
}
