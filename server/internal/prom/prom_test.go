package prom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	openIn(t, dir, Config{})
	if db, err := Open(dir, Config{}); err == nil {
		t.Errorf("second Open succeeded (Close: %v), want an error", db.Close())
	} else if !contains(err.Error(), "prom: open "+dir) {
		t.Errorf("Open: %v, want the directory named", err)
	}
}

func TestClosed(t *testing.T) {
	db := open(t, Config{})
	for range 2 {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	md, ms := one("svc", "")
	addGauge(ms, "g", base, 1)
	if _, err := db.AppendMetrics(t.Context(), md); !errors.Is(err, ErrClosed) {
		t.Errorf("AppendMetrics() = %v, want %v", err, ErrClosed)
	}
	if code, body := call(t, db, "GET", "/query", map[string][]string{"query": {"g"}}); code != 503 || !contains(body, `"errorType":"unavailable"`) {
		t.Errorf("query: %d %s, want 503 unavailable", code, body)
	}
}

// TestSyncedBeforeReturn checks that every append is on disk when it returns,
// by the size of the log at its last sync.
func TestSyncedBeforeReturn(t *testing.T) {
	var mu sync.Mutex
	durable := map[string]int64{}
	dir := t.TempDir()
	db := openIn(t, dir, Config{syncFile: func(path string) error {
		mu.Lock()
		defer mu.Unlock()
		st, err := os.Stat(path)
		if err == nil {
			durable[path] = st.Size()
		}
		return err
	}})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 20 {
				md, ms := one("svc", "")
				addGauge(ms, "g", base.Add(time.Duration(i)*time.Second), 1, "g", fmt.Sprint(g))
				if n, err := db.AppendMetrics(t.Context(), md); n != 0 || err != nil {
					t.Errorf("AppendMetrics() = %d, %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	segments, err := filepath.Glob(filepath.Join(dir, "w?l", "0*"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	for _, path := range segments {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if durable[path] != st.Size() {
			t.Errorf("%s: %d bytes synced of %d", path, durable[path], st.Size())
		}
	}
	if _, ok := durable[filepath.Join(dir, "wal")]; !ok {
		t.Errorf("the log's directory was not synced")
	}
}

// TestSyncFaults fails each sync in turn: the append must report it, and no
// later one may succeed.
func TestSyncFaults(t *testing.T) {
	for nth := 1; ; nth++ {
		broken := errors.New("sync failed")
		calls := 0
		db, err := Open(t.TempDir(), Config{now: newClock(base).now, syncFile: func(string) error {
			if calls++; calls == nth {
				return broken
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		failed := 0
		for i := range 3 {
			// The second is out of order, so that both logs exist.
			md, ms := one("svc", "")
			addGauge(ms, "g", base.Add([]time.Duration{0, -time.Minute, time.Minute}[i]), 1)
			_, err := db.AppendMetrics(t.Context(), md)
			switch {
			case errors.Is(err, broken):
				failed++
			case err != nil:
				t.Fatal(err)
			case failed > 0:
				t.Errorf("sync %d failed, and a later append succeeded", nth)
			}
		}
		closeErr := db.Close()
		if calls < nth {
			if closeErr != nil {
				t.Errorf("Close() = %v without a fault", closeErr)
			}
			if nth < 6 {
				t.Errorf("only %d syncs", calls)
			}
			return
		}
		if !errors.Is(closeErr, broken) {
			t.Errorf("sync %d failed: Close() = %v, want it reported", nth, closeErr)
		}
	}
}

// TestCrash kills a process that appends, and looks for what it was told is
// stored.
func TestCrash(t *testing.T) {
	if dir := os.Getenv("PROM_TEST_CRASH_DIR"); dir != "" {
		crashChild(dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), "PROM_TEST_CRASH_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	buf := make([]byte, 256)
	for bytes.Count(said.Bytes(), []byte("\n")) < 25 {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("child ended: %v\n%s", err, said.String())
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed: the error says so
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	var last int
	if _, err := fmt.Sscanf(lines[24], "stored %d", &last); err != nil {
		t.Fatalf("child said %q: %v", lines[24], err)
	}
	db := openIn(t, dir, Config{})
	for i := range last + 1 {
		when := base.Add(time.Duration(i) * time.Second)
		if got := value1(t, db, "g", when); got != fmt.Sprint(i) {
			t.Errorf("sample %d: %q, want it as acknowledged", i, got)
		}
	}
}

func crashChild(dir string) {
	db, err := Open(dir, Config{now: newClock(base).now})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		md := pmetric.NewMetrics()
		ms := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
		addGauge(ms, "g", base.Add(time.Duration(i)*time.Second), float64(i))
		if n, err := db.AppendMetrics(context.Background(), md); n != 0 || err != nil {
			fmt.Println(n, err)
			os.Exit(1)
		}
		fmt.Println("stored", i)
	}
}
