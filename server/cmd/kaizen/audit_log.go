package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	logtiles "github.com/kaizen-go/kaizen/server/internal/tlog"
)

// tileLog is a ledger as a transparency log: a server's /log/, or the same made
// from a directory in this process. Both are read in one way.
type tileLog struct {
	c *client
	// keys are those that the ledger has had, the present one first.
	keys []string
	// ranges say how far each of them counts, the oldest first, by the ledger's
	// own account.
	ranges []audit.KeyRange
}

// replaced reports whether key did not count any more for a checkpoint of size
// entries. Only who knows one of the keys that followed can say so: for others
// checkpoints carry the old signature as well for a time.
func (l tileLog) replaced(key string, size int64) bool {
	at := slices.IndexFunc(l.ranges, func(r audit.KeyRange) bool { return r.Key == key })
	if at < 0 || l.ranges[at].Until < 0 || size <= l.ranges[at].Until {
		return false
	}
	return slices.ContainsFunc(l.ranges[at+1:], func(r audit.KeyRange) bool { return slices.Contains(l.keys, r.Key) })
}

// errReplaced is of a checkpoint that is signed, with a key that was given up:
// somebody may have stolen it.
var errReplaced = errors.New("signed with a key that had been replaced")

// signed reads a checkpoint with parse under the first of the ledger's keys that
// signed it and counts for it.
func (l tileLog) signed(note string, parse func(text, key string) (audit.Checkpoint, error)) (c audit.Checkpoint, key string, err error) {
	err = errors.New("no key to check it with")
	old := false
	for _, key = range l.keys {
		if c, err = parse(note, key); err == nil {
			if !l.replaced(key, c.Size) {
				return c, key, nil
			}
			old = true
		}
	}
	if old {
		err = errReplaced
	}
	return audit.Checkpoint{}, "", err
}

func parseUnder(text, key string) (audit.Checkpoint, error) {
	return audit.ParseCheckpoint([]byte(text), key)
}

// openLog makes a tileLog of an open ledger, which stays the caller's to close.
func openLog(ctx context.Context, l ledger) (tileLog, error) {
	switch l := l.(type) {
	case dirLedger:
		h := http.StripPrefix("/log/", logtiles.New(logtiles.Config{Ledger: l.r}))
		keys, err := l.r.VerifierKeys()
		if err != nil {
			return tileLog{}, failed(err)
		}
		ranges, err := l.r.KeyRanges()
		if err != nil {
			return tileLog{}, failed(err)
		}
		c := &client{base: "http://localhost", http: &http.Client{Transport: handlerTransport{h}}, local: true}
		return tileLog{c: c, keys: keys, ranges: ranges}, nil
	case apiLedger:
		var head remoteHead
		err := l.c.get(ctx, "/api/audit/checkpoint", nil, &head)
		if err != nil {
			return tileLog{}, err
		}
		log := tileLog{c: l.c, keys: []string{head.VKey}}
		return log, log.olderKeys(ctx)
	}
	return tileLog{}, environment(fmt.Errorf("this ledger is not served as a log"), "name a data directory or a server")
}

// olderKeys asks a server for the keys before the present one. A server that
// does not say has none.
func (l *tileLog) olderKeys(ctx context.Context) error {
	text, err := l.file(ctx, "keys")
	if api, ok := errors.AsType[*apiError](err); ok && api.Status == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // from, until, key; the oldest first
		until := int64(-1)
		if len(fields) == 3 && fields[1] != "-" {
			until, err = strconv.ParseInt(fields[1], 10, 64)
		}
		if len(fields) != 3 || err != nil || until < -1 {
			return failed(fmt.Errorf("/log/keys has the line %q", clean(line)))
		}
		l.ranges = append(l.ranges, audit.KeyRange{Key: fields[2], Until: until})
		if !slices.Contains(l.keys, fields[2]) {
			l.keys = slices.Insert(l.keys, 1, fields[2])
		}
	}
	return nil
}

// trust makes keys, which somebody has from elsewhere, those of the log: what it
// says of its own does not count then. The files of a ledger prove how one key
// follows the other, so one of them is enough.
func (l *tileLog) trust(keys []string) {
	follows := l.c.local && slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(l.keys, key) })
	if len(keys) > 0 && !follows {
		l.keys = keys
	}
}

// file returns a file of the log, such as "checkpoint".
func (l tileLog) file(ctx context.Context, path string) ([]byte, error) {
	return l.c.raw(ctx, "/log/"+path, nil)
}

// checkpoint is the newest one, checked against the ledger's keys.
func (l tileLog) checkpoint(ctx context.Context) (audit.Checkpoint, error) {
	note, err := l.file(ctx, "checkpoint")
	if err != nil {
		return audit.Checkpoint{}, err
	}
	c, _, err := l.signed(string(note), parseUnder)
	if err != nil {
		return c, failed(err)
	}
	return c, nil
}

// prove makes the consistency proof of two checkpoints of this log from its
// tiles, each of which is checked against the newer checkpoint's root.
func (l tileLog) prove(ctx context.Context, from, to audit.Checkpoint) (audit.ConsistencyProof, error) {
	p := audit.ConsistencyProof{Old: from.Note, New: to.Note}
	if from.Size == 0 || from.Size == to.Size {
		return p, nil
	}
	tree := tlog.Tree{N: to.Size, Hash: tlog.Hash(to.Root)}
	proof, err := tlog.ProveTree(to.Size, from.Size, tlog.TileHashReader(tree, logTileReader{ctx, l}))
	if err != nil {
		return p, failed(fmt.Errorf("consistency of %d and %d entries: %w", from.Size, to.Size, err))
	}
	for _, h := range proof {
		p.Hashes = append(p.Hashes, h)
	}
	return p, nil
}

// logTileReader reads tiles for x/mod's tlog, whose paths have the height too.
type logTileReader struct {
	ctx context.Context
	l   tileLog
}

func (logTileReader) Height() int                     { return 8 }
func (logTileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r logTileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		var err error
		if data[i], err = r.l.file(r.ctx, logtiles.Path(t.L, t.N, t.W)); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// checkConsistency checks a proof that kaizen audit consistency wrote.
func checkConsistency(text []byte, keys []string) (from, to audit.Checkpoint, err error) {
	p, err := audit.ParseConsistencyProof(text)
	if err != nil {
		return from, to, err
	}
	return p.Check(keys...)
}

// isConsistencyProof tells such a file from a proof of one entry.
func isConsistencyProof(text []byte) bool {
	return strings.HasPrefix(string(text), "kaizen tlog-consistency ")
}

// encodeJSON writes v as one line.
func encodeJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return failed(err)
	}
	return nil
}
