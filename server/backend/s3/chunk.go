package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// chunkLen is how many batches make a chunk: so many are read one by one when
// the ledger is opened, at most.
const chunkLen = 32

// maxChunkBytes is the size from which on batches stay by themselves: reading
// them one by one costs little more then.
const maxChunkBytes = 16 << 20

// chunk is a run of batches in memory.
type chunk struct {
	base    int64
	entries []audit.Entry // without details and metadata
	lines   [][]byte
	bytes   int

	once sync.Once
	ids  map[ulid.ULID]int64
}

// index finds an id.
func (c *chunk) index(id ulid.ULID) (int64, bool) {
	c.once.Do(func() {
		c.ids = make(map[ulid.ULID]int64, len(c.entries))
		for i := range c.entries {
			c.ids[ulid.MustParseStrict(c.entries[i].ID)] = c.base + int64(i)
		}
	})
	i, ok := c.ids[id]
	return i, ok
}

// chunk reads a part of a chunk, which must be what was signed for.
func (l *Ledger) chunk(ctx context.Context, p *part) (*chunk, error) {
	key := numbered(batchPrefix, p.Batch)
	if c, ok := l.cache.chunk(key); ok {
		return c, nil
	}
	name := numbered(chunkPrefix, p.Batch/l.cfg.chunkLen)
	var body []byte
	var err error
	if p.whole {
		body, err = l.bucket.getMost(ctx, name, p.Stored)
	} else {
		body, err = l.bucket.getRange(ctx, name, p.at, p.Stored)
	}
	if errors.Is(err, errAbsent) {
		name = key
		body, err = l.batches(ctx, &p.ref)
	}
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != p.Sum {
		return nil, &audit.TamperError{Path: name, Index: p.Base, Reason: "batches are not those that were signed", Want: p.Sum, Got: hex.EncodeToString(sum[:])}
	}
	c, err := parseChunk(&p.ref, body)
	if err != nil {
		return nil, &audit.TamperError{Path: name, Index: p.Base, Reason: err.Error()}
	}
	l.cache.addChunk(key, c)
	return c, nil
}

// batches reads a run of batches one by one.
func (l *Ledger) batches(ctx context.Context, r *ref) ([]byte, error) {
	all := make([]byte, 0, r.Stored)
	for n := r.Batch; n < r.Batch+r.Batches; n++ {
		body, err := l.batch(ctx, n, r.Stored)
		if err != nil {
			return nil, err
		}
		if all = append(all, body...); int64(len(all)) > r.Stored {
			break // they are not those of before
		}
	}
	return all, nil
}

// batch reads one of a run that has stored bytes.
func (l *Ledger) batch(ctx context.Context, n, stored int64) ([]byte, error) {
	name := numbered(batchPrefix, n)
	body, err := l.bucket.getMost(ctx, name, stored)
	if errors.Is(err, errAbsent) {
		err = &audit.TamperError{Path: name, Index: -1, Reason: "batch is missing"}
	}
	return body, err
}

func parseChunk(r *ref, body []byte) (*chunk, error) {
	c := &chunk{base: r.Base, bytes: len(body)}
	terms := map[string]string{}
	for len(body) > 0 {
		_, lines, rest, err := cutBatch(body)
		if err != nil {
			return nil, err
		}
		for len(lines) > 0 {
			line, more, _ := bytes.Cut(lines, []byte("\n"))
			lines = more
			e, err := audit.DecodeLine(line)
			if err != nil {
				return nil, err
			}
			c.lines = append(c.lines, line)
			c.entries = append(c.entries, compact(e, c.base+int64(len(c.entries)), terms))
		}
		body = rest
	}
	if int64(len(c.entries)) != r.Count {
		return nil, errors.New("batches have another number of entries than was signed")
	}
	return c, nil
}

// compact keeps one copy of texts that come again and again.
func compact(e audit.Entry, index int64, terms map[string]string) audit.Entry {
	for _, field := range []*string{&e.AgentID, &e.Action, &e.UserID, &e.Subject, &e.SessionID, &e.RunID} {
		known, ok := terms[*field]
		if !ok {
			known = string(append([]byte(nil), *field...))
			terms[known] = known
		}
		*field = known
	}
	e.Index, e.Details, e.Metadata = index, nil, nil
	return e
}

// leaf is the hash of a line.
func (c *chunk) leaf(index int64) tlog.Hash { return tlog.RecordHash(c.lines[index-c.base]) }

// maxCachedBytes bounds the chunks in memory by the size of their batches; their
// entries take about as much again. The newest one is kept in any case.
const maxCachedBytes = 32 << 20

// maxCachedPages bounds the pages: 64 refs each, about 20 KB. Of large chunks as
// many are known, each with at most 32 parts.
const maxCachedPages = 256

// cache keeps what was read last.
type cache struct {
	mu     sync.Mutex // guards what follows
	chunks []cached   // least recently used first
	bytes  int
	pages  map[string][]ref
	parts  map[int64][]part // of large chunks, by their first batch
}

type cached struct {
	name string
	*chunk
}

func (c *cache) chunk(name string) (*chunk, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, x := range c.chunks {
		if x.name == name {
			c.chunks = append(append(c.chunks[:i:i], c.chunks[i+1:]...), x)
			return x.chunk, true
		}
	}
	return nil, false
}

func (c *cache) addChunk(name string, x *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chunks = append(c.chunks, cached{name, x})
	for c.bytes += x.bytes; c.bytes > maxCachedBytes && len(c.chunks) > 1; c.chunks = c.chunks[1:] {
		c.bytes -= c.chunks[0].bytes
	}
}

func (c *cache) page(name string) ([]ref, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, ok := c.pages[name]
	return list, ok
}

func (c *cache) addPage(name string, list []ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pages == nil || len(c.pages) >= maxCachedPages {
		c.pages = map[string][]ref{}
	}
	c.pages[name] = list
}

func (c *cache) partsOf(batch int64) ([]part, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, ok := c.parts[batch]
	return list, ok
}

func (c *cache) addParts(batch int64, list []part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parts == nil || len(c.parts) >= maxCachedPages {
		c.parts = map[int64][]part{}
	}
	c.parts[batch] = list
}
