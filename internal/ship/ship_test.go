package ship

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// expired returns a context that is over already.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// within returns a context with a deadline, in the time of the bubble if in one.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestSendsInOrderAndBounds(t *testing.T) {
	p := &peer{}
	cfg := lineConfig(p)
	cfg.BatchBytes, cfg.BatchItems = 200, 10
	s := start(t, cfg)
	offer(s, 0, 500)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLines(t, p.acknowledged(), 500)
	for i, size := range p.sizes {
		if size > cfg.BatchBytes {
			t.Errorf("batch %d has %d bytes, bound is %d", i, size, cfg.BatchBytes)
		}
	}
	if len(p.sizes) < 50 {
		t.Errorf("500 lines in %d batches of at most 10", len(p.sizes))
	}
	if st := check(t, s); st.Sent != 500 {
		t.Errorf("sent %d, want 500", st.Sent)
	}
}

func TestRecordOverTheBatchBoundGoesAlone(t *testing.T) {
	p := &peer{}
	cfg := lineConfig(p)
	cfg.BatchBytes = 100
	s := start(t, cfg)
	big := strings.Repeat("x", 1000)
	for _, l := range []string{"a", big, "b", "unencodable", "c"} {
		s.Offer(l)
	}
	err := s.Flush(t.Context())
	if err == nil || !strings.Contains(err.Error(), "1 records dropped") {
		t.Errorf("Flush = %v, want an error that names one dropped record", err)
	}
	if got := strings.Join(p.acknowledged(), " "); got != "a "+big+" b c" {
		t.Errorf("server has %.40q…", got)
	}
	if len(p.sizes) != 3 || p.sizes[1] != 1001 {
		t.Errorf("batch sizes %v, want the big record alone", p.sizes)
	}
	if st := check(t, s); st.Dropped[Encode] != 1 {
		t.Errorf("dropped %v, want one of encode", st.Dropped)
	}
}

func TestFlushDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{}
		cfg := lineConfig(p)
		cfg.FlushDelay, cfg.BatchItems = 200*time.Millisecond, 100
		s := start(t, cfg)
		begin := time.Now()
		offer(s, 0, 1)
		time.Sleep(199 * time.Millisecond)
		synctest.Wait()
		if n := p.attempts(); n != 0 {
			t.Fatalf("%d requests before the flush delay", n)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if n := p.attempts(); n != 1 {
			t.Fatalf("%d requests after the flush delay, want 1", n)
		}
		offer(s, 1, 101) // a full batch waits for nothing
		synctest.Wait()
		wantLines(t, p.acknowledged(), 101)
		if d := p.at[1].Sub(begin); d != 200*time.Millisecond {
			t.Errorf("the full batch went after %v", d)
		}
	})
}

func TestOfferDoesNotWait(t *testing.T) {
	release := make(chan struct{})
	p := &peer{}
	p.set(func(int, []string) (int, http.Header, string, error) { <-release; return 200, nil, "", nil })
	cfg := lineConfig(p)
	cfg.QueueBytes = 100 * (entryOverhead + 11)
	s := start(t, cfg)
	offer(s, 0, 150) // returns though the server hangs
	st := check(t, s)
	if st.Dropped[QueueFull] != 50 || st.Queued != 100 {
		t.Errorf("queued %d, dropped %v; want 100 and 50 of queue_full", st.Queued, st.Dropped)
	}
	if s.Offer(strings.Repeat("x", int(cfg.QueueBytes))) {
		t.Error("a record bigger than the queue was taken")
	}
	close(release)
	if err := s.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	wantLines(t, p.acknowledged(), 100)
	if st := check(t, s); st.Dropped[TooLarge] != 1 || st.QueuedBytes != 0 {
		t.Errorf("after: %+v", st)
	}
}

func TestRetriesFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{}
		p.down()
		cfg := lineConfig(p)
		cfg.RetryMin, cfg.RetryMax = time.Second, 8*time.Second
		s := start(t, cfg)
		offer(s, 0, 10)
		time.Sleep(time.Minute)
		synctest.Wait()
		n := p.attempts()
		if n < 8 || n > 18 { // 8 s at most between attempts, half of it at least
			t.Errorf("%d attempts in a minute", n)
		}
		for i, wire := range p.tries {
			if string(wire) != string(p.tries[0]) {
				t.Fatalf("attempt %d sent other bytes than the first", i)
			}
		}
		p.up()
		if err := s.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		wantLines(t, p.acknowledged(), 10)
		st := check(t, s)
		if st.Failures["network"] != int64(n) {
			t.Errorf("failures %v, want network %d", st.Failures, n)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		want         time.Duration
	}{
		{"seconds", "120", 2 * time.Minute},
		{"date", "DATE", 90 * time.Second},
		{"bounded", "999999", maxRetryAfter},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				header := tt.header
				if header == "DATE" {
					header = time.Now().Add(tt.want).UTC().Format(http.TimeFormat)
				}
				p := &peer{}
				p.status(503, http.Header{"Retry-After": {header}})
				s := start(t, lineConfig(p))
				offer(s, 0, 1)
				time.Sleep(time.Second)
				p.up()
				if err := s.Flush(within(t, time.Second)); err == nil {
					t.Error("Flush went past what the server asked for")
				}
				if n := p.attempts(); n != 1 {
					t.Errorf("%d attempts before Retry-After", n)
				}
				if err := s.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				if got := p.at[1].Sub(p.at[0]); got < tt.want-time.Second || got > tt.want {
					t.Errorf("second attempt after %v, want %v", got, tt.want)
				}
				if st := check(t, s); st.Failures["http_503"] != 1 {
					t.Errorf("failures %v", st.Failures)
				}
			})
		})
	}
}

func TestPermanentRefusal(t *testing.T) {
	for _, tt := range []struct {
		status int
		reason Reason
	}{{400, Rejected}, {401, Rejected}, {404, Rejected}, {413, TooLarge}, {500, Rejected}, {307, Rejected}} {
		t.Run(http.StatusText(tt.status), func(t *testing.T) {
			p := &peer{}
			p.status(tt.status, nil)
			cfg := lineConfig(p)
			cfg.Split = nil
			cfg.SpoolDir = t.TempDir()
			s := start(t, cfg)
			offer(s, 0, 7)
			if err := s.Flush(t.Context()); err == nil {
				t.Error("Flush = nil though all was refused")
			}
			st := check(t, s)
			if st.Dropped[tt.reason] != 7 || st.Sent != 0 {
				t.Errorf("sent %d, dropped %v, want 7 of %s", st.Sent, st.Dropped, tt.reason)
			}
			if n := p.attempts(); n != 1 {
				t.Errorf("%d attempts, want 1", n)
			}
		})
	}
}

func TestOneBadRecordDoesNotTakeTheOthers(t *testing.T) {
	p := &peer{}
	p.set(func(_ int, lines []string) (int, http.Header, string, error) {
		for _, l := range lines {
			if l == line(13) {
				return 400, nil, "bad line", nil
			}
		}
		return 200, nil, "", nil
	})
	s := start(t, lineConfig(p))
	offer(s, 0, 64)
	if err := s.Flush(t.Context()); err == nil {
		t.Error("Flush = nil though a record was refused")
	}
	if got := p.acknowledged(); len(got) != 63 {
		t.Errorf("server has %d lines, want 63", len(got))
	}
	if st := check(t, s); st.Sent != 63 || st.Dropped[Rejected] != 1 {
		t.Errorf("sent %d, dropped %v", st.Sent, st.Dropped)
	}
}

func TestHalvesAreRetriedWhole(t *testing.T) {
	p := &peer{}
	p.set(func(n int, lines []string) (int, http.Header, string, error) {
		switch {
		case n == 2: // the second half, the first time
			return 503, nil, "", nil
		case len(lines) > 2:
			return 400, nil, "", nil
		}
		return 200, nil, "", nil
	})
	cfg := lineConfig(p)
	cfg.RetryMin = time.Millisecond
	cfg.SpoolDir = t.TempDir()
	s := start(t, cfg)
	offer(s, 0, 4)
	if err := s.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if st := check(t, s); st.Sent != 4 || st.TotalDropped() != 0 {
		t.Errorf("sent %d, dropped %v", st.Sent, st.Dropped)
	}
	if string(p.tries[0]) != string(p.tries[3]) || string(p.tries[1]) != string(p.tries[4]) {
		t.Error("the second round sent other bytes than the first")
	}
}

