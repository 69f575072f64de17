package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

const (
	manifestName   = "segments.json"
	manifestFormat = "kaizen-segments"
	// maxManifest bounds the file: about 300,000 segments.
	maxManifest = 256 << 20
)

// manifest is segments.json: the sealed segments, which come first in the
// ledger, and the right edge of the tree at their end, so that opening reads
// none of them.
type manifest struct {
	records []record
	edge    []merkle.Hash
}

// record describes one sealed segment.
type record struct {
	base, count int64
	bytes       int64 // of the lines
	stored      int64 // of the files .jsonl.zst, .idx, .nodes and .l0 together
	minTime     int64 // nanoseconds since 1970
	maxTime     int64
	minID       uint64 // milliseconds of the ULIDs
	maxID       uint64
	root        merkle.Hash // of the tree at the end of the segment
	// SHA-256 of the lines and of the files.
	raw, zst, idx, nodes, l0 merkle.Hash
	// system lists the actions of the ledger's own entries in the segment, see
	// systemActions. Empty for one that was sealed before this was written down.
	system string
	// entry is the index of the ledger's own entry that says the same, prunedAt
	// that of the one about the removal of lines and index; -1 for none.
	entry, prunedAt int64
}

func (r *record) end() int64   { return r.base + r.count }
func (r *record) pruned() bool { return r != nil && r.prunedAt >= 0 }

// end is the number of entries in sealed segments.
func (m *manifest) end() int64 {
	if len(m.records) == 0 {
		return 0
	}
	return m.records[len(m.records)-1].end()
}

// encode gives the bytes of the file: a line for each segment, and at the end
// one with the hash of what comes before.
func (m *manifest) encode() []byte {
	b := append([]byte(nil), `{"format":"`+manifestFormat+`","version":`...)
	b = strconv.AppendInt(b, formatVersion, 10)
	b = append(b, `,"segments":`...)
	b = strconv.AppendInt(b, int64(len(m.records)), 10)
	b = append(b, `,"edge":[`...)
	for i, h := range m.edge {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendHash(b, h)
	}
	b = append(b, "]}\n"...)
	for i := range m.records {
		b = append(m.records[i].append(b), '\n')
	}
	sum := sha256.Sum256(b)
	return append(appendHash(append(b, `{"sha256":`...), sum), "}\n"...)
}

func appendHash(b []byte, h merkle.Hash) []byte {
	return append(hex.AppendEncode(append(b, '"'), h[:]), '"')
}

// append is one line of the manifest; the ledger's own entry about the segment
// has the same fields but the last.
func (r *record) append(b []byte) []byte {
	num := func(name string, n int64) {
		b = strconv.AppendInt(append(append(append(b, `,"`...), name...), `":`...), n, 10)
	}
	hash := func(name string, h merkle.Hash) {
		b = appendHash(append(append(append(b, `,"`...), name...), `":`...), h)
	}
	b = strconv.AppendInt(append(b, `{"base":`...), r.base, 10)
	num("count", r.count)
	num("bytes", r.bytes)
	num("stored", r.stored)
	b = append(appendTime(append(b, `,"min_time":"`...), time.Unix(0, r.minTime).UTC()), '"')
	b = append(appendTime(append(b, `,"max_time":"`...), time.Unix(0, r.maxTime).UTC()), '"')
	num("min_id", int64(r.minID))
	num("max_id", int64(r.maxID))
	hash("root", r.root)
	hash("raw", r.raw)
	hash("zst", r.zst)
	hash("idx", r.idx)
	hash("nodes", r.nodes)
	hash("l0", r.l0)
	if r.system != "" {
		b = append(append(b, `,"system":`...), r.system...)
	}
	num("entry", r.entry)
	num("pruned", r.prunedAt)
	return append(b, '}')
}

