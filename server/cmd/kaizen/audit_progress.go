package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// progress shows how far a long piece of work is, on a terminal only. Its
// methods may be called at once: a ledger also works in the background.
type progress struct {
	w     io.Writer
	every time.Duration // between two lines

	mu    sync.Mutex // guards what follows
	on    bool
	shown time.Time
	verb  string
}

// startProgress returns what shows work on w. The first second passes without a
// line.
func startProgress(w io.Writer, verb string) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, every: time.Second, on: ok && isTerminal(f), shown: time.Now(), verb: verb}
}

// show is called with the number of entries that are done, and how many there
// are.
func (p *progress) show(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(p.verb, done, total)
}

// work is the Progress of an [audit.Config].
func (p *progress) work(work string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	verb := p.verb
	switch work {
	case "seal":
		verb = "sealed"
	case "archive":
		verb = "archived"
	case "prune":
		verb = "removed"
	}
	p.print(verb, done, total)
}

func (p *progress) print(verb string, done, total int64) {
	if !p.on || total == 0 || time.Since(p.shown) < p.every {
		return
	}
	p.shown = time.Now()
	fmt.Fprintf(p.w, "\r%s %d of %d entries (%d%%)\x1b[K", verb, done, total, done*100/total)
}

// end takes the line away; nothing is shown any more. It may be called again.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on {
		p.on = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
