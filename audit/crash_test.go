package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	crashDirVariable  = "KAIZEN_CRASH_DIR"
	crashSeedVariable = "KAIZEN_CRASH_SEED"
)

// TestMain turns the test binary into the crash test's child if it was started
// as that.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirVariable); dir != "" {
		seed, _ := strconv.ParseUint(os.Getenv(crashSeedVariable), 10, 64)
		fmt.Println(crashChild(dir, seed)) // ends by being killed, so this is a failure
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// crashChild opens the ledger, works on it in all ways, closes it, changes its
// key now and then, and begins again until it is killed. It prints a line for
// everything that it was promised.
func crashChild(dir string, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 3))
	cfg := crashConfig()
	cfg.sealing = true
	for life := 0; ; life++ {
		if rnd.IntN(5) == 0 {
			if _, _, err := RotateKey(context.Background(), dir, cfg); err != nil {
				return err
			}
		}
		l, err := Open(dir, cfg)
		if err != nil {
			return err
		}
		c := crashWork{l: l, run: fmt.Sprintf("%d-%d", seed, life), rnd: rnd, failed: make(chan error, 100)}
		if err := c.work(); err != nil {
			return err
		}
	}
}

func crashConfig() Config {
	cfg := small()
	cfg.publishEvery = 3 * time.Millisecond
	cfg.sectionBytes = 64 << 10 // for the entry about 64 pruned segments
	return cfg
}

// crashWork is what a child does between an Open and a Close.
type crashWork struct {
	l      *Ledger
	run    string
	rnd    *rand.Rand
	out    sync.Mutex
	failed chan error
}

func (c *crashWork) say(format string, args ...any) {
	c.out.Lock()
	defer c.out.Unlock()
	fmt.Printf(format+" .\n", args...)
}

func (c *crashWork) work() error {
	writers, batch := []int{1, 4, 64}[c.rnd.IntN(3)], []int{1, 3, 20}[c.rnd.IntN(3)]
	var done sync.WaitGroup
	for w := range writers {
		done.Go(func() { c.write(w, batch) })
	}
	var err error
	for range 3 + c.rnd.IntN(10) {
		if err = c.other(); err != nil {
			break
		}
	}
	err = errors.Join(err, c.l.Close())
	done.Wait()
	close(c.failed)
	for e := range c.failed {
		err = errors.Join(err, e)
	}
	return err
}

// write appends batches until the ledger is closed.
func (c *crashWork) write(w, batch int) {
	for n := 0; ; n++ {
		entries := make([]Entry, batch)
		for i := range entries {
			entries[i] = Entry{
				AgentID: "child", Action: "x", Result: Success, SessionID: strconv.Itoa(batch),
				RunID: fmt.Sprintf("%s-%d-%d", c.run, w, n),
			}
		}
		rs, err := c.l.AppendBatch(context.Background(), entries)
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			c.failed <- err
			return
		}
		for _, r := range rs {
			c.say("E %d %s %x", r.Index, r.ID, r.LeafHash)
		}
	}
}

// other does one of the things that are not appending.
func (c *crashWork) other() error {
	ctx := context.Background()
	switch c.rnd.IntN(7) {
	case 0:
		return c.l.Seal(ctx)
	case 1:
		_, err := c.l.Prune(ctx, PruneOptions{Retention: Retention{MaxBytes: 20 << 10}})
		return err
	case 2:
		h, _, err := c.l.Hold(ctx, Hold{Subject: "p" + strconv.Itoa(c.rnd.IntN(4)), Reason: "crash"})
		if err == nil {
			c.say("H %s - -", h.ID)
		}
		return err
	case 3:
		for _, h := range c.l.Holds() {
			c.say("R %s - -", h.ID) // from here on it may be gone
			if _, err := c.l.Release(ctx, Release{ID: h.ID}); err != nil {
				return err
			}
		}
		return nil
	case 4:
		x, err := c.l.Erase(ctx, Erasure{Subject: "p" + strconv.Itoa(c.rnd.IntN(4))})
		if held := (*HeldError)(nil); errors.As(err, &held) {
			return nil
		}
		if err == nil && x.Found {
			c.say("X %s - -", x.Token)
		}
		return err
	case 5:
		return c.l.Flush(ctx)
	}
	for range 3 {
		r, err := c.l.Append(ctx, Entry{AgentID: "child", Action: "x", Result: Success, Subject: "p" + strconv.Itoa(c.rnd.IntN(4)), Details: map[string]any{"secret": "s"}})
		if err != nil {
			return err
		}
		c.say("E %d %s %x", r.Index, r.ID, r.LeafHash)
	}
	return nil
}

// promises is what the children of one ledger said that they had.
type promises struct {
	acked   map[int64]string // index to id and hash
	fresh   []int64          // of those, what was not looked at yet
	holds   map[string]bool
	erased  []string
	checked int64 // entries that were looked at
}

// TestKill kills a process that works on a ledger in all ways, again and again
// on the same ledger. Everything it said it had must be there afterwards.
func TestKill(t *testing.T) {
	const lanes, most = 4, 50 // ledgers at once, and kills of each
	total := rounds(t, "KAIZEN_CRASH_ROUNDS", 200)
	for lane := range lanes {
		t.Run(strconv.Itoa(lane), func(t *testing.T) {
			t.Parallel()
			for from := 0; from < total/lanes; from += most {
				killOne(t, uint64(lane*total+from), min(most, total/lanes-from))
			}
		})
	}
}

