package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	logtiles "github.com/kaizen-go/kaizen/server/internal/tlog"
)

// tileLog is a ledger as a transparency log: a server's /log/, or the same made
// from a directory in this process. Both are read in one way.
type tileLog struct {
	c    *client
	vkey string
}

// openLog makes a tileLog of an open ledger, which stays the caller's to close.
func openLog(ctx context.Context, l ledger) (tileLog, error) {
	switch l := l.(type) {
	case dirLedger:
		h := http.StripPrefix("/log/", logtiles.New(logtiles.Config{Ledger: l.r}))
		return tileLog{&client{base: "http://localhost", http: &http.Client{Transport: handlerTransport{h}}, local: true}, l.r.VerifierKey()}, nil
	case apiLedger:
		var head remoteHead
		err := l.c.get(ctx, "/api/audit/checkpoint", nil, &head)
		return tileLog{l.c, head.VKey}, err
	}
	return tileLog{}, environment(fmt.Errorf("this ledger is not served as a log"), "name a data directory or a server")
}

// file returns a file of the log, such as "checkpoint".
func (l tileLog) file(ctx context.Context, path string) ([]byte, error) {
	return l.c.raw(ctx, "/log/"+path, nil)
}

// checkpoint is the newest one, checked against the ledger's own key.
func (l tileLog) checkpoint(ctx context.Context) (audit.Checkpoint, error) {
	note, err := l.file(ctx, "checkpoint")
	if err != nil {
		return audit.Checkpoint{}, err
	}
	c, err := audit.ParseCheckpoint(note, l.vkey)
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
func checkConsistency(text []byte, key string) (from, to audit.Checkpoint, err error) {
	p, err := audit.ParseConsistencyProof(text)
	if err != nil {
		return from, to, err
	}
	return p.Check(key)
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
