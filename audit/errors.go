package audit

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// Errors that callers branch on, with [errors.Is].
var (
	// ErrLocked means that another ledger, of this process or of another one,
	// holds the directory.
	ErrLocked = durable.ErrLocked
	// ErrClosed means that the ledger was closed before the call.
	ErrClosed = errors.New("ledger is closed")
	// ErrFailed means that an earlier write or sync failed, after which
	// nothing about the files is taken for granted. The ledger accepts nothing
	// until it is closed and opened again, which recovers it.
	ErrFailed = errors.New("ledger has failed and must be reopened")
	// ErrNoSpace means that the disk is full, or read-only. The entry was not
	// written, nothing is damaged, and appending works again once there is
	// room.
	ErrNoSpace = errors.New("no space for entries")
	// ErrFull means that the queue has no room, see [Ledger.AppendAsync].
	ErrFull = errors.New("queue is full")
	// ErrUnconfirmed means that the caller stopped waiting for an entry that
	// was already queued: it may or may not end up in the ledger. Appending it
	// again under the same ID is safe.
	ErrUnconfirmed = errors.New("outcome unknown")
	// ErrNotFound means that the ledger has no entry at that index.
	ErrNotFound = errors.New("no such entry")
	// ErrPruned means that retention removed the entry at that index. Its hash
	// is still there, and so are the proofs of others.
	ErrPruned = errors.New("entry was removed by retention")
)

// EntryError says which field of an entry cannot be recorded, and why. An
// entry that gets one was not written.
type EntryError struct {
	// Field is the JSON name of the field, with a path for values inside
	// details and metadata ("details.args[2]"); "entry" for the whole line.
	Field string
	// Reason says what is wrong with it. It never quotes the value.
	Reason string
}

// Error implements error.
func (e *EntryError) Error() string { return "audit: entry: " + e.Field + ": " + e.Reason }

// TamperError says that a ledger is not what was signed: which file, which
// entry, and what differs.
type TamperError struct {
	// Path is the file, as a path below the directory that was given.
	Path string
	// Index is the first entry that is wrong, or -1 if the damage is not in
	// one entry.
	Index int64
	// Want and Got are what should be there and what is, as text: a hash, a
	// size, a key. Either may be empty.
	Want, Got string
	// Reason says what is wrong in words.
	Reason string
}

// Error implements error.
func (e *TamperError) Error() string {
	var b strings.Builder
	b.WriteString("audit: tampered: ")
	b.WriteString(e.Path)
	if e.Index >= 0 {
		fmt.Fprintf(&b, ": entry %d", e.Index)
	}
	b.WriteString(": " + e.Reason)
	if e.Want != "" || e.Got != "" {
		fmt.Fprintf(&b, " (want %s, got %s)", orNone(e.Want), orNone(e.Got))
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
