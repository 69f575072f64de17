package main

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"
)

// operation records a number of entries, as writer w, and returns when they
// are as durable as the contender promises.
type operation func(w int) error

// contender is one way to keep entries.
type contender struct {
	name      string
	writers   int
	batch     int  // entries of one operation
	reference bool // others are compared with it: it runs always
	open      func(dir string) (op operation, close func() error, err error)
}

// result is what one contender did in one round.
type result struct {
	rate     float64 // entries per second
	p50, p99 time.Duration
	cpu      time.Duration // per entry, of this process
}

// measure lets the writers of c work for the window.
func measure(c contender, op operation, window time.Duration) (result, error) {
	if err := op(0); err != nil { // the first one is for what is made lazily
		return result{}, err
	}
	took := make([][]time.Duration, c.writers)
	errs := make([]error, c.writers)
	var wg sync.WaitGroup
	cpu, start := cpuTime(), time.Now()
	end := start.Add(window)
	for w := range c.writers {
		wg.Go(func() {
			took[w] = make([]time.Duration, 0, 1<<12)
			last := time.Now()
			for last.Before(end) {
				if errs[w] = op(w); errs[w] != nil {
					return
				}
				now := time.Now()
				took[w] = append(took[w], now.Sub(last))
				last = now
			}
		})
	}
	wg.Wait()
	elapsed, used := time.Since(start), cpuTime()-cpu
	if err := errors.Join(errs...); err != nil {
		return result{}, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	entries := len(all) * c.batch
	return result{
		rate: float64(entries) / elapsed.Seconds(),
		p50:  all[len(all)/2], p99: all[len(all)*99/100],
		cpu: used / time.Duration(entries),
	}, nil
}

// cpuTime is what this process has used, in user and kernel mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median[T float64 | time.Duration](v []T) T {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
