// Package tlog serves an audit ledger as a C2SP transparency log
// (c2sp.org/tlog-tiles), so that programs that others wrote can read and check
// it: the signed checkpoint, the keys that have signed, the tiles of the Merkle
// tree, and the entries in bundles of 256.
//
//	mux.Handle("/log/", http.StripPrefix("/log/", tlog.New(tlog.Config{Ledger: l})))
//
// Nothing is stored for it: tiles come from the ledger's hashes, bundles from
// its segments, when they are asked for. Entries that retention removed answer
// 410; their hashes, and so every proof, stay.
package tlog

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/kaizen-go/kaizen/audit"
)

// Ledger is what is served. [*audit.Ledger] and [*audit.Reader] are such.
type Ledger interface {
	// Checkpoint is the newest signed one; it covers all that Tile and Bundle
	// return when asked for later.
	Checkpoint() audit.Checkpoint
	// Tile and Bundle return the bytes of a tile and of an entry bundle, or an
	// error that wraps [audit.ErrNotFound] or [audit.ErrPruned].
	Tile(level int, index int64, width int) ([]byte, error)
	Bundle(ctx context.Context, index int64, width int) ([]byte, error)
}

// Keyed is a [Ledger] that knows the keys that it has had. [*audit.Ledger] and
// [*audit.Reader] are such; of any other the present key alone is served.
type Keyed interface {
	KeyRanges() ([]audit.KeyRange, error)
}

// Config tunes a handler. Ledger must be set.
type Config struct {
	Ledger Ledger
	// Witnessed returns the newest checkpoint with the cosignatures of
	// witnesses, of size 0 if there is none. If nil, there never is. It is
	// served as checkpoint while it covers all entries, and always as
	// checkpoint.witnessed.
	Witnessed func() audit.Checkpoint
	// Private says that answers are for those who have a key: caches that
	// serve many must not keep them.
	Private bool
	// Logger is told of faults. If nil, nothing is logged.
	Logger *slog.Logger
}

// New makes the handler. It expects paths without the log's prefix:
// "checkpoint", "tile/0/000".
func New(cfg Config) http.Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return handler{cfg}
}

type handler struct{ cfg Config }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "a log is read with GET", http.StatusMethodNotAllowed)
		return
	}
	switch path := strings.TrimPrefix(r.URL.Path, "/"); path {
	case "checkpoint":
		h.note(w, h.newest())
	case "checkpoint.witnessed":
		h.note(w, h.witnessed())
	case "keys":
		h.keys(w, r)
	default:
		t, ok := parseTile(path)
		if !ok {
			http.Error(w, "no such path in a log: checkpoint, keys, tile/<level>/<index>, tile/entries/<index>", http.StatusNotFound)
			return
		}
		h.tile(w, r, t)
	}
}

// newest is the newest checkpoint, with cosignatures if it has some.
func (h handler) newest() audit.Checkpoint {
	c := h.cfg.Ledger.Checkpoint()
	if w := h.witnessed(); w.Note != "" && w.Size == c.Size && w.Root == c.Root {
		return w
	}
	return c
}

func (h handler) witnessed() audit.Checkpoint {
	if h.cfg.Witnessed == nil {
		return audit.Checkpoint{}
	}
	return h.cfg.Witnessed()
}

func (h handler) note(w http.ResponseWriter, c audit.Checkpoint) {
	if c.Note == "" {
		http.Error(w, "no witness has cosigned a checkpoint yet", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache") // it is another one after each append
	h.write(w, []byte(c.Note))
}

// keysFor is how long a cache may keep the keys: a new one is in the log from
// the first moment, so a reader that has not heard of it asks again.
const keysFor = 60

// keys answers with a line for each key that the ledger has had, the oldest
// first: the size from which on it signed, the largest checkpoint that counts
// under it ("-" for the present key), and the key.
func (h handler) keys(w http.ResponseWriter, r *http.Request) {
	var ranges []audit.KeyRange
	if l, ok := h.cfg.Ledger.(Keyed); ok {
		var err error
		if ranges, err = l.KeyRanges(); err != nil {
			h.fail(w, r, err)
			return
		}
	} else if l, ok := h.cfg.Ledger.(interface{ VerifierKey() string }); ok {
		ranges = []audit.KeyRange{{Key: l.VerifierKey(), Until: -1}}
	}
	var b []byte
	for _, k := range ranges {
		until := "-"
		if k.Until >= 0 {
			until = strconv.FormatInt(k.Until, 10)
		}
		b = fmt.Appendf(b, "%d %s %s\n", k.From, until, k.Key)
	}
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256(b))
	w.Header().Set("Cache-Control", h.audience()+", max-age="+strconv.Itoa(keysFor))
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	h.write(w, b)
}

// audience says which caches may keep an answer.
func (h handler) audience() string {
	if h.cfg.Private {
		return "private"
	}
	return "public"
}

func (h handler) tile(w http.ResponseWriter, r *http.Request, t tile) {
	var b []byte
	var err error
	if t.level == entriesLevel {
		b, err = h.cfg.Ledger.Bundle(r.Context(), t.index, t.width)
	} else {
		b, err = h.cfg.Ledger.Tile(t.level, t.index, t.width)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	// What a path names never changes: a year is as long as caches count.
	w.Header().Set("Cache-Control", h.audience()+", max-age=31536000, immutable")
	w.Header().Set("Content-Type", "application/octet-stream")
	if t.level != entriesLevel { // hashes do not compress
		h.write(w, b)
		return
	}
	w.Header().Set("Vary", "Accept-Encoding")
	if !acceptsGzip(r.Header.Values("Accept-Encoding")) {
		h.write(w, b)
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	_, err = z.Write(b)
	h.sent(errors.Join(err, z.Close()))
}

func (h handler) write(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, err := w.Write(b)
	h.sent(err)
}

// sent takes note of an answer that did not get through: most often a client
// that has gone.
func (h handler) sent(err error) {
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		h.cfg.Logger.Debug("log: answer was not sent", "error", err)
	}
}

func (h handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, audit.ErrPruned):
		http.Error(w, "these entries were removed by retention; their hashes are still served", http.StatusGone)
	case errors.Is(err, audit.ErrNotFound):
		http.Error(w, "the log has not that many entries", http.StatusNotFound)
	case r.Context().Err() != nil: // nobody is there to read an answer
	default:
		h.cfg.Logger.Error("log: cannot read the ledger", "path", r.URL.Path, "error", err)
		http.Error(w, "the ledger cannot be read: see the server's log", http.StatusInternalServerError)
	}
}

// acceptsGzip reports whether a client that sent these headers takes gzip. One
// that sent none gets plain bytes.
func acceptsGzip(headers []string) bool {
	for _, h := range headers {
		for item := range strings.SplitSeq(h, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(item), ";")
			name = strings.TrimSpace(name)
			if !strings.EqualFold(name, "gzip") && name != "*" {
				continue
			}
			weight, hasWeight := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
			q, err := strconv.ParseFloat(weight, 64)
			if !hasWeight || err == nil && q > 0 {
				return true
			}
		}
	}
	return false
}
