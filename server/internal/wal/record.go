package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Signal says what a record's payload is. The log does not read payloads.
type Signal uint8

// The signals of OTLP.
const (
	Traces  Signal = 1
	Metrics Signal = 2
	Logs    Signal = 3
)

// String returns the signal's name as it stands in metric labels.
func (s Signal) String() string {
	switch s {
	case Traces:
		return "traces"
	case Metrics:
		return "metrics"
	case Logs:
		return "logs"
	}
	return fmt.Sprintf("signal(%d)", uint8(s))
}

// Record is one payload as it was appended.
type Record struct {
	// Seq numbers the records of a log from 1 without gaps.
	Seq      uint64
	Signal   Signal
	Received time.Time // UTC, to the nanosecond
	Payload  []byte    // unpacked
}

// A stored record, little endian:
//
//	 0  4  magic "KZR1": the 1 is the version of this layout
//	 4  4  CRC-32C of everything from offset 8 on, started from the segment's salt
//	 8  8  sequence
//	16  8  time of receipt, nanoseconds since 1970
//	24  1  signal
//	25  1  flags: 1 = payload is zstd, 2 = the log was closed here
//	26  2  place in its group: records of a group became durable by one sync
//	28  4  length of the payload, unpacked
//	32  4  length of the payload as stored
//	36  …  payload
//
// The salt is random for each segment, so bytes that a sender chose cannot
// pass for a record when recovery looks for one after damage.
const (
	recordMagic      = "KZR1"
	recordHeaderSize = 36

	flagZstd   = 1
	flagClosed = 2
	knownFlags = flagZstd | flagClosed

	maxGroup = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stored is a record as it stands in a segment.
type stored struct {
	seq      uint64
	received int64
	signal   Signal
	flags    uint8
	place    uint16
	rawLen   uint32
	body     []byte // as stored
}

// group returns the sequence of the first record of r's group.
func (r *stored) group() uint64 { return r.seq - uint64(r.place) }

func (r *stored) size() int { return recordHeaderSize + len(r.body) }

// append adds r, sealed with salt, to b.
func (r *stored) append(b []byte, salt uint32) []byte {
	at := len(b)
	b = append(b, recordMagic...)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, r.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.received))
	b = append(b, byte(r.signal), r.flags)
	b = binary.LittleEndian.AppendUint16(b, r.place)
	b = binary.LittleEndian.AppendUint32(b, r.rawLen)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.body)))
	b = append(b, r.body...)
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Update(salt, castagnoli, b[at+8:]))
	return b
}

var (
	errShort    = errors.New("record cut short")
	errMagic    = errors.New("no record begins here")
	errChecksum = errors.New("checksum does not match")
	errFields   = errors.New("record with impossible fields")
)

// parse reads the record at the start of b. Its body aliases b.
func parse(b []byte, salt uint32) (stored, error) {
	if len(b) < recordHeaderSize {
		return stored{}, errShort
	}
	if string(b[:4]) != recordMagic {
		return stored{}, errMagic
	}
	n := binary.LittleEndian.Uint32(b[32:])
	if uint64(n) > uint64(len(b)-recordHeaderSize) {
		return stored{}, errShort
	}
	end := recordHeaderSize + int(n)
	if crc32.Update(salt, castagnoli, b[8:end]) != binary.LittleEndian.Uint32(b[4:]) {
		return stored{}, errChecksum
	}
	r := stored{
		seq:      binary.LittleEndian.Uint64(b[8:]),
		received: int64(binary.LittleEndian.Uint64(b[16:])),
		signal:   Signal(b[24]),
		flags:    b[25],
		place:    binary.LittleEndian.Uint16(b[26:]),
		rawLen:   binary.LittleEndian.Uint32(b[28:]),
		body:     b[recordHeaderSize:end:end],
	}
	if r.flags&^knownFlags != 0 || uint64(r.place) > r.seq {
		return stored{}, errFields
	}
	if r.flags&flagZstd == 0 && r.rawLen != n {
		return stored{}, errFields
	}
	return r, nil
}
