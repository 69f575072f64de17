// Command abtest measures what full observation adds to calls of a model: the
// same calls over HTTP against a local model server, with and without it, in
// pairs.
//
// Both calls of a pair wait equally long in the server, 50 to 1,500 ms; which
// comes first alternates. Several pairs run at the same time, as in a busy agent.
// No run is discarded. The table gives the mean difference of the pairs with its
// 95 % interval, found by bootstrap: the pairs are drawn anew, with replacement,
// 10,000 times.
//
//	go run ./tools/abtest [-pairs 400] [-parallel 8] [-min 50ms] [-max 1500ms]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/kaizentest"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("abtest: ")
	cfg := config{}
	flag.IntVar(&cfg.pairs, "pairs", 400, "pairs of calls")
	flag.IntVar(&cfg.parallel, "parallel", 8, "pairs at the same time")
	flag.DurationVar(&cfg.min, "min", 50*time.Millisecond, "shortest call")
	flag.DurationVar(&cfg.max, "max", 1500*time.Millisecond, "longest call")
	flag.Uint64Var(&cfg.seed, "seed", 1, "of the lengths and the bootstrap")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, cfg); err != nil {
		log.Fatal(err)
	}
}

type config struct {
	pairs, parallel int
	min, max        time.Duration
	seed            uint64
}

func run(ctx context.Context, w io.Writer, cfg config) (err error) {
	if cfg.pairs < 2 || cfg.parallel < 1 || cfg.min < 0 || cfg.max < cfg.min {
		return errors.New("at least 2 pairs, 1 at a time, and -min up to -max")
	}
	models := kaizentest.NewModelServer(kaizentest.Script{Reply: reply})
	defer models.Close()
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // stands for the telemetry server; a sender sees what fails
	}))
	defer sink.Close()
	dir, err := os.MkdirTemp("", "abtest-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	obs, err := kaizen.Start(ctx, kaizen.Config{
		ServiceName: "abtest", Server: sink.URL, SpoolDir: filepath.Join(dir, "spool"), AuditDir: filepath.Join(dir, "audit"),
		LogWriter: io.Discard, Content: kaizen.ContentRedacted,
	})
	if err != nil {
		return err
	}
	a := &ab{cfg: cfg, url: models.URL, obs: obs, plain: newClient()}
	a.observed = obs.HTTPClient(newClient())
	pairs, err := a.measure(ctx)
	if err != nil {
		return errors.Join(err, obs.Shutdown(context.WithoutCancel(ctx)))
	}
	if err := obs.Flush(ctx); err != nil {
		return errors.Join(err, obs.Shutdown(context.WithoutCancel(ctx)))
	}
	health, entries := obs.Health(), obs.Audit().Ledger().Size()
	if err := obs.Shutdown(ctx); err != nil {
		return err
	}
	report(w, cfg, pairs)
	_, err = fmt.Fprintf(w, "recorded: %d spans sent, %d audit entries, %d entries lost\n", health.Export.Traces.Sent, entries, health.AuditDropped)
	return err
}

// newClient has connections of its own: neither side warms the other's.
func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	return &http.Client{Transport: t}
}

// reply answers after the time that the question names.
func reply(r kaizentest.Request) kaizentest.Reply {
	delay, err := time.ParseDuration(r.Messages[0].Text)
	if err != nil {
		return kaizentest.Reply{Status: http.StatusBadRequest, ErrorMessage: err.Error()}
	}
	return kaizentest.Reply{Text: strings.Repeat("An answer of some length. ", 20), Delay: delay}
}

// ab makes the calls.
type ab struct {
	cfg             config
	url             string
	obs             *kaizen.Observer
	plain, observed *http.Client
}

// pair is how long two calls took that waited equally long in the server.
type pair struct{ plain, observed time.Duration }

func (a *ab) measure(ctx context.Context) ([]pair, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for range 2 * a.cfg.parallel { // connections are opened and code is paged in; these are not part of the runs
		if _, err := a.both(ctx, time.Millisecond, false); err != nil {
			return nil, err
		}
	}
	random := rand.New(rand.NewPCG(a.cfg.seed, 0))
	delays := make([]time.Duration, a.cfg.pairs)
	for i := range delays {
		delays[i] = a.cfg.min + time.Duration(random.Int64N(int64(a.cfg.max-a.cfg.min)+1))
	}
	pairs := make([]pair, a.cfg.pairs)
	next := make(chan int)
	var workers sync.WaitGroup
	for range a.cfg.parallel {
		workers.Go(func() {
			for i := range next {
				p, err := a.both(ctx, delays[i], i%2 == 0)
				if err != nil {
					cancel(err)
				}
				pairs[i] = p
			}
		})
	}
	for i := range pairs {
		next <- i
	}
	close(next)
	workers.Wait()
	return pairs, context.Cause(ctx)
}

// both makes the two calls of a pair.
func (a *ab) both(ctx context.Context, delay time.Duration, observedFirst bool) (p pair, err error) {
	plain := func() error {
		start := time.Now()
		err := a.call(ctx, a.plain, delay)
		p.plain = time.Since(start)
		return err
	}
	observed := func() error {
		start := time.Now()
		err := a.agent(ctx, delay)
		p.observed = time.Since(start)
		return err
	}
	if observedFirst {
		return p, errors.Join(observed(), plain())
	}
	return p, errors.Join(plain(), observed())
}

// agent is the call within a run and its turn, and a tool and a log line of
// it: all that full observation records.
func (a *ab) agent(ctx context.Context, delay time.Duration) error {
	hooks := a.obs.Hooks()
	ctx = kaizen.WithRun(a.obs.Context(ctx), kaizen.Run{RunID: "run", AgentID: "agent-1", AgentName: "agent", SessionID: "session"})
	return hooks.Do(ctx, &hook.RunInfo{Input: "a question"}, func(ctx context.Context, _ *hook.Op) error {
		return hooks.Do(ctx, &hook.Iteration{Number: 1}, func(ctx context.Context, _ *hook.Op) error {
			if err := a.call(ctx, a.observed, delay); err != nil {
				return err
			}
			a.obs.Logger("abtest").InfoContext(ctx, "answered", "delay", delay)
			return hooks.Do(ctx, &hook.Tool{Name: "search"}, func(context.Context, *hook.Op) error { return nil })
		})
	})
}

// call asks the model and reads its answer, as a client library does.
func (a *ab) call(ctx context.Context, c *http.Client, delay time.Duration) (err error) {
	body := `{"model":"gpt-5-mini","messages":[{"role":"user","content":"` + delay.String() + `"}]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the model server answered %s", resp.Status)
	}
	var answer struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