// killOne makes a ledger, and kills so many processes that work on it.
func killOne(t *testing.T, seed uint64, kills int) {
	t.Helper()
	top := killDir(t)
	dir := top + "/audit"
	l := mustOpen(t, dir, crashConfig())
	key := l.VerifierKey()
	mustClose(t, l)
	p := &promises{acked: map[int64]string{}, holds: map[string]bool{}}
	rnd := rand.New(rand.NewPCG(seed, 12))
	for round := range kills {
		p.runAndKill(t, dir, seed+uint64(round), rnd)
		if _, err := Verify(t.Context(), dir, VerifyConfig{Key: key}); err != nil {
			t.Fatalf("seed %d, round %d: Verify after the kill: %v", seed, round, err)
		}
		if round%7 == 6 || round+1 == kills { // otherwise the next child recovers it
			p.check(t, dir, fmt.Sprintf("seed %d, round %d", seed, round))
		}
	}
	t.Logf("seed %d: %d kills, %d entries and %d erasures acknowledged", seed, kills, len(p.acked), len(p.erased))
	if err := os.RemoveAll(top); err != nil {
		t.Fatal(err)
	}
}

// killDir makes a directory. What is written survives a kill wherever it is, so
// the short form saves itself the disk's syncs, if it can.
func killDir(t *testing.T) string {
	t.Helper()
	parent := t.TempDir()
	if _, err := os.Stat("/dev/shm"); err == nil && os.Getenv("KAIZEN_CRASH_ROUNDS") == "" {
		parent = "/dev/shm"
	}
	top, err := os.MkdirTemp(parent, "kaizen-kill")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	return top
}

// check holds the recovered ledger to what was said.
func (p *promises) check(t *testing.T, dir string, when string) {
	t.Helper()
	l, err := Open(dir, crashConfig()) // not mustOpen, which keeps it until the test's end
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	look := p.fresh
	for i := range p.acked { // and some of those that were there before
		if len(look) >= len(p.fresh)+50 {
			break
		}
		look = append(look, i)
	}
	for _, index := range look {
		id, leaf, _ := strings.Cut(p.acked[index], " ")
		got := leafOf(t, l, index)
		e, err := l.Get(t.Context(), index)
		if hex.EncodeToString(got[:]) != leaf || !errors.Is(err, ErrPruned) && (err != nil || e.ID != id) {
			t.Fatalf("%s: entry %d is %s %x, %v; acknowledged was %s %s", when, index, e.ID, got, err, id, leaf)
		}
	}
	p.fresh = nil
	parts, want := map[string]int{}, map[string]string{}
	for e, err := range l.Query(t.Context(), Query{AgentID: "child", After: p.checked}) {
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if e.RunID != "" {
			parts[e.RunID]++
			want[e.RunID] = e.SessionID
		}
	}
	for run, n := range parts {
		if strconv.Itoa(n) != want[run] {
			t.Errorf("%s: %d entries of the batch %s of %s", when, n, run, want[run])
		}
	}
	p.checked = l.Size()
	active := map[string]bool{}
	for _, h := range l.Holds() {
		active[h.ID] = true
	}
	for id := range p.holds {
		if !active[id] {
			t.Errorf("%s: acknowledged hold %s is not active", when, id)
		}
	}
	for _, token := range p.erased {
		left := false
		for e, err := range l.Query(t.Context(), Query{Subject: token, Limit: 20}) {
			left = true
			if err != nil || e.Withheld.Details != Erased {
				t.Errorf("%s: entry %d of an erased subject: %+v, %v", when, e.Index, e, err)
			}
		}
		// Retention removes the receipt with the last entry, and not before.
		if r, err := l.Erase(t.Context(), Erasure{Subject: token}); err != nil || left && !r.Found {
			t.Errorf("%s: entries of %s are left, and its receipt is not: %+v, %v", when, token, r, err)
		}
	}
	mustClose(t, l)
	if r, err := Verify(t.Context(), dir, VerifyConfig{Indexes: true}); err != nil || !r.Clean {
		t.Fatalf("%s: Verify = %+v, %v; want clean", when, r, err)
	}
}

// runAndKill starts a child, kills it when it has said something a number of
// times or when some time has passed, and notes what it said until then.
func (p *promises) runAndKill(t *testing.T, dir string, seed uint64, rnd *rand.Rand) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), crashDirVariable+"="+dir, crashSeedVariable+"="+strconv.FormatUint(seed, 10))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 1 + rnd.IntN(100)
	if rnd.IntN(4) == 0 {
		n *= 10
	}
	if rnd.IntN(3) == 0 { // at any moment of opening, changing the key, closing
		timer := time.AfterFunc(time.Duration(rnd.IntN(120))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	lines := bufio.NewScanner(out)
	for seen := 0; lines.Scan(); seen++ {
		p.note(t, lines.Text())
		if seen == n {
			_ = cmd.Process.Kill() // it may have been killed already
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("seed %d: the child ended by itself: %v %s", seed, err, stderr.String())
	}
}

// note takes down one line of a child.
func (p *promises) note(t *testing.T, line string) {
	t.Helper()
	var what, id, leaf, dot string
	index := int64(-1)
	var err error
	if strings.HasPrefix(line, "E ") {
		_, err = fmt.Sscanf(line, "%s %d %s %s %s", &what, &index, &id, &leaf, &dot)
	} else {
		var dash string
		_, err = fmt.Sscanf(line, "%s %s %s %s %s", &what, &id, &dash, &dash, &dot)
	}
	if strings.Contains(line, "audit") {
		t.Errorf("child: %s", line)
	}
	if err != nil || dot != "." {
		if strings.HasPrefix(line, "R ") { // cut off by the kill: whichever it was may be released
			clear(p.holds)
		}
		return
	}
	switch what {
	case "E":
		p.acked[index] = id + " " + leaf
		p.fresh = append(p.fresh, index)
	case "H":
		p.holds[id] = true
	case "R":
		delete(p.holds, id)
	case "X":
		p.erased = append(p.erased, id)
	}
}
