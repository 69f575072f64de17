package wal

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
)

// A segment is named after the sequence of its first record, in 20 digits,
// and begins with, little endian:
//
//	 0  8  magic "KAIZENWL"
//	 8  4  version, 1
//	12  4  salt
//	16  8  sequence of the first record
//	24  4  CRC-32C of the 24 bytes before
const (
	segmentMagic      = "KAIZENWL"
	segmentVersion    = 1
	segmentHeaderSize = 28
	segmentSuffix     = ".wal"
	headName          = "wal.head"
)

type segment struct {
	first uint64
	size  int64
}

func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, segmentSuffix) }

// parseName returns the first sequence that a segment's name states.
func parseName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0
}

func segmentHeader(first uint64, salt uint32) []byte {
	b := append(make([]byte, 0, segmentHeaderSize), segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = binary.LittleEndian.AppendUint32(b, salt)
	b = binary.LittleEndian.AppendUint64(b, first)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseHeader(b []byte) (first uint64, salt uint32, err error) {
	switch {
	case len(b) < segmentHeaderSize:
		return 0, 0, fmt.Errorf("segment header cut short at %d bytes", len(b))
	case string(b[:8]) != segmentMagic:
		return 0, 0, fmt.Errorf("not a segment: starts with %q", b[:8])
	case crc32.Checksum(b[:24], castagnoli) != binary.LittleEndian.Uint32(b[24:]):
		return 0, 0, fmt.Errorf("segment header: %w", errChecksum)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != segmentVersion {
		return 0, 0, fmt.Errorf("segment of version %d, this program reads %d", v, segmentVersion)
	}
	return binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint32(b[12:]), nil
}

func newSalt() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails, see its documentation
	return binary.LittleEndian.Uint32(b[:])
}

// createSegment makes an empty segment durable and makes it the one that is
// written to.
func (l *Log) createSegment(first uint64) error {
	salt := newSalt()
	path := filepath.Join(l.dir, segmentName(first))
	if err := writeWhole(l.disk, path, segmentHeader(first, salt)); err != nil {
		return fmt.Errorf("wal: create segment %s: %w", path, err)
	}
	f, err := l.disk.OpenAppend(path)
	if err != nil {
		return fmt.Errorf("wal: open segment %s: %w", path, err)
	}
	l.active, l.salt = f, salt
	l.mu.Lock()
	l.segments = append(l.segments, segment{first: first, size: segmentHeaderSize})
	l.mu.Unlock()
	return nil
}
