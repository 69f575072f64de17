package agentlog

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// Stream is a sink that writes each line to an [io.Writer] at once, with one
// call of its Write. It does not close the writer.
type Stream struct {
	mu     sync.Mutex
	w      io.Writer
	closed bool
}

// NewStream returns a sink that writes to w. Writes do not overlap.
func NewStream(w io.Writer) *Stream { return &Stream{w: w} }

// Write implements [Sink].
func (s *Stream) Write(r *Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if _, err := s.w.Write(r.Line); err != nil {
		return fmt.Errorf("agentlog: write to stream: %w", err)
	}
	return nil
}

// Close implements [Sink].
func (s *Stream) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
