package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// openTessera is Tessera's POSIX driver: durable and integrated when the
// index comes back, signed within 100 ms after. With one writer a batch waits
// 1 ms, otherwise 5 ms: the better of both, measured.
func openTessera(writers int) func(string) (operation, func() error, error) {
	return func(dir string) (operation, func() error, error) {
		klog.LogToStderr(false) // it says which directory it made
		klog.SetOutput(io.Discard)
		skey, _, err := note.GenerateKey(rand.Reader, "example.org/ledgerbench")
		if err != nil {
			return nil, nil, err
		}
		signer, err := note.NewSigner(skey)
		if err != nil {
			return nil, nil, err
		}
		ctx, cancel := context.WithCancel(context.Background())
		driver, err := posix.New(ctx, posix.Config{Path: filepath.Join(dir, "tessera")})
		if err != nil {
			cancel()
			return nil, nil, err
		}
		size, age := uint(1024), 5*time.Millisecond
		if writers == 1 {
			size, age = 256, time.Millisecond
		}
		options := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithBatching(size, age).WithCheckpointInterval(100 * time.Millisecond)
		appender, shutdown, _, err := tessera.NewAppender(ctx, driver, options)
		if err != nil {
			cancel()
			return nil, nil, err
		}
		e := entry()
		op := func(int) error {
			line, err := encode(e)
			if err != nil {
				return err
			}
			_, err = appender.Add(ctx, tessera.NewEntry(line))()
			return err
		}
		return op, func() error {
			defer cancel()
			return shutdown(ctx)
		}, nil
	}
}

// openSQLite is SQLite with a write-ahead log that is synced at each commit,
// and one transaction for whatever came in during the one before, at most 250.
// The table has no index but its row number.
func openSQLite(dir string) (operation, func() error, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "sqlite.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE entries (seq INTEGER PRIMARY KEY, line BLOB NOT NULL)"); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	insert, err := db.Prepare("INSERT INTO entries (line) VALUES (?)")
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	e := entry()
	g := &group{max: 250, commit: func(n int) error {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		st := tx.Stmt(insert)
		for range n {
			line, err := encode(e)
			if err == nil {
				_, err = st.Exec(line)
			}
			if err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}}
	return func(int) error { return g.add() }, db.Close, nil
}

// openPostgres is a cluster of its own on a socket, with its default
// durability: one COPY of 1,000 rows a transaction. Its CPU is not counted.
func openPostgres(dir string) (operation, func() error, error) {
	stop, err := startPostgres(dir)
	if err != nil {
		return nil, nil, err
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s user=postgres database=postgres", dir))
	if err == nil {
		_, err = conn.Exec(ctx, "CREATE TABLE entries (seq bigint PRIMARY KEY, line bytea NOT NULL)")
	}
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	e := entry()
	next := int64(0)
	op := func(int) error {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"entries"}, []string{"seq", "line"}, pgx.CopyFromSlice(1000, func(int) ([]any, error) {
			line, err := encode(e)
			next++
			return []any{next, line}, err
		}))
		return err
	}
	return op, func() error { return errors.Join(conn.Close(ctx), stop()) }, nil
}

// startPostgres makes and starts a cluster in dir, as the user postgres if
// this is root: the server refuses to run as that.
func startPostgres(dir string) (stop func() error, err error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if err != nil || len(found) == 0 {
		return nil, errors.New("PostgreSQL is not installed: apt-get install postgresql")
	}
	bin := filepath.Dir(found[len(found)-1])
	attr, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	run := func(name string, args ...string) error {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, attr
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out.String())
		}
		return nil
	}
	data := filepath.Join(dir, "data")
	if err := run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"); err != nil {
		return nil, err
	}
	options := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories=%s -c shared_buffers=512MB", dir)
	if err := run("pg_ctl", "-D", data, "-o", options, "-l", filepath.Join(dir, "log"), "-w", "start"); err != nil {
		return nil, err
	}
	return func() error { return run("pg_ctl", "-D", data, "-m", "fast", "-w", "stop") }, nil
}

func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if err := errors.Join(uidErr, gidErr, os.Chown(dir, uid, gid), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}
