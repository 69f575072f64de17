package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/server/backend/postgres"
)

// superuser connects as the one who may do anything; bypass turns off the
// triggers, as somebody who wants to change history would.
func superuser(t *testing.T, cfg postgres.Config, bypass bool) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if bypass {
		exec(t, conn, "SET session_replication_role = replica")
	}
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, q string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// fill appends n entries with ids and traces of their own.
func fill(t *testing.T, l audit.Backend, n int) {
	t.Helper()
	base := int(l.Size())
	for done := 0; done < n; {
		var es []audit.Entry
		for ; done < n && len(es) < 1000; done++ {
			es = append(es, benchEntry(base+done))
		}
		if _, err := l.AppendBatch(t.Context(), es); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilledBackends has writers of four processes' worth append while their
// connections are cut by the server at any moment: every entry that was
// acknowledged is there once, where its receipt says, and there is no gap.
func TestKilledBackends(t *testing.T) {
	cfg := fresh(t)
	cfg.RetryFor = 5 * time.Minute
	killer := superuser(t, cfg, false)
	rounds, atMost := 8, 60
	if os.Getenv("KAIZEN_LONG") != "" {
		rounds, atMost = 200, 1<<30
	}
	var mu sync.Mutex
	acked := map[string]int64{}
	var kills atomic.Int64
	var writers sync.WaitGroup
	ls := make([]*postgres.Ledger, 4)
	for w := range ls {
		ls[w] = open(t, cfg)
		for c := range 3 {
			writers.Go(func() {
				for k := 0; k < rounds || kills.Load() == 0; k++ {
					var es []audit.Entry
					for i := range 1 + k*7%40 {
						e := benchEntry(i)
						if i%2 == 0 { // half of the ids are made up by the ledger
							e.ID = fmt.Sprintf("01HZY3V9T5XKQ2%02d%02d%04d%04d", w, c, k, i)
						}
						es = append(es, e)
					}
					rs, err := ls[w].AppendBatch(context.Background(), es)
					if err != nil {
						t.Errorf("writer %d: %v", w, err)
						return
					}
					mu.Lock()
					for _, r := range rs {
						if r.Duplicate {
							t.Errorf("entry %s was taken for a repetition", r.ID)
						}
						acked[r.ID] = r.Index
					}
					mu.Unlock()
				}
			})
		}
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-tick.C:
			if kills.Load() >= int64(atMost) {
				tick.Stop()
				continue
			}
			// Only those that are in the middle of something.
			tag, err := killer.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE application_name = 'kaizen-audit' AND xact_start IS NOT NULL ORDER BY random() LIMIT 1`)
			if err != nil {
				t.Fatal(err)
			}
			kills.Add(tag.RowsAffected())
		}
	}
	t.Logf("%d transactions were killed, %d entries acknowledged", kills.Load(), len(acked))
	if err := kaizentest.CheckLedger(t.Context(), ls[0]); err != nil {
		t.Error(err)
	}
	if n := ls[0].Size(); n != int64(len(acked)) {
		t.Errorf("%d entries, %d were acknowledged", n, len(acked))
	}
	for e, err := range ls[0].Query(t.Context(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := acked[e.ID]; !ok || at != e.Index {
			t.Errorf("entry %s is at %d, acknowledged at %d (%t)", e.ID, e.Index, at, ok)
		}
	}
	if _, err := ls[1].Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Error(err)
	}
}

// TestAppendOnly checks that the database refuses every change, also to the one
// who owns everything.
func TestAppendOnly(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	fill(t, l, 600)
	before := l.Checkpoint()
	conn := superuser(t, cfg, false)
	var part string
	if err := conn.QueryRow(t.Context(), "SELECT name FROM "+cfg.Schema+".partitions").Scan(&part); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"entries", part, "nodes", "checkpoints", "partitions", "leaves", "dropped"} {
		for _, q := range []string{"DELETE FROM %s", "TRUNCATE %s"} {
			refused(t, conn, fmt.Sprintf(q, cfg.Schema+"."+table))
		}
	}
	for _, q := range []string{
		"UPDATE %s.entries SET line = '{}' WHERE idx = 3", "UPDATE %s." + part + " SET agent = 'x'", "UPDATE %s.nodes SET hash = ''",
		"UPDATE %s.checkpoints SET note = ''", "UPDATE %s.head SET size = size - 1", "UPDATE %s.head SET note = ''",
		"UPDATE %s.head SET size = size + 1, vkey = 'x'", "DELETE FROM %s.head", "TRUNCATE %s.head",
	} {
		refused(t, conn, fmt.Sprintf(q, cfg.Schema))
	}
	if err := l.Flush(t.Context()); err != nil || l.Checkpoint() != before {
		t.Errorf("the ledger has changed: %v", err)
	}
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Error(err)
	}
}

// refused checks that the database denies q.
func refused(t *testing.T, conn *pgx.Conn, q string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), q)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42501" {
		t.Errorf("%s: %v, want it refused (42501)", q, err)
	}
}

// TestRoles has a writer and a reader with the rights that Grant gives.
func TestRoles(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	fill(t, l, 3)
	conn := superuser(t, cfg, false)
	for role, write := range map[string]bool{"writer_of_" + cfg.Schema: true, "reader_of_" + cfg.Schema: false} {
		exec(t, conn, "CREATE ROLE "+role+" LOGIN")
		for range 2 { // it may be repeated
			if err := postgres.Grant(t.Context(), cfg.DSN, cfg.Schema, role, write); err != nil {
				t.Fatal(err)
			}
		}
		theirs := cfg
		theirs.DSN = cfg.DSN + " user=" + role
		l, err := postgres.Open(t.Context(), theirs)
		if err != nil {
			t.Fatalf("open as %s: %v", role, err)
		}
		// A new partition is needed too: the time goes on by a month.
		hidden := superuser(t, cfg, true)
		exec(t, hidden, "UPDATE "+cfg.Schema+".head SET at = at + interval '31 days'")
		_, err = l.Append(t.Context(), benchEntry(1))
		if write != (err == nil) {
			t.Errorf("append as %s: %v", role, err)
		}
		if n, err := l.Count(t.Context(), audit.Query{AgentID: "agent-001"}); err != nil || n == 0 {
			t.Errorf("count as %s: %d (%v)", role, n, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		asRole := superuser(t, theirs, false)
		for _, q := range []string{
			"UPDATE %s.entries SET line = ''", "DELETE FROM %s.entries", "TRUNCATE %s.entries", "DROP TABLE %s.entries",
			"ALTER TABLE %s.entries DISABLE TRIGGER ALL", "INSERT INTO %s.leaves VALUES (0, '')", "DELETE FROM %s.head",
			"UPDATE %s.head SET vkey = 'x'", "CREATE TABLE %s.x (a int)",
		} {
			refused(t, asRole, fmt.Sprintf(q, cfg.Schema))
		}
	}
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Error(err)
	}
}

// TestTamper changes the tables as a superuser can, and expects Verify to name
// the place.
func TestTamper(t *testing.T) {
	for _, tt := range []struct {
		name, change string
		path         string
		index        int64
	}{
		{"a line", `UPDATE entries SET line = replace(line, 'search', 'sEarch') WHERE idx = 300`, "entries", 300},
		{"a line and its hash", `UPDATE entries SET line = (SELECT line FROM entries WHERE idx = 301), leaf = (SELECT leaf FROM entries WHERE idx = 301) WHERE idx = 300`, "entries", 300},
		{"only a hash", `UPDATE entries SET leaf = sha256('x') WHERE idx = 300`, "entries", 300},
		{"a column that queries use", `UPDATE entries SET agent = 'somebody' WHERE idx = 300`, "entries", 300},
		{"a column that hides", `UPDATE entries SET usr = NULL WHERE idx = 300`, "entries", 300},
		{"a time", `UPDATE entries SET time = time + 1 WHERE idx = 300`, "entries", 300},
		{"a removed entry", `DELETE FROM entries WHERE idx = 300`, "entries", 300},
		{"the last entry removed", `DELETE FROM entries WHERE idx = 699`, "entries", 699},
		{"the first entry removed", `DELETE FROM entries WHERE idx = 0`, "entries", 0},
		{"entries swapped", `UPDATE entries SET idx = CASE idx WHEN 300 THEN -301 ELSE -300 END WHERE idx IN (300, 301); UPDATE entries SET idx = -idx WHERE idx < 0`, "", -1},
		{"a tile", `UPDATE nodes SET hash = sha256('x') WHERE n = 1`, "nodes", -1},
		{"a tile removed", `DELETE FROM nodes WHERE n = 1`, "nodes", -1},
		{"the head's size", `UPDATE head SET size = size - 1`, "head", -1},
		{"the head's note", `UPDATE head SET note = replace(note, '700', '699')`, "head", -1},
		{"a published checkpoint", `UPDATE checkpoints SET note = (SELECT note FROM head)`, "checkpoints", -1},
		{"everything rolled back", `DELETE FROM entries WHERE idx >= 100; DELETE FROM nodes;
			UPDATE head SET size = 100, edge = (SELECT edge FROM saved), note = (SELECT note FROM saved); DELETE FROM checkpoints WHERE size > 100`, "head", 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it waits for the disk, mostly
			cfg := fresh(t)
			l, err := postgres.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			fill(t, l, 100)
			conn := superuser(t, cfg, true)
			exec(t, conn, "SET search_path = "+cfg.Schema)
			exec(t, conn, "CREATE TABLE saved AS SELECT size, edge, note FROM head")
			fill(t, l, 600)
			held := l.Checkpoint()
			if _, err := l.Verify(t.Context(), audit.VerifyConfig{Checkpoint: []byte(held.Note)}); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			exec(t, conn, tt.change, pgx.QueryExecModeSimpleProtocol)
			_, err = l.Verify(t.Context(), audit.VerifyConfig{Checkpoint: []byte(held.Note)})
			tamper, ok := errors.AsType[*audit.TamperError](err)
			if !ok {
				t.Fatalf("Verify = %v, want a *TamperError", err)
			}
			if tt.path != "" && (tamper.Path != tt.path || tamper.Index != tt.index) && tt.name != "a line and its hash" {
				t.Errorf("found at %s, entry %d (%v), want %s, entry %d", tamper.Path, tamper.Index, err, tt.path, tt.index)
			}
			if tt.path == "head" {
				if _, err := l.Append(t.Context(), benchEntry(1)); err == nil {
					t.Error("a ledger whose head was changed goes on")
				}
			}
		})
	}
}

func TestRetain(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	later := superuser(t, cfg, true)
	for range 4 { // four partitions of 300 entries, a month apart
		fill(t, l, 300)
		exec(t, later, "UPDATE "+cfg.Schema+".head SET at = at + interval '31 days'")
	}
	fill(t, l, 50)
	proof, err := l.Proof(310)
	if err != nil {
		t.Fatal(err)
	}
	old := l.Checkpoint()
	far := time.Now().Add(300 * 24 * time.Hour)
	hold := []audit.Query{{SpanID: benchEntry(700).SpanID}} // in the third partition
	plan, err := l.Retain(t.Context(), postgres.RetainConfig{Before: far, Held: hold, DryRun: true})
	if err != nil || len(plan) != 3 || plan[2].HeldBy != 0 || l.Size() != 1250 {
		t.Fatalf("dry run: %+v, %v, %d entries", plan, err, l.Size())
	}
	removed, err := l.Retain(t.Context(), postgres.RetainConfig{Before: far, Held: hold})
	if err != nil || len(removed) != 3 || removed[1].Next != 600 || removed[2].HeldBy != 0 {
		t.Fatalf("Retain = %+v, %v", removed, err)
	}
	for _, i := range []int64{0, 255, 599} {
		if _, err := l.Get(t.Context(), i); !errors.Is(err, audit.ErrPruned) {
			t.Errorf("Get(%d) = %v, want ErrPruned", i, err)
		}
	}
	for _, i := range []int64{600, 601, 767, 768, 1249} {
		p, err := l.Proof(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(l.VerifierKey()); err != nil {
			t.Error(err)
		}
	}
	if err := proof.Check(l.VerifierKey()); err != nil {
		t.Errorf("proof of a removed entry: %v", err)
	}
	if _, err := l.Consistency(old.Size, l.Size()); err != nil {
		t.Error(err)
	}
	n := 0
	for e, err := range l.Query(t.Context(), audit.Query{AgentID: "kaizen", Action: "ledger.pruned"}) {
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(e.Details["leaves_sha256"]); got != removed[n].Digest {
			t.Errorf("recorded digest %s, want %s", got, removed[n].Digest)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d entries about what was removed, want 2", n)
	}
	report, err := l.Verify(t.Context(), audit.VerifyConfig{Checkpoint: []byte(old.Note)})
	if err != nil || report.Entries != 1252-600 {
		t.Errorf("Verify: %d entries, %v", report.Entries, err)
	}
	again := open(t, cfg)
	fill(t, again, 10)
	if _, err := again.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Error(err)
	}
	exec(t, later, "UPDATE "+cfg.Schema+".leaves SET hashes = sha256('x') || substring(hashes FROM 33) WHERE base = 256")
	if _, ok := errors.AsType[*audit.TamperError](func() error { _, err := l.Verify(t.Context(), audit.VerifyConfig{}); return err }()); !ok {
		t.Error("a changed hash of a removed entry is not noticed")
	}
}

func TestMove(t *testing.T) {
	cfg := fresh(t)
	dir := t.TempDir()
	cfg.KeyFile = filepath.Join(dir, "keys", "audit.key")
	files, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{Origin: cfg.Origin})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, files, 2500)
	proof, err := files.Proof(1234)
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, cfg)
	if err := audit.Copy(t.Context(), l, files, nil); err != nil {
		t.Fatal(err)
	}
	held := files.Checkpoint()
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{Checkpoint: []byte(held.Note)}); err != nil {
		t.Error(err)
	}
	moved, err := l.Proof(1234)
	if err != nil || string(moved.Line) != string(proof.Line) || proof.Check(l.VerifierKey()) != nil {
		t.Errorf("entry 1234 is another one after the move: %v", err)
	}
	fill(t, l, 20)
	back, err := audit.Open(filepath.Join(dir, "back"), audit.Config{KeyDir: keyAs(t, cfg.KeyFile, "back")})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if err := audit.Copy(t.Context(), back, l, nil); err != nil {
		t.Fatal(err)
	}
	if a, b := back.Checkpoint(), l.Checkpoint(); a.Size != b.Size || a.Root != b.Root {
		t.Errorf("moved back: %d entries, want %d", a.Size, b.Size)
	}
}

// keyAs copies the key for a ledger in files of that name.
func keyAs(t *testing.T, file, name string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name+".key"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOpenRefuses(t *testing.T) {
	cfg := fresh(t)
	open(t, cfg)
	other := cfg
	other.KeyFile = filepath.Join(t.TempDir(), "other.key")
	if _, err := postgres.Open(t.Context(), other); !errors.Is(err, postgres.ErrKey) {
		t.Errorf("Open with another key = %v, want ErrKey", err)
	}
	readable := cfg
	if err := os.Chmod(cfg.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.Open(t.Context(), readable); err == nil {
		t.Error("Open took a key that others can read")
	}
	for _, bad := range []postgres.Config{{}, {DSN: cfg.DSN}, {DSN: cfg.DSN, KeyFile: "k", Schema: `x"; DROP`}} {
		if _, err := postgres.Open(t.Context(), bad); err == nil {
			t.Errorf("Open(%+v) = nil", bad)
		}
	}
}
