// Package pgtest starts a PostgreSQL server of its own for tests: a new cluster
// in a temporary directory, reached over a Unix socket, with fsync on.
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	dsn := pgtest.DSN(t)
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cluster is the one server of a test binary.
var cluster struct {
	once sync.Once
	*server
	err error
}

type server struct {
	dir string
	cmd *exec.Cmd
	out *os.File
	// ended releases the thread that started the server.
	ended chan struct{}
}

// Main runs the tests, and then stops the server if one was started. M is a
// [*testing.M] or what has one run.
func Main(m interface{ Run() int }) int {
	code := m.Run()
	if s := cluster.server; s != nil {
		if err := s.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: stop:", err)
			return 1
		}
	}
	return code
}

// DSN starts the server if it does not run yet, and returns how to connect to
// its database as superuser. Without PostgreSQL on this machine the test is
// skipped; with CI=true it fails.
func DSN(t testing.TB) string {
	t.Helper()
	cluster.once.Do(func() { cluster.server, cluster.err = start() })
	if errors.Is(cluster.err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skip("PostgreSQL is not installed: run scripts/test-setup.sh")
	}
	if cluster.err != nil {
		t.Fatal(cluster.err)
	}
	return fmt.Sprintf("host=%s port=5432 user=kaizen dbname=postgres sslmode=disable", cluster.dir)
}

// start makes a cluster and waits until it answers.
func start() (_ *server, err error) {
	bin, err := binDir()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kaizen-pg")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("pgtest: %w", err), os.RemoveAll(dir))
		}
	}()
	who, err := credential(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "kaizen", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions")
	initdb.SysProcAttr, initdb.Dir = who, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if s.out, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=",
		"-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on",
		"-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB", "-c", "wal_buffers=16MB", "-c", "max_connections=200")
	s.cmd.SysProcAttr, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = who, dir, s.out, s.out
	if err := s.startOnThread(); err != nil {
		return nil, err
	}
	if err := s.await(filepath.Join(bin, "pg_isready")); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// startOnThread starts the server from a thread that lives as long as it does:
// the kernel takes the end of that thread for the parent's.
func (s *server) startOnThread() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- s.cmd.Start()
		<-s.ended
	}()
	return <-started
}

// await asks until the server takes connections.
func (s *server) await(isReady string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if exec.CommandContext(ctx, isReady, "-q", "-h", s.dir, "-d", "postgres", "-U", "kaizen").Run() == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(s.out.Name()) // for the message alone
			return fmt.Errorf("server does not answer: %w\n%s", ctx.Err(), text)
		case <-tick.C:
		}
	}
}

// stop asks the server to end at once, without waiting for connections.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	err := s.cmd.Wait()
	close(s.ended)
	return errors.Join(err, s.out.Close(), os.RemoveAll(s.dir))
}

// credential makes dir the property of an ordinary user if this process is
// root, which PostgreSQL refuses to run as. The server dies with its parent.
func credential(dir string) (*syscall.SysProcAttr, error) {
	attr := dieWithParent()
	if os.Getuid() != 0 {
		return attr, nil
	}
	var u *user.User
	var err error
	for _, name := range []string{"postgres", "nobody"} {
		if u, err = user.Lookup(name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	uid, errU := strconv.ParseUint(u.Uid, 10, 32)
	gid, errG := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errU, errG); err != nil {
		return nil, err
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, os.Chown(dir, int(uid), int(gid))
}

// binDir finds the newest installed server.
func binDir() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4]) // one that is no number is the oldest
		return n
	}
	sort.Slice(found, func(i, j int) bool { return version(found[i]) > version(found[j]) })
	if len(found) > 0 {
		return filepath.Dir(found[0]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", err
	}
	return filepath.Dir(path), nil
}
