package s3

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// The objects of a ledger, below its prefix:
//
//	ledger.json           name and first public key; created once
//	batch/<n>             the n-th group of entries; created once
//	chunk/<k>             the batches 32k to 32k+31, one after the other; created once
//	state/<k>             what must be known to go on after k chunks, signed; created once
//	page/<level>/<n>      64 references that a state has no room for; created once
//	tile/<level>/<n>      a full C2SP tile, 256 hashes; created once
//	checkpoint/<size>     a signed checkpoint; created once
//	cosigned/<size>       a checkpoint with signatures of witnesses; created once
//	latest                the newest batch and state that its writer knew of; replaced
//
// Numbers in names have 20 digits, so that names sort as they do. Chunks, states,
// pages and tiles hold nothing that does not follow from the batches.
const (
	ledgerName       = "ledger.json"
	batchPrefix      = "batch/"
	chunkPrefix      = "chunk/"
	statePrefix      = "state/"
	pagePrefix       = "page/"
	tilePrefix       = "tile/"
	checkpointPrefix = "checkpoint/"
	cosignedPrefix   = "cosigned/"
	latestName       = "latest"
)

// leveled is the name of a tile or page.
func leveled(prefix string, level int, n int64) string {
	return fmt.Sprintf("%s%d/%020d", prefix, level, n)
}

func numbered(prefix string, n int64) string { return fmt.Sprintf("%s%020d", prefix, n) }

// number reads what numbered wrote.
func number(prefix, name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, ok && err == nil && numbered(prefix, n) == name
}

// identity is ledger.json.
type identity struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Origin  string `json:"origin"`
	// Key is the first one: batches say when another takes over.
	Key string `json:"vkey"`
}

func identityJSON(origin, vkey string) []byte {
	b, err := json.Marshal(identity{"kaizen-ledger-s3", 1, origin, vkey})
	if err != nil {
		panic("s3: " + err.Error()) // strings and a number
	}
	return append(b, '\n')
}

// batchHeader is the first line of a batch; after it come Bytes bytes: Count
// stored lines, each with its newline.
type batchHeader struct {
	Batch int64 `json:"batch"`
	Base  int64 `json:"base"`
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
	// Note is the signed checkpoint of everything up to the end of the batch.
	Note string `json:"note"`
	// Key takes over after the batch, whose last line names it, and which both
	// keys sign. Empty in all others.
	Key string `json:"vkey,omitempty"`
}

func encodeBatch(n, base int64, records []*group.Record, c group.Signed) ([]byte, error) {
	h := batchHeader{Batch: n, Base: base, Count: int64(len(records)), Note: c.Note}
	if c.Change != nil {
		h.Note, h.Key = c.Change.Note, c.Change.Key
	}
	for _, r := range records {
		h.Bytes += int64(len(r.Line)) + 1
	}
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	for _, r := range records {
		b = append(append(b, r.Line...), '\n')
	}
	return b, nil
}

// cutBatch takes the first batch off b. Lines has every line with its newline.
func cutBatch(b []byte) (h batchHeader, lines, rest []byte, err error) {
	head, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return h, nil, nil, fmt.Errorf("batch without header")
	}
	d := json.NewDecoder(bytes.NewReader(head))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return h, nil, nil, fmt.Errorf("batch header: %w", err)
	}
	if again, err := json.Marshal(h); err != nil || !bytes.Equal(again, head) {
		return h, nil, nil, fmt.Errorf("batch header is not in canonical form")
	}
	if h.Bytes < 0 || h.Bytes > int64(len(rest)) || h.Count < 1 || h.Base < 0 {
		return h, nil, nil, fmt.Errorf("batch header has wrong sizes")
	}
	lines, rest = rest[:h.Bytes], rest[h.Bytes:]
	if int64(bytes.Count(lines, []byte("\n"))) != h.Count || lines[len(lines)-1] != '\n' {
		return h, nil, nil, fmt.Errorf("batch has not %d lines", h.Count)
	}
	return h, lines, rest, nil
}
