package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kaizen-go/kaizen/audit"
)

// contenders are all that run, in the order of the table.
func contenders() []contender {
	list := []contender{
		{name: "flush", writers: 1, batch: 1, reference: true, open: openFlush},
		{name: "naive", writers: 1, batch: 1, reference: true, open: openNaive},
	}
	for _, n := range []int{1, 8, 64, 256} {
		list = append(list, contender{name: fmt.Sprintf("ledger %d", n), writers: n, batch: 1, open: openLedger(1)})
	}
	list = append(list,
		contender{name: "ledger 8x64", writers: 8, batch: 64, open: openLedger(64)},
		contender{name: "ledger 1x1000", writers: 1, batch: 1000, open: openLedger(1000)},
		contender{name: "ledger relaxed 1", writers: 1, batch: 1, open: openRelaxed},
	)
	for _, n := range []int{1, 8, 64, 256} {
		list = append(list, contender{name: fmt.Sprintf("tessera %d", n), writers: n, batch: 1, open: openTessera(n)})
	}
	return append(list,
		contender{name: "sqlite 64", writers: 64, batch: 1, open: openSQLite},
		contender{name: "postgres 1x1000", writers: 1, batch: 1000, open: openPostgres},
	)
}

// entry is one of 512 bytes when it is encoded, without what the ledger fills
// in: id and time.
func entry() audit.Entry {
	e := audit.Entry{
		AgentID: "planner-7", Action: "tool.execute", Result: audit.Success,
		UserID: "user-0193", SessionID: "session-44127", RunID: "01HZY3V9T5XKQ2M4N6P8R0S1T1",
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", SpanID: "00f067aa0ba902b7",
		Details: map[string]any{
			"tool": "web.search", "duration_ms": 184.25, "attempt": 2, "cached": false,
			"input": "weather in Oslo on the second weekend of March", "output": "",
		},
	}
	line, err := encode(e)
	if err != nil {
		panic("ledgerbench: " + err.Error())
	}
	e.Details["output"] = strings.Repeat("r", 512-1-len(line))
	return e
}

// encode is what contenders that take bytes are given: the ledger's own line.
func encode(e audit.Entry) ([]byte, error) {
	e.ID, e.Time = "01HZY3V9T5XKQ2M4N6P8R0S1T2", time.Now()
	return audit.EncodeLine(make([]byte, 0, 600), e)
}

// openNaive is one write and one fdatasync for each entry: neither hashed nor
// signed.
func openNaive(dir string) (operation, func() error, error) {
	f, err := os.OpenFile(filepath.Join(dir, "naive.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	e := entry()
	return func(int) error {
		line, err := encode(e)
		if err != nil {
			return err
		}
		if _, err := f.Write(append(line, '\n')); err != nil {
			return err
		}
		return unix.Fdatasync(int(f.Fd()))
	}, f.Close, nil
}

// openFlush is the device alone: one aligned block, written through.
func openFlush(dir string) (operation, func() error, error) {
	name := filepath.Join(dir, "flush")
	if err := os.WriteFile(name, make([]byte, 16<<20), 0o600); err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0)
	direct := err == nil
	if !direct {
		if f, err = os.OpenFile(name, os.O_RDWR, 0); err != nil {
			return nil, nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, nil, err
	}
	block, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	n := int64(0)
	op := func(int) error {
		n++
		if _, err := f.WriteAt(block, n%4096*4096); err != nil || direct {
			return err
		}
		return unix.Fdatasync(int(f.Fd()))
	}
	return op, func() error { return errors.Join(f.Close(), syscall.Munmap(block)) }, nil
}

// openLedger is ours: durable, hashed and under a signed checkpoint when the
// call returns.
func openLedger(batch int) func(string) (operation, func() error, error) {
	return func(dir string) (operation, func() error, error) {
		l, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{})
		if err != nil {
			return nil, nil, err
		}
		e := entry()
		if batch == 1 {
			return func(int) error {
				_, err := l.Append(context.Background(), e)
				return err
			}, l.Close, nil
		}
		entries := make([]audit.Entry, batch)
		for i := range entries {
			entries[i] = e
		}
		return func(int) error {
			_, err := l.AppendBatch(context.Background(), entries)
			return err
		}, l.Close, nil
	}
}

// openRelaxed is ours with the relaxed acknowledgement: queued. A full queue
// is waited for, and counts.
func openRelaxed(dir string) (operation, func() error, error) {
	l, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{})
	if err != nil {
		return nil, nil, err
	}
	e := entry()
	op := func(int) error {
		for {
			err := l.AppendAsync(e)
			if !errors.Is(err, audit.ErrFull) {
				return err
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	return op, l.Close, nil
}

// group collects entries of many writers for a store that has one: what is
// handed in during one commit makes the next.
type group struct {
	mu      sync.Mutex
	waiting []chan error
	busy    bool
	max     int
	commit  func(n int) error
}

func (g *group) add() error {
	done := make(chan error, 1)
	g.mu.Lock()
	g.waiting = append(g.waiting, done)
	lead := !g.busy
	g.busy = true
	g.mu.Unlock()
	if lead {
		go g.run()
	}
	return <-done
}

func (g *group) run() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), g.max)
		batch := g.waiting[:n:n]
		g.waiting = g.waiting[n:]
		g.busy = n > 0
		g.mu.Unlock()
		if n == 0 {
			return
		}
		err := g.commit(n)
		for _, done := range batch {
			done <- err
		}
	}
}
