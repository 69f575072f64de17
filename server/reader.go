package server

import (
	"context"
	"errors"
	"net/http"
)

// Reader answers the JSON API over a data directory that no server holds. It
// has the directory's lock until [Reader.Close].
type Reader struct {
	api   http.Handler
	stops stopList
}

// OpenReader opens the data directory dir for command, whose name others see
// while they wait for it. It creates nothing. When another process holds the
// directory the error wraps [ErrLocked].
func OpenReader(ctx context.Context, dir, command string) (*Reader, error) {
	r := &Reader{}
	if err := r.open(ctx, dir, command); err != nil {
		return nil, errors.Join(err, r.stops.run(ctx))
	}
	return r, nil
}

func (r *Reader) open(ctx context.Context, dir, command string) error {
	l, err := takeLock(ctx, dir, command)
	if err != nil {
		return err
	}
	r.stops.addClose("lock", l.release)
	r.api = http.NotFoundHandler()
	return nil
}

// Handler answers what is under /api/, without any check of who asks.
func (r *Reader) Handler() http.Handler { return r.api }

// Close closes the stores and gives the lock up.
func (r *Reader) Close() error { return r.stops.run(context.Background()) }