func TestPartialSuccess(t *testing.T) {
	p := &peer{}
	p.set(func(int, []string) (int, http.Header, string, error) { return 200, nil, "3", nil })
	s := start(t, lineConfig(p))
	offer(s, 0, 10)
	if err := s.Flush(t.Context()); err == nil {
		t.Error("Flush = nil though three were refused")
	}
	if st := check(t, s); st.Sent != 7 || st.Dropped[Rejected] != 3 {
		t.Errorf("sent %d, dropped %v, want 7 and 3", st.Sent, st.Dropped)
	}
}

func TestShutdownDeadline(t *testing.T) {
	for _, tt := range []struct {
		name    string
		spool   bool
		hang    bool
		dropped int64
	}{
		{"away, spool", true, false, 0},
		{"away, no spool", false, false, 10},
		{"hanging, spool", true, true, 0},
		{"hanging, no spool", false, true, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &peer{}
				p.down()
				cfg := lineConfig(p)
				if tt.hang {
					cfg.Client = &http.Client{Transport: hanging{}}
				}
				if tt.spool {
					cfg.SpoolDir = t.TempDir()
				}
				s := start(t, cfg)
				offer(s, 0, 10)
				begin := time.Now()
				err := s.Shutdown(within(t, 3*time.Second))
				if took := time.Since(begin); took > 3*time.Second {
					t.Errorf("Shutdown took %v", took)
				}
				if (err != nil) != (tt.dropped > 0) {
					t.Errorf("Shutdown = %v with %d dropped", err, tt.dropped)
				}
				st := check(t, s)
				if st.Dropped[Stopped] != tt.dropped || st.Spooled != 10-tt.dropped || st.Queued != 0 {
					t.Errorf("spooled %d, dropped %v, queued %d", st.Spooled, st.Dropped, st.Queued)
				}
				if s.Offer("late") {
					t.Error("a record was taken after Shutdown")
				}
				if err := s.Flush(t.Context()); tt.spool && !errors.Is(err, ErrClosed) {
					t.Errorf("Flush of spooled records after Shutdown = %v, want ErrClosed", err)
				}
				if again := s.Shutdown(t.Context()); (again != nil) != (err != nil) {
					t.Errorf("second Shutdown = %v, first was %v", again, err)
				}
			})
		})
	}
}

// hanging answers when the request is given up, not before.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestShutdownSendsWhatWaits(t *testing.T) {
	p := &peer{}
	cfg := lineConfig(p)
	cfg.FlushDelay = time.Hour
	s := start(t, cfg)
	offer(s, 0, 100)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLines(t, p.acknowledged(), 100)
}

func TestTimeoutIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := lineConfig(hanging{})
		cfg.Timeout = 5 * time.Second
		s := start(t, cfg)
		offer(s, 0, 1)
		if err := s.Flush(within(t, 6*time.Second)); err == nil {
			t.Error("Flush = nil though nothing answers")
		}
		if st := check(t, s); st.Failures["timeout"] != 1 || st.Queued != 1 {
			t.Errorf("failures %v, queued %d", st.Failures, st.Queued)
		}
	})
}

// TestFlapping offers from many goroutines while the server comes and goes.
func TestFlapping(t *testing.T) {
	for _, spool := range []bool{false, true} {
		p := &peer{}
		p.set(func(n int, _ []string) (int, http.Header, string, error) {
			switch n % 5 {
			case 1:
				return 503, nil, "", nil
			case 2:
				return 0, nil, "", errors.New("reset")
			}
			return 200, nil, "", nil
		})
		cfg := lineConfig(p)
		cfg.RetryMin, cfg.RetryMax = time.Microsecond, 10*time.Microsecond
		cfg.BatchItems, cfg.FlushDelay = 64, time.Microsecond
		cfg.QueueBytes = 4000 * 80
		if spool {
			cfg.SpoolDir = t.TempDir()
		}
		s := start(t, cfg)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 500 {
					s.Offer(line(g*1000 + i))
					if i%100 == 0 {
						check(t, s)
					}
				}
			})
		}
		wg.Wait()
		if err := s.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		st := check(t, s)
		got := p.acknowledged()
		seen := map[string]bool{}
		for _, l := range got {
			if seen[l] {
				t.Fatalf("%s was acknowledged twice", l)
			}
			seen[l] = true
		}
		if int64(len(got)) != st.Sent || st.Spooled != 0 || st.Queued != 0 {
			t.Errorf("server has %d lines; %+v", len(got), st)
		}
	}
}
