// Package wal is a write-ahead log: what Append has returned for is on disk,
// and Open gives it back in order, whatever happened in between.
//
//	l, err := wal.Open(dir, wal.Config{}, func(r wal.Record) error { return apply(r) })
//	seq, err := l.Append(ctx, wal.Traces, time.Now(), payload) // returns after the sync
//
// Records stand in segments with checksums, and share syncs in groups. A tail
// that a crash tore is cut off, kept beside the log and reported; damage
// anywhere else is a [*CorruptError], and the log does not open.
//
// The caller makes sure that one process at a time has the directory.
package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Errors on which a caller branches.
var (
	// ErrClosed means that the log was closed.
	ErrClosed = errors.New("log closed")
	// ErrBroken means that a sync failed, so that what is on disk is unknown.
	// The log takes nothing more until it is opened again.
	ErrBroken = errors.New("log broken by a failed sync")
	// ErrUnconfirmed means that the caller stopped waiting for a record that
	// may become durable all the same.
	ErrUnconfirmed = errors.New("append not confirmed")
	// ErrTooLarge means that a payload exceeds [Config.MaxRecordBytes].
	ErrTooLarge = errors.New("record too large")
)

// CorruptError says where a log is damaged.
type CorruptError struct {
	Path   string // of the segment
	Offset int64  // of the first byte that cannot be read
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("wal: %s is damaged at offset %d: %s", e.Path, e.Offset, e.Reason)
}

// Config tunes a [Log]. The zero value is fit for production.
type Config struct {
	// SegmentBytes is the size at which a new segment is begun. If zero,
	// 64 MiB. A group of records is never split, so a segment can be larger.
	SegmentBytes int64
	// MaxRecordBytes bounds a payload, unpacked. If zero, 256 MiB.
	MaxRecordBytes int64
	// Logger is told what recovery cut off. If nil, nothing is logged.
	Logger *slog.Logger

	disk disk // tests only
}

// maxGroupBytes bounds a group, so that the first record of one does not wait
// for a long write. Measured here, 8 MiB take about 10 ms.
const maxGroupBytes = 8 << 20

// minZstdBytes is the length from which packing a payload is worth its time.
const minZstdBytes = 256

// Log is a write-ahead log. Its methods may be called at once.
type Log struct {
	dir  string
	cfg  Config
	disk disk
	enc  *zstd.Encoder // EncodeAll may be called at once

	queue   chan *write // unbuffered: taken means that the writer has it
	closing chan struct{}
	once    sync.Once
	done    chan struct{} // closed when the writer has returned
	closed  error         // what closing came to; read after done

	// The writer's own.
	active file
	salt   uint32
	last   uint64
	broken error
	buf    []byte

	mu       sync.Mutex
	segments []segment // guarded by mu, oldest first; the last one is active
}

type write struct {
	rec  stored
	done chan struct{} // closed when seq and err are set
	err  error
}

// Open opens the log in dir, creating it if absent, and gives replay each
// record in order before it returns. An error of replay ends it. Damage is a
// [*CorruptError], except for a torn tail.
func Open(dir string, cfg Config, replay func(Record) error) (*Log, error) {
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = 64 << 20
	}
	if cfg.MaxRecordBytes <= 0 {
		cfg.MaxRecordBytes = 256 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.disk == nil {
		cfg.disk = osDisk{}
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(4))
	if err != nil {
		return nil, fmt.Errorf("wal: open %s: %w", dir, err)
	}
	l := &Log{
		dir: dir, cfg: cfg, disk: cfg.disk, enc: enc,
		queue: make(chan *write), closing: make(chan struct{}), done: make(chan struct{}),
	}
	if err := l.recover(replay); err != nil {
		return nil, err
	}
	go l.run()
	return l, nil
}

// Append makes payload durable and returns its sequence after the sync. It
// does not keep payload. When ctx ends while the record is being written the
// error is [ErrUnconfirmed].
func (l *Log) Append(ctx context.Context, signal Signal, received time.Time, payload []byte) (uint64, error) {
	if int64(len(payload)) > l.cfg.MaxRecordBytes {
		return 0, fmt.Errorf("wal: append %d bytes: %w (limit %d)", len(payload), ErrTooLarge, l.cfg.MaxRecordBytes)
	}
	w := &write{rec: l.pack(signal, received, payload), done: make(chan struct{})}
	select {
	case l.queue <- w:
	case <-l.closing:
		return 0, fmt.Errorf("wal: append: %w", ErrClosed)
	case <-ctx.Done():
		return 0, fmt.Errorf("wal: append: %w", context.Cause(ctx))
	}
	select {
	case <-w.done:
		return w.rec.seq, w.err
	case <-ctx.Done():
		return 0, fmt.Errorf("wal: append: %w: %w", ErrUnconfirmed, context.Cause(ctx))
	}
}

// pack copies payload into a record, smaller where that helps.
func (l *Log) pack(signal Signal, received time.Time, payload []byte) stored {
	r := stored{signal: signal, received: received.UnixNano(), rawLen: uint32(len(payload))}
	if len(payload) >= minZstdBytes {
		if z := l.enc.EncodeAll(payload, make([]byte, 0, len(payload)/2)); len(z) < len(payload) {
			r.body, r.flags = z, flagZstd
			return r
		}
	}
	r.body = append([]byte(nil), payload...)
	return r
}

// Close writes a mark that the log ended whole, and closes it. Records that
// the writer has taken are finished first.
func (l *Log) Close() error {
	l.once.Do(func() { close(l.closing) })
	<-l.done
	return l.closed
}

// SizeBytes returns the size of all segments.
func (l *Log) SizeBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, s := range l.segments {
		n += s.size
	}
	return n
}

// Trim removes the oldest segments while all are larger than maxBytes
// together. The one that is written to stays.
func (l *Log) Trim(maxBytes int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var total int64
	for _, s := range l.segments {
		total += s.size
	}
	n := 0
	for n < len(l.segments)-1 && total > maxBytes {
		total -= l.segments[n].size
		n++
	}
	if n == 0 {
		return nil
	}
	// The head first: a crash in between leaves segments that the next open
	// knows to be done with, never a gap that it would take for damage.
	if err := l.writeHead(l.segments[n].first); err != nil {
		return fmt.Errorf("wal: trim %s: %w", l.dir, err)
	}
	for _, s := range l.segments[:n] {
		if err := l.disk.Remove(filepath.Join(l.dir, segmentName(s.first))); err != nil {
			return fmt.Errorf("wal: trim %s: %w", l.dir, err)
		}
	}
	l.segments = append([]segment(nil), l.segments[n:]...)
	return nil
}
