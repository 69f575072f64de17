package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// recover reads all segments, gives their records to replay, and leaves the
// log ready for the next record.
func (l *Log) recover(replay func(Record) error) error {
	firsts, err := l.list()
	if err != nil {
		return err
	}
	if len(firsts) == 0 {
		head, err := l.readHead()
		if err != nil {
			return err
		}
		if head > 1 {
			return &CorruptError{Path: filepath.Join(l.dir, segmentName(head)), Reason: "segment is missing"}
		}
		return l.createSegment(1)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(l.cfg.MaxRecordBytes)))
	if err != nil {
		return fmt.Errorf("wal: open %s: %w", l.dir, err)
	}
	defer dec.Close()
	rd := &reader{dec: dec, replay: replay, next: firsts[0], max: l.cfg.MaxRecordBytes}
	for i, first := range firsts {
		if err := l.recoverSegment(rd, first, i == len(firsts)-1); err != nil {
			return err
		}
	}
	l.last = rd.next - 1
	return nil
}

// list returns the first sequences of the segments, oldest first, after
// removing what an interrupted creation or trim left.
func (l *Log) list() ([]uint64, error) {
	if err := l.disk.MkdirAll(l.dir); err != nil {
		return nil, fmt.Errorf("wal: open %s: %w", l.dir, err)
	}
	names, err := l.disk.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("wal: open %s: %w", l.dir, err)
	}
	head, err := l.readHead()
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, name := range names {
		first, isSegment := parseName(name)
		switch {
		case strings.HasSuffix(name, ".tmp"), isSegment && first < head:
			if err := l.disk.Remove(filepath.Join(l.dir, name)); err != nil {
				return nil, fmt.Errorf("wal: open %s: %w", l.dir, err)
			}
		case isSegment:
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	if len(firsts) > 0 && firsts[0] != head {
		return nil, &CorruptError{Path: filepath.Join(l.dir, segmentName(head)), Reason: "segment is missing"}
	}
	return firsts, nil
}

// recoverSegment reads one segment. Only the last one may end in a torn tail.
func (l *Log) recoverSegment(rd *reader, first uint64, last bool) error {
	path := filepath.Join(l.dir, segmentName(first))
	b, err := l.disk.ReadFile(path)
	if err != nil {
		return fmt.Errorf("wal: open %s: %w", l.dir, err)
	}
	stated, salt, err := parseHeader(b)
	if err == nil && stated != first {
		err = fmt.Errorf("segment states first sequence %d", stated)
	}
	if err == nil && first != rd.next {
		err = fmt.Errorf("records %d to %d are missing before it", rd.next, first-1)
	}
	if err != nil {
		return &CorruptError{Path: path, Reason: err.Error()}
	}
	good, bad, err := rd.read(path, b, salt)
	if err != nil {
		return err
	}
	if bad != nil && (!last || laterGroup(b[good:], salt, rd.next)) {
		return &CorruptError{Path: path, Offset: int64(good), Reason: bad.Error()}
	}
	l.segments = append(l.segments, segment{first: first, size: int64(good)})
	if !last {
		return nil
	}
	return l.reopen(path, b, good, salt, bad, rd.clean)
}

// reopen makes the last segment ready for writing. One that was not closed is
// written anew: after a failed sync the page cache can show bytes that the
// disk does not have, and records after such a hole would be lost with it.
func (l *Log) reopen(path string, b []byte, good int, salt uint32, bad error, clean bool) error {
	if bad != nil {
		torn := fmt.Sprintf("%s.torn-%d", path, good)
		if err := writeWhole(l.disk, torn, b[good:]); err != nil {
			return fmt.Errorf("wal: keep torn tail %s: %w", torn, err)
		}
		l.cfg.Logger.Warn("write-ahead log: torn tail cut off; its records were never acknowledged",
			"segment", path, "offset", good, "bytes", len(b)-good, "reason", bad.Error(), "kept_in", torn)
	}
	if bad != nil || !clean {
		if err := writeWhole(l.disk, path, b[:good]); err != nil {
			return fmt.Errorf("wal: rewrite %s: %w", path, err)
		}
	}
	f, err := l.disk.OpenAppend(path)
	if err != nil {
		return fmt.Errorf("wal: open %s: %w", path, err)
	}
	l.active, l.salt = f, salt
	return nil
}

// reader gives the records of successive segments to replay.
type reader struct {
	dec    *zstd.Decoder
	replay func(Record) error
	next   uint64 // sequence that the next record must have
	max    int64
	clean  bool // the last thing read was the mark of a closed log
}

// read returns the length of the good part of segment b and why it ends
// there, or nil at the end of the file. The error is the caller's or damage
// that a valid checksum vouches for, which no crash makes.
func (rd *reader) read(path string, b []byte, salt uint32) (good int, bad, err error) {
	at := segmentHeaderSize
	for at < len(b) {
		r, err := parse(b[at:], salt)
		if err != nil {
			return at, err, nil
		}
		rd.clean = r.flags&flagClosed != 0
		if rd.clean {
			if r.seq != rd.next-1 {
				return at, nil, &CorruptError{Path: path, Offset: int64(at), Reason: fmt.Sprintf("closed at sequence %d, expected %d", r.seq, rd.next-1)}
			}
			at += r.size()
			continue
		}
		if r.seq != rd.next {
			return at, nil, &CorruptError{Path: path, Offset: int64(at), Reason: fmt.Sprintf("sequence %d, expected %d", r.seq, rd.next)}
		}
		payload, err := rd.unpack(&r)
		if err != nil {
			return at, nil, &CorruptError{Path: path, Offset: int64(at), Reason: err.Error()}
		}
		if rd.replay != nil {
			rec := Record{Seq: r.seq, Signal: r.signal, Received: time.Unix(0, r.received).UTC(), Payload: payload}
			if err := rd.replay(rec); err != nil {
				return at, nil, fmt.Errorf("wal: replay record %d of %s: %w", r.seq, path, err)
			}
		}
		rd.next++
		at += r.size()
	}
	return at, nil, nil
}

func (rd *reader) unpack(r *stored) ([]byte, error) {
	if int64(r.rawLen) > rd.max {
		return nil, fmt.Errorf("record of %d bytes: %w", r.rawLen, ErrTooLarge)
	}
	if r.flags&flagZstd == 0 {
		return r.body, nil
	}
	p, err := rd.dec.DecodeAll(r.body, make([]byte, 0, r.rawLen))
	if err != nil {
		return nil, fmt.Errorf("unpack record %d: %w", r.seq, err)
	}
	if len(p) != int(r.rawLen) {
		return nil, fmt.Errorf("record %d has %d bytes, its header says %d", r.seq, len(p), r.rawLen)
	}
	return p, nil
}

// laterGroup reports whether b, which does not begin with a good record, holds
// one of a group that was begun after the group of record next. Then next had
// been synced and acknowledged, and its damage is no torn write. A group that
// was being written when the machine stopped can have any of its pages on disk.
func laterGroup(b []byte, salt uint32, next uint64) bool {
	for at := 1; at < len(b); {
		i := bytes.Index(b[at:], []byte(recordMagic))
		if i < 0 {
			return false
		}
		at += i
		r, err := parse(b[at:], salt)
		if err != nil {
			at++
			continue
		}
		if r.flags&flagClosed != 0 || r.group() > next {
			return true
		}
		at += r.size()
	}
	return false
}

// The head names the first sequence that the log still has. It is written by
// Trim alone.
func (l *Log) readHead() (uint64, error) {
	path := filepath.Join(l.dir, headName)
	b, err := l.disk.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("wal: open %s: %w", l.dir, err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n == 0 {
		return 0, &CorruptError{Path: path, Reason: fmt.Sprintf("%q is no sequence", b)}
	}
	return n, nil
}

func (l *Log) writeHead(first uint64) error {
	return writeWhole(l.disk, filepath.Join(l.dir, headName), fmt.Appendf(nil, "%d\n", first))
}
