// Package evidence makes packs of audit entries that an auditor can check with
// nothing but the pack and the ledger's public key, and checks them.
//
//	err := evidence.Write(ctx, sink, evidence.Config{Source: src, Query: q, Checkpoint: c, Origin: o, Key: k})
//	report, err := evidence.Verify(ctx, os.DirFS("pack"), evidence.VerifyConfig{Key: k})
//
// A pack is a directory or a zip file. manifest.json names every file with its
// SHA-256; entries.jsonl has the stored lines of the entries; proof.txt has one
// proof for all of them, which leads to the signed checkpoint. The rest is made
// from these, so that a check can make it again and compare. Memory does not grow
// with the number of entries, neither in writing nor in checking.
package evidence

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// The files of a pack.
const (
	manifestName   = "manifest.json"
	readmeName     = "README.txt"
	reportName     = "report.html"
	entriesName    = "entries.jsonl"
	readableName   = "readable.jsonl"
	proofName      = "proof.txt"
	checkpointName = "checkpoint"
	keysName       = "keys.txt"
	rotationsName  = "keys.jsonl"
	earlierDir     = "earlier/" // <size>.checkpoint and <size>.tlog-consistency
)

// ErrNotPack means that what was given is no evidence pack.
var ErrNotPack = errors.New("evidence: not an evidence pack")

// Source is the ledger that a pack is made of.
type Source interface {
	// Query yields entries in the order of their indexes.
	Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error]
	Count(ctx context.Context, q audit.Query) (int64, error)
	// Tile returns the bytes of a C2SP tile: the hashes of width subtrees.
	Tile(ctx context.Context, level int, index int64, width int) ([]byte, error)
}

// Earlier is a signed checkpoint from before, and the proof that the pack's own
// extends it.
type Earlier struct {
	Size  int64
	Note  string
	Proof []byte
}

// Config says what to put into a pack. Source, Checkpoint, Origin and Key must
// be set.
type Config struct {
	Source Source
	// Query selects the entries. Limit, Descending, After and Stored do not
	// matter.
	Query audit.Query
	// Checkpoint is what all proofs lead to. Entries that it does not cover are
	// left out.
	Checkpoint audit.Checkpoint
	// Origin and Key are the ledger's name and public key.
	Origin, Key string
	// OlderKeys are those before it, newest first, and Rotations the file that
	// joins them. Both are empty if the key was never changed.
	OlderKeys []string
	Rotations []byte
	// Earlier are checkpoints that were kept, by size.
	Earlier []Earlier
	// Reveal adds what is encrypted in plain text, as far as the source has the
	// keys. Such a pack is out of reach of a later erasure.
	Reveal bool
	// Rows is how many entries the report shows. If zero, 1,000.
	Rows int
	// Created is when. Tool is what made the pack.
	Created time.Time
	Tool    string
	// Progress, if not nil, is called now and then with the number of entries
	// written and how many there are.
	Progress func(done, total int64)
}

const defaultRows = 1000

// Summary says what a pack holds.
type Summary struct {
	// Entries is how many matched; Own how many of the ledger's own entries are
	// there besides: holds, erasures and the like.
	Entries, Own int64
	// First and Last are the indexes of the first and last entry, -1 without.
	First, Last int64
	// Size is the number of entries under the checkpoint.
	Size int64
	// Files is the number of files, and Earlier that of earlier checkpoints.
	Files, Earlier int
}

// manifest is manifest.json.
type manifest struct {
	Format   string  `json:"format"`
	Version  int     `json:"version"`
	Origin   string  `json:"origin"`
	Key      string  `json:"key"`
	Size     int64   `json:"size"`
	Root     string  `json:"root"`
	Created  string  `json:"created"`
	Tool     string  `json:"tool"`
	Filter   filter  `json:"filter"`
	Entries  int64   `json:"entries"`
	Own      []int64 `json:"own"`
	First    int64   `json:"first"`
	Last     int64   `json:"last"`
	Revealed bool    `json:"revealed"`
	Rows     int     `json:"report_rows"`
	Files    []file  `json:"files"`
}

const (
	formatName    = "kaizen-evidence"
	formatVersion = 1
)

// file is one file of a pack.
type file struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// filter is what selected the entries, as the exporter says.
type filter struct {
	Agent   string `json:"agent,omitempty"`
	User    string `json:"user,omitempty"`
	Subject string `json:"subject,omitempty"`
	Action  string `json:"action,omitempty"`
	Result  string `json:"result,omitempty"`
	Session string `json:"session,omitempty"`
	Run     string `json:"run,omitempty"`
	Trace   string `json:"trace,omitempty"`
	Span    string `json:"span,omitempty"`
	Since   string `json:"since,omitempty"`
	Until   string `json:"until,omitempty"`
}

// withheld stands for a person's name in a pack that does not reveal any.
const withheld = "(one person; the name is withheld)"

func filterOf(q audit.Query, reveal bool) filter {
	f := filter{
		Agent: q.AgentID, User: q.UserID, Subject: q.Subject, Action: q.Action, Result: string(q.Result),
		Session: q.SessionID, Run: q.RunID, Trace: q.TraceID, Span: q.SpanID,
	}
	if !reveal && f.User != "" {
		f.User = withheld
	}
	if !reveal && f.Subject != "" {
		f.Subject = withheld
	}
	if !q.Since.IsZero() {
		f.Since = q.Since.UTC().Format(time.RFC3339Nano)
	}
	if !q.Until.IsZero() {
		f.Until = q.Until.UTC().Format(time.RFC3339Nano)
	}
	return f
}

// empty reports whether everything is selected.
func (f filter) empty() bool { return f == filter{} }

// admits reports whether an entry is one that the filter selects, as far as a
// line without a person's name tells.
func (f filter) admits(e *audit.Entry) bool {
	for _, pair := range [][2]string{
		{f.Agent, e.AgentID}, {f.Action, e.Action}, {f.Result, string(e.Result)}, {f.Session, e.SessionID},
		{f.Run, e.RunID}, {f.Trace, e.TraceID}, {f.Span, e.SpanID},
	} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	for text, outside := range map[string]func(time.Time) bool{f.Since: e.Time.Before, f.Until: e.Time.After} {
		if text == "" {
			continue
		}
		if t, err := time.Parse(time.RFC3339Nano, text); err != nil || outside(t) {
			return false
		}
	}
	return true
}

// list is the filter for a reader.
func (f filter) list() [][2]string {
	var out [][2]string
	for _, p := range [][2]string{
		{"agent", f.Agent}, {"user", f.User}, {"subject", f.Subject}, {"action", f.Action}, {"result", f.Result},
		{"session", f.Session}, {"run", f.Run}, {"trace", f.Trace}, {"span", f.Span}, {"not before", f.Since}, {"not after", f.Until},
	} {
		if p[1] != "" {
			out = append(out, p)
		}
	}
	return out
}
