package ship

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// spoolConfig gives every line a batch of its own.
func spoolConfig(t *testing.T, p http.RoundTripper) Config[string] {
	cfg := lineConfig(p)
	cfg.SpoolDir = t.TempDir()
	cfg.BatchItems = 1
	return cfg
}

// settle waits until all records are spooled.
func settle(t *testing.T, s *Shipper[string], n int64) {
	t.Helper()
	for {
		s.mu.Lock()
		got, changed := s.count.Spooled, s.changed
		s.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("%d records spooled, want %d", got, n)
		}
	}
}

func TestSpoolsWhileAway(t *testing.T) {
	p := &peer{}
	p.down()
	cfg := spoolConfig(t, p)
	s := start(t, cfg)
	offer(s, 0, 20)
	settle(t, s, 20)
	st := check(t, s)
	files := spoolFiles(t, cfg.SpoolDir)
	if st.SpoolFiles != 20 || len(files) != 20 || st.SpoolBytes != 20*blockBytes || st.Queued != 0 {
		t.Errorf("%d files on disk; %+v", len(files), st)
	}
	for _, path := range append(files, filepath.Dir(files[0]), filepath.Dir(filepath.Dir(files[0]))) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", path, info.Mode())
		}
	}
	p.up()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLines(t, p.acknowledged(), 20)
	if files := spoolFiles(t, cfg.SpoolDir); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
	// Only the last attempts of the first batch reached the server, with the
	// bytes of the very first.
	first := p.tries[0]
	if !bytes.Equal(first, p.tries[len(p.tries)-20]) {
		t.Error("the bytes changed on their way through the spool")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.SpoolDir, "test", "*")); len(left) != 0 {
		t.Errorf("an empty spool left %v", left)
	}
}

func TestRestartSendsTheSpool(t *testing.T) {
	p := &peer{}
	p.down()
	cfg := spoolConfig(t, p)
	for round := range 3 {
		s := start(t, cfg)
		offer(s, round*10, round*10+10)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		st := check(t, s)
		if st.Spooled != int64(round+1)*10 || st.Adopted != int64(round)*10 {
			t.Fatalf("round %d: %+v", round, st)
		}
	}
	p.up()
	s := start(t, cfg)
	offer(s, 30, 40)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLines(t, p.acknowledged(), 40)
	if st := check(t, s); st.Adopted != 30 || st.Sent != 40 {
		t.Errorf("%+v", st)
	}
}

