package audit

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"maps"
	"strings"
)

// Cover says why a field of an entry is not shown.
type Cover uint8

// The covers.
const (
	Shown     Cover = iota // it is shown, or empty
	Encrypted              // its key is not at hand: another process has the key store
	Erased                 // its key was destroyed, see [Ledger.Erase]
)

// String is the cover's name in lower case.
func (c Cover) String() string {
	switch c {
	case Encrypted:
		return "encrypted"
	case Erased:
		return "erased"
	}
	return "shown"
}

// mark is what is printed in the place of a string that is withheld.
func (c Cover) mark() string { return `{"` + c.String() + `":true}` }

// Withheld says which fields of an entry are not shown.
type Withheld struct {
	// UserID is then empty in the entry; Details and Metadata have the keys
	// that were never encrypted.
	UserID, Details, Metadata Cover
}

// field is the first field that is withheld.
func (w Withheld) field() string {
	switch {
	case w.Details != Shown:
		return "details"
	case w.Metadata != Shown:
		return "metadata"
	}
	return "user_id"
}

// mark prepares e for printing: what is withheld of details and metadata
// becomes a key in them. It changes e alone, not the maps.
func (e *Entry) mark() {
	e.Details = marked(e.Details, e.Withheld.Details)
	e.Metadata = marked(e.Metadata, e.Withheld.Metadata)
}

func marked(m map[string]any, c Cover) map[string]any {
	if c == Shown {
		return m
	}
	out := make(map[string]any, len(m)+1)
	maps.Copy(out, m)
	out[c.String()] = true
	return out
}

// takeMarks is the reverse of mark. Only an entry whose subject is a token can
// have something withheld; in any other the same keys are a caller's own.
func (e *Entry) takeMarks() {
	if isToken(e.Subject) {
		e.Withheld.Details = takeMark(e.Details)
		e.Withheld.Metadata = takeMark(e.Metadata)
	}
}

func takeMark(m map[string]any) Cover {
	for _, c := range []Cover{Encrypted, Erased} {
		if m[c.String()] == true {
			delete(m, c.String())
			return c
		}
	}
	return Shown
}

// takeUserMark removes a withheld user from a parsed entry.
func takeUserMark(obj map[string]any) Cover {
	m, ok := obj["user_id"].(map[string]any)
	if !ok || len(m) != 1 {
		return Shown
	}
	c := takeMark(m)
	if c != Shown {
		delete(obj, "user_id")
	}
	return c
}

// A token stands for a name in the stored lines: tokenPrefix and 128 random
// bits. Only the key store knows whose it is.
const (
	tokenPrefix = "kzs_"
	tokenLen    = len(tokenPrefix) + 26
)

var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand does not fail: it ends the program
	return tokenPrefix + tokenEncoding.EncodeToString(b[:])
}

// isToken reports whether s has the form of a token, which no name may have.
func isToken(s string) bool {
	if len(s) != tokenLen || !strings.HasPrefix(s, tokenPrefix) {
		return false
	}
	for _, c := range []byte(s[len(tokenPrefix):]) {
		if c-'a' > 25 && c-'2' > 5 {
			return false
		}
	}
	return true
}

// TechnicalDetails are keys of Details under which Kaizen's own entries say
// what is not about a person: which tool or model, how long, at what cost. The
// server and the SDK's ledger leave them in clear, see [Config].ClearDetails.
func TechnicalDetails() []string {
	return []string{
		"tool", "provider", "model", "response_model", "operation", "input_tokens", "cache_read_tokens", "cache_write_tokens",
		"output_tokens", "reasoning_tokens", "cost_nano_usd", "attempts", "partial", "duration_ms", "iteration", "decision",
		"records", "size_bytes",
	}
}

// maxPersonalLine is the longest line that still fits once all of it that can
// be encrypted is: base64 adds a third, and tokens and boxes some 500 bytes.
const maxPersonalLine = (MaxLineBytes - 700) / 4 * 3

// Appendable reports whether a ledger would take e, whatever its settings:
// for those who send entries to a ledger that is elsewhere. Errors are
// [*EntryError]. ID and Time must be set.
func Appendable(e Entry) error {
	if err := e.checkForeign(); err != nil {
		return err
	}
	line, err := EncodeLine(nil, e)
	if err != nil {
		return err
	}
	if (e.UserID != "" || e.Subject != "") && len(line) > maxPersonalLine {
		return &EntryError{Field: "entry", Reason: fmt.Sprintf("line of %d bytes, at most %d for an entry with a user or subject", len(line), maxPersonalLine)}
	}
	return nil
}
