package pgwire

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// pingAfter is how long a connection may have been idle before it is asked
	// whether it still works.
	pingAfter = time.Second
	// maxAge bounds the life of a connection, so that a change of the server's
	// address or settings arrives.
	maxAge = time.Hour
	// closing bounds how long a goodbye may take.
	closing = time.Second
)

// ErrPoolClosed is returned after [Pool.Close].
var ErrPoolClosed = errors.New("the connections are closed")

// Pool is up to a fixed number of connections for any number of goroutines.
type Pool struct {
	config *pgconn.Config
	slots  chan struct{} // one for each connection that may be in use
	done   chan struct{} // closed by Close
	once   sync.Once

	mu   sync.Mutex // guards idle
	idle []*Conn    // the one that was used last is at the end
}

// NewPool returns a pool of at most size connections, made when they are needed.
func NewPool(config *pgconn.Config, size int) *Pool {
	return &Pool{config: config, slots: make(chan struct{}, size), done: make(chan struct{})}
}

// Acquire gives a connection to the caller, who releases it.
func (p *Pool) Acquire(ctx context.Context) (*Conn, error) {
	select {
	case <-p.done:
		return nil, ErrPoolClosed
	default:
	}
	select {
	case p.slots <- struct{}{}:
	case <-p.done:
		return nil, ErrPoolClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c, err := p.take(ctx)
	if err != nil {
		<-p.slots
		return nil, err
	}
	return c, nil
}

// take finds an idle connection that works, or makes one.
func (p *Pool) take(ctx context.Context) (*Conn, error) {
	for {
		p.mu.Lock()
		var c *Conn
		if n := len(p.idle); n > 0 {
			c, p.idle = p.idle[n-1], p.idle[:n-1]
		}
		p.mu.Unlock()
		switch {
		case c == nil:
			return Connect(ctx, p.config.Copy())
		case time.Since(c.made) > maxAge, time.Since(c.idle) > pingAfter && c.pg.Ping(ctx) != nil:
			drop(c)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
		default:
			return c, nil
		}
	}
}

// Release takes a connection back. One that broke, or is still in a
// transaction, is closed.
func (p *Pool) Release(c *Conn) {
	if c.usable() {
		c.idle = time.Now()
		p.mu.Lock()
		p.idle = append(p.idle, c)
		p.mu.Unlock()
	} else {
		drop(c)
	}
	<-p.slots
}

// drop closes a connection that nobody needs: there is nothing to do about an
// error.
func drop(c *Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	_ = c.Close(ctx)
}

// Close waits for all connections to be released and closes them. It may be
// called again.
func (p *Pool) Close() {
	p.once.Do(func() {
		close(p.done)
		for range cap(p.slots) {
			p.slots <- struct{}{}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.idle {
			drop(c)
		}
		p.idle = nil
	})
}

// Query is [Conn.Query] on any connection, which is released with the rows.
func (p *Pool) Query(ctx context.Context, sql string, args ...any) (*Rows, error) {
	c, err := p.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		p.Release(c)
		return nil, err
	}
	rows.release = p.Release
	return rows, nil
}

// QueryRow is [Conn.QueryRow] on any connection.
func (p *Pool) QueryRow(ctx context.Context, sql string, args ...any) Row {
	rows, err := p.Query(ctx, sql, args...)
	return Row{rows, err}
}

// Exec is [Conn.Exec] on any connection.
func (p *Pool) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	c, err := p.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer p.Release(c)
	return c.Exec(ctx, sql, args...)
}

// InTx is [Conn.InTx] on any connection, which f gets.
func (p *Pool) InTx(ctx context.Context, mode string, f func(*Conn) error) error {
	c, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	defer p.Release(c)
	return c.InTx(ctx, mode, func() error { return f(c) })
}
