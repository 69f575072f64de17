// Package s3test starts an S3 server for tests: SeaweedFS, in a temporary
// directory, on this machine's loopback.
//
//	func TestMain(m *testing.M) { os.Exit(s3test.Main(m)) }
//
//	server := s3test.Start(t)
//	bucket := server.Bucket(t)
package s3test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/kaizen-go/kaizen/server/internal/testport"
)

// The credentials that the server takes.
const (
	AccessKey = "kaizentest"
	SecretKey = "kaizentestsecret"
)

// Server is the one server of a test binary.
type Server struct {
	// Endpoint is its host:port, without TLS.
	Endpoint string

	dir     string
	ports   *testport.Claimed
	cmd     *exec.Cmd
	out     *os.File
	ended   chan struct{} // closed when the server has ended
	mu      sync.Mutex
	buckets int
}

var shared struct {
	once sync.Once
	*Server
	err error
}

// Main runs the tests, and then stops the server if one was started. M is a
// [*testing.M] or what has one run.
func Main(m interface{ Run() int }) int {
	code := m.Run()
	if s := shared.Server; s != nil {
		if err := s.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "s3test: stop:", err)
			return 1
		}
	}
	return code
}

// Start starts the server if it does not run yet. Without SeaweedFS on this
// machine the test is skipped; with CI=true it fails.
func Start(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() { shared.Server, shared.err = start() })
	if errors.Is(shared.err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skip("SeaweedFS (weed) is not installed: run scripts/test-setup.sh")
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.Server
}

const identities = `{"identities":[{"name":"test","credentials":[{"accessKey":"` + AccessKey + `","secretKey":"` + SecretKey +
	`"}],"actions":["Admin","Read","Write","List","Tagging"]}]}`

func start() (_ *Server, err error) {
	bin, err := exec.LookPath("weed")
	if err != nil {
		return nil, err
	}
	s := &Server{}
	if s.dir, err = os.MkdirTemp("", "kaizen-s3"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("s3test: %w", err), os.RemoveAll(s.dir))
		}
	}()
	config := filepath.Join(s.dir, "s3.json")
	if err := os.WriteFile(config, []byte(identities), 0o600); err != nil {
		return nil, err
	}
	// Each of its servers listens 10,000 above its port too, for gRPC.
	if s.ports, err = testport.Claim(4, 10_000); err != nil {
		return nil, err
	}
	s.Endpoint = "127.0.0.1:" + s.ports.Ports[3]
	args := []string{
		"server", "-dir=" + s.dir, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=100", "-master.volumeSizeLimitMB=64",
		"-filer", "-s3", "-s3.config=" + config, "-master.telemetry=false",
		"-volume.preStopSeconds=0", // nobody else uses it
		// These listen on fixed ports unless they are told not to, and a second
		// server on this machine, of another package's tests, would end.
		"-s3.port.iceberg=0", "-s3.port.lance=0",
	}
	for i, flag := range []string{"master.port", "volume.port", "filer.port", "s3.port"} {
		args = append(args, "-"+flag+"="+s.ports.Ports[i])
	}
	if s.out, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(bin, args...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, s.out, s.out
	s.cmd.Env = append(os.Environ(), "TMPDIR="+s.dir) // of its logs
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, s.out.Close(), s.ports.Release())
	}
	s.ended = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // how it ends says nothing about the tests
		close(s.ended)
	}()
	if err := s.await(); err != nil {
		text, _ := os.ReadFile(s.out.Name()) // for the message alone
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, bytes.Join(complaint.FindAll(text, 20), []byte("\n"))), s.stop())
	}
	return s, nil
}

// complaint is a line of the server's log about an error. When it ends, stacks
// of all its goroutines follow.
var complaint = regexp.MustCompile(`(?m)^[EF]\d{4} .*$`)

// await makes a bucket as soon as the server can.
func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	client, err := s.client()
	if err != nil {
		return err
	}
	for {
		err := client.MakeBucket(ctx, "first-bucket", minio.MakeBucketOptions{})
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("server has ended: %s", s.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("server does not answer: %w", err)
		case <-tick.C:
		}
	}
}

func (s *Server) client() (*minio.Client, error) {
	return minio.New(s.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: "us-east-1", MaxRetries: 1})
}

// Client is a client of the server.
func (s *Server) Client(t testing.TB) *minio.Client {
	t.Helper()
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Bucket makes a new bucket, with object lock, and so with versions, if locked
// is set.
func (s *Server) Bucket(t testing.TB, locked bool) string {
	t.Helper()
	s.mu.Lock()
	s.buckets++
	name := fmt.Sprintf("bucket-%d", s.buckets)
	s.mu.Unlock()
	if err := s.Client(t).MakeBucket(t.Context(), name, minio.MakeBucketOptions{ObjectLocking: locked}); err != nil {
		t.Fatal(err)
	}
	return name
}

// stop kills the server, which takes 5 seconds to end otherwise, and removes the
// sockets that it has for itself.
func (s *Server) stop() error {
	errs := []error{}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		errs = append(errs, err)
	}
	<-s.ended
	for _, port := range s.ports.Ports {
		n, err := strconv.Atoi(port)
		errs = append(errs, err)
		for _, name := range []string{port, "grpc-" + strconv.Itoa(n+10_000)} {
			sockets, err := filepath.Glob("/tmp/seaweedfs-*-" + name + ".sock")
			errs = append(errs, err)
			for _, socket := range sockets {
				errs = append(errs, os.Remove(socket))
			}
		}
	}
	return errors.Join(append(errs, s.out.Close(), s.ports.Release(), os.RemoveAll(s.dir))...)
}