// parseManifest reads what encode writes, and nothing else.
func parseManifest(b []byte) (*manifest, error) {
	m := &manifest{}
	head, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return nil, errors.New("cut off")
	}
	v, err := parseJSON(head)
	if err != nil {
		return nil, err
	}
	obj, _ := v.(map[string]any)
	n, ok := indexOf(obj["segments"])
	edge, isList := obj["edge"].([]any)
	if !ok || !isList || n > int64(bytes.Count(rest, []byte("\n"))) {
		return nil, errors.New("head is damaged")
	}
	for _, h := range edge {
		hash, ok := hashOf(h)
		if !ok {
			return nil, errors.New("edge is damaged")
		}
		m.edge = append(m.edge, hash)
	}
	m.records = make([]record, n)
	for i := range m.records {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if err := m.records[i].parse(line); err != nil {
			return nil, fmt.Errorf("segment %d: %w", i, err)
		}
		if want := int64(0); i > 0 {
			want = m.records[i-1].end()
			if m.records[i].base != want {
				return nil, fmt.Errorf("segment %d begins at %d, want %d", i, m.records[i].base, want)
			}
		} else if m.records[i].base != want {
			return nil, fmt.Errorf("first segment begins at %d", m.records[i].base)
		}
	}
	if !bytes.Equal(m.encode(), b) {
		return nil, errors.New("not in canonical form, or its hash is wrong")
	}
	if _, err := merkle.NewTree(m.end(), m.edge); err != nil {
		return nil, err
	}
	return m, nil
}

func hashOf(v any) (h merkle.Hash, ok bool) {
	s, _ := v.(string)
	b, err := hex.DecodeString(s)
	return merkle.Hash(append(b, make([]byte, len(h))...)[:len(h)]), err == nil && len(b) == len(h)
}

func (r *record) parse(line []byte) error {
	v, err := parseJSON(line)
	if err != nil {
		return err
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return errors.New("not an object")
	}
	return r.fill(obj)
}

// fill takes the fields of a record from a JSON object.
func (r *record) fill(obj map[string]any) error {
	r.entry, r.prunedAt = -1, -1
	var minID, maxID int64
	for name, dst := range map[string]*int64{
		"base": &r.base, "count": &r.count, "bytes": &r.bytes, "stored": &r.stored,
		"min_id": &minID, "max_id": &maxID, "entry": &r.entry, "pruned": &r.prunedAt,
	} {
		v, have := obj[name]
		if !have && (name == "entry" || name == "pruned") {
			continue
		}
		n, ok := signedIndex(v)
		if !ok {
			return fmt.Errorf("%s is not a number", name)
		}
		*dst = n
	}
	for name, dst := range map[string]*int64{"min_time": &r.minTime, "max_time": &r.maxTime} {
		s, _ := obj[name].(string)
		t, ok := parseTime(s)
		if !ok || t.Before(minTime) || t.After(maxTime) {
			return fmt.Errorf("%s is not a time", name)
		}
		*dst = t.UnixNano()
	}
	for name, dst := range map[string]*merkle.Hash{
		"root": &r.root, "raw": &r.raw, "zst": &r.zst, "idx": &r.idx, "nodes": &r.nodes, "l0": &r.l0,
	} {
		var ok bool
		if *dst, ok = hashOf(obj[name]); !ok {
			return fmt.Errorf("%s is not a hash", name)
		}
	}
	if v, ok := obj["system"]; ok {
		list, _ := v.([]any)
		if r.system, ok = systemList(list); !ok || list == nil {
			return errors.New("system is not a list of the ledger's actions")
		}
	}
	const most = 1 << 31
	if r.base < 0 || r.count <= 0 || r.count > most || r.base > 1<<62 || r.bytes < 0 || minID < 0 || maxID < 0 {
		return errors.New("numbers out of range")
	}
	r.minID, r.maxID = uint64(minID), uint64(maxID)
	return nil
}

// signedIndex is indexOf that takes -1 as well.
func signedIndex(v any) (int64, bool) {
	if n, ok := v.(interface{ Int64() (int64, error) }); ok {
		i, err := n.Int64()
		return i, err == nil && i >= -1
	}
	return 0, false
}

// readManifest reads segments.json. A ledger without one has no sealed segments.
func readManifest(fsys durable.FS, dir string) (*manifest, []byte, error) {
	b, err := durable.ReadFile(fsys, filepath.Join(dir, manifestName), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return &manifest{}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := parseManifest(b)
	if err != nil {
		return nil, b, &TamperError{Path: manifestName, Index: -1, Reason: err.Error()}
	}
	return m, b, nil
}