// TestKilledProcess kills a process that has spooled, and adopts from it.
func TestKilledProcess(t *testing.T) {
	if dir := os.Getenv("SHIP_TEST_SPOOL"); dir != "" {
		childSpools(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
	cmd.Env = append(os.Environ(), "SHIP_TEST_SPOOL="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	spooled := 0
	for in := bufio.NewScanner(out); spooled < 25 && in.Scan(); {
		if _, err := fmt.Sscanf(in.Text(), "spooled %d", &spooled); err != nil {
			spooled = 0
		}
	}

	// While it lives, its batches are its own.
	p := &peer{}
	cfg := lineConfig(p)
	cfg.SpoolDir = dir
	live := start(t, cfg)
	if st := check(t, live); st.Adopted != 0 {
		t.Errorf("adopted %d records of a live process", st.Adopted)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it says "killed"

	s := start(t, cfg)
	if err := s.Shutdown(t.Context()); err != nil { // sends the adopted ones
		t.Fatal(err)
	}
	lines := p.acknowledged()
	if len(lines) < spooled {
		t.Errorf("server has %d lines, the dead process had spooled %d", len(lines), spooled)
	}
	wantLines(t, lines, len(lines))
	if files := spoolFiles(t, dir); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
}

func childSpools(t *testing.T, dir string) {
	p := &peer{}
	p.down()
	cfg := lineConfig(p)
	cfg.SpoolDir, cfg.BatchItems = dir, 1
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1_000_000 {
		s.Offer(line(i))
		settle(t, s, int64(i+1))
		fmt.Printf("spooled %d\n", i+1)
	}
}

func TestTwoProcessesShareADirectory(t *testing.T) {
	p := &peer{}
	p.down()
	cfg := spoolConfig(t, p)
	a, b := start(t, cfg), start(t, cfg)
	offer(a, 0, 50)
	offer(b, 50, 100)
	settle(t, a, 50)
	settle(t, b, 50)
	p.up()
	for _, s := range []*Shipper[string]{a, b} {
		if err := s.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if st := check(t, s); st.Adopted != 0 || st.Sent != 50 {
			t.Errorf("%+v", st)
		}
	}
	seen := map[string]int{}
	for _, l := range p.acknowledged() {
		seen[l]++
	}
	for i := range 100 {
		if seen[line(i)] != 1 {
			t.Errorf("%s was sent %d times", line(i), seen[line(i)])
		}
	}
}

func TestLiveProcessAdoptsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{}
		p.down()
		cfg := spoolConfig(t, p)
		live, dies := start(t, cfg), start(t, cfg)
		offer(dies, 0, 5)
		if err := dies.Shutdown(within(t, time.Second)); err != nil {
			t.Fatal(err)
		}
		p.up()
		time.Sleep(2 * adoptEvery)
		synctest.Wait()
		wantLines(t, p.acknowledged(), 5)
		if st := check(t, live); st.Adopted != 5 || st.Sent != 5 {
			t.Errorf("%+v", st)
		}
	})
}

func TestSpoolFullKeepsTheOldest(t *testing.T) {
	p := &peer{}
	p.down()
	cfg := spoolConfig(t, p)
	cfg.SpoolBytes = 3 * blockBytes
	cfg.QueueBytes = 5 * (entryOverhead + 11)
	s := start(t, cfg)
	offer(s, 0, 3)
	settle(t, s, 3)
	offer(s, 3, 4)
	for s.holds() != SpoolFull {
		<-s.changes()
	}
	offer(s, 4, 20)
	st := check(t, s)
	if st.Spooled != 3 || st.Queued != 5 || st.Dropped[SpoolFull] != 12 {
		t.Errorf("spooled %d, queued %d, dropped %v; want 3, 5 and 12 of spool_full", st.Spooled, st.Queued, st.Dropped)
	}
	p.up()
	if err := s.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	wantLines(t, p.acknowledged(), 8)
	check(t, s)
}

// holds returns what a refusal for lack of room would be counted as now.
func (s *Shipper[T]) holds() Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

// changes is closed with the next change of the counts; a failed attempt is one.
func (s *Shipper[T]) changes() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func TestDamagedFilesAreKeptAside(t *testing.T) {
	damage := map[string]func(path string) error{
		"bit flipped in the body": func(path string) error {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content[fileHeader+3] ^= 1
			return os.WriteFile(path, content, 0o600)
		},
		"cut short": func(path string) error { return os.Truncate(path, fileHeader+2) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"foreign":   func(path string) error { return os.WriteFile(path, []byte("hello, this is not a batch"), 0o600) },
	}
	for name, hurt := range damage {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", name, restart), func(t *testing.T) {
				p := &peer{}
				p.down()
				cfg := spoolConfig(t, p)
				s := start(t, cfg)
				offer(s, 0, 5)
				settle(t, s, 5)
				if restart {
					if err := s.Shutdown(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := hurt(spoolFiles(t, cfg.SpoolDir)[2]); err != nil {
					t.Fatal(err)
				}
				p.up()
				if restart {
					s = start(t, cfg)
				} else if err := s.Flush(t.Context()); err == nil {
					t.Error("Flush = nil though a batch is lost")
				}
				if err := s.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
				want := strings.Join([]string{line(0), line(1), line(3), line(4)}, " ")
				if got := strings.Join(p.acknowledged(), " "); got != want {
					t.Errorf("server has %s, want %s", got, want)
				}
				st := check(t, s)
				if st.SpoolCorrupt != 1 || st.Sent != 4 {
					t.Errorf("%+v", st)
				}
				aside, _ := filepath.Glob(filepath.Join(cfg.SpoolDir, "test", corruptName, "*"))
				if len(aside) != 1 {
					t.Errorf("kept aside: %v, want one file", aside)
				}
			})
		}
	}
}

// TestDiskFaults fails each disk operation in turn, with its effect lost and
// kept: nothing is lost, since what the disk refuses stays in memory.
func TestDiskFaults(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for n := 1; ; n++ {
			fs := &faultFS{}
			failed := ""
			fs.fail = func(op string, i int) (error, bool) {
				if i != n {
					return nil, false
				}
				failed = op
				return errDisk, keep
			}
			p := &peer{}
			p.down()
			cfg := spoolConfig(t, p)
			cfg.fs = fs
			cfg.RetryMin, cfg.RetryMax = time.Microsecond, time.Microsecond
			s, err := New(cfg)
			if err != nil {
				continue // a spool that cannot be opened fails the start
			}
			offer(s, 0, 4)
			settle(t, s, 4)
			check(t, s)
			p.up()
			if err := s.Flush(t.Context()); err != nil {
				t.Errorf("fault %d (%s, kept %v): %v", n, failed, keep, err)
			}
			if err := s.Shutdown(t.Context()); err != nil {
				t.Errorf("fault %d (%s, kept %v): %v", n, failed, keep, err)
			}
			if st := check(t, s); failed != "" && st.SpoolErrors == 0 {
				t.Errorf("fault %d (%s, kept %v) was not counted", n, failed, keep)
			}
			wantLines(t, p.acknowledged(), 4)
			if failed == "" {
				t.Logf("kept %v: %d operations", keep, n-1)
				break
			}
		}
	}
}

func TestReadOnlyDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{}
		p.down()
		cfg := spoolConfig(t, p)
		fs := &faultFS{}
		cfg.fs = fs
		s := start(t, cfg)
		fs.mu.Lock()
		fs.fail = func(string, int) (error, bool) { return errDisk, false }
		fs.mu.Unlock()
		offer(s, 0, 10)
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := check(t, s); st.Queued != 10 || st.SpoolErrors == 0 {
			t.Errorf("%+v", st)
		}
		p.up()
		if err := s.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		wantLines(t, p.acknowledged(), 10)
		p.down()
		offer(s, 10, 12)
		if err := s.Shutdown(within(t, time.Second)); err == nil {
			t.Error("Shutdown = nil though two records were lost")
		}
		if st := check(t, s); st.Dropped[Stopped] != 2 {
			t.Errorf("dropped %v", st.Dropped)
		}
	})
}

func TestSpoolThatCannotBeOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := lineConfig(&peer{})
	cfg.SpoolDir = path
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "open spool of test") {
		t.Errorf("New = %v, want an error that names the spool", err)
	}
}

func TestAdoptionKeepsTheBound(t *testing.T) {
	p := &peer{}
	p.down()
	cfg := spoolConfig(t, p)
	old := start(t, cfg)
	offer(old, 0, 10)
	if err := old.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.SpoolBytes = 4 * blockBytes
	s := start(t, cfg)
	if st := check(t, s); st.Adopted != 4 {
		t.Errorf("adopted %d, want the 4 that fit", st.Adopted)
	}
	if files := spoolFiles(t, cfg.SpoolDir); len(files) != 10 {
		t.Errorf("%d files, want all 10 still there", len(files))
	}
}

func FuzzDecodeFile(f *testing.F) {
	f.Add(encodeFile(&batch{wire: []byte("body"), items: 3}))
	f.Add(encodeFile(&batch{wire: []byte{0x1f, 0x8b}, items: 1, gzipped: true}))
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, content []byte) {
		b, err := decodeFile(content)
		if err != nil {
			return
		}
		if again := encodeFile(b); !bytes.Equal(again, content) {
			t.Fatalf("two spellings of one batch:\n in %x\nout %x", content, again)
		}
	})
}
