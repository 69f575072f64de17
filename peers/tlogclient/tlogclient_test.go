package tlogclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/audit"
)

// kaizen is the command, built once.
var kaizen string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tlogclient")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	kaizen = filepath.Join(dir, "kaizen")
	build := exec.Command("go", "build", "-tags", "grpcnotrace", "-o", kaizen, "./cmd/kaizen")
	build.Dir = filepath.Join("..", "..", "server")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the command: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// fill makes or continues a ledger in the data directory, and returns its key
// and its checkpoints on the way.
func fill(t *testing.T, data string, steps ...int) (vkey string, notes [][]byte) {
	t.Helper()
	l, err := audit.Open(filepath.Join(data, "audit"), audit.Config{KeyDir: filepath.Join(data, "keys"), Origin: "example.org/tlogclient"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, n := range steps {
		for n > 0 {
			entries := make([]audit.Entry, min(n, 2000))
			for i := range entries {
				entries[i] = audit.Entry{AgentID: "a", Action: "x", Result: audit.Success, Details: map[string]any{"n": n - i}}
			}
			if _, err := l.AppendBatch(t.Context(), entries); err != nil {
				t.Fatal(err)
			}
			n -= len(entries)
		}
		notes = append(notes, []byte(l.Checkpoint().Note))
	}
	return l.VerifierKey(), notes
}

// serve runs kaizen serve on data until the test ends, and returns the URL of
// its log.
func serve(t *testing.T, data string) *url.URL {
	t.Helper()
	cmd := exec.Command(kaizen, "serve", "--data", data, "--listen", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--json")
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := cmd.Process.Signal(os.Interrupt)
		if err := errors.Join(err, cmd.Wait()); err != nil {
			t.Errorf("kaizen serve: %v\n%s", err, problems.String())
		}
	})
	var ready struct {
		UI string `json:"ui"`
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		t.Fatalf("kaizen serve says %q: %v\n%s", line, err, problems.String())
	}
	u, err := url.Parse(strings.TrimSuffix(ready.UI, "/") + "/log/")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func leafHashes(bundle []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(b.Entries))
	for i, e := range b.Entries {
		hashes[i] = rfc6962.DefaultHasher.HashLeaf(e)
	}
	return hashes, nil
}

// runFsck gives Tessera's fsck a minute: version 1.0.4 can wait for ever when it
// has found damage.
func runFsck(t *testing.T, v note.Verifier, f fsck.Fetcher) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- fsck.New(v.Name(), v, f, leafHashes, fsck.Opts{N: 2}).Check(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func verifier(t *testing.T, vkey string) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestFsck has Tessera's fsck check every entry, tile and the root of logs of
// several shapes, over HTTP from kaizen serve and as the files of kaizen audit
// tiles.
func TestFsck(t *testing.T) {
	for _, size := range []int{1, 255, 256, 257, 1_000, 66_000} {
		t.Run(fmt.Sprintf("%d entries", size), func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			vkey, _ := fill(t, data, size)
			v := verifier(t, vkey)
			static := filepath.Join(t.TempDir(), "log")
			if out, err := exec.CommandContext(t.Context(), kaizen, "audit", "tiles", static, "--data", data).CombinedOutput(); err != nil {
				t.Fatalf("kaizen audit tiles: %v\n%s", err, out)
			}
			if err := runFsck(t, v, client.FileFetcher{Root: static}); err != nil {
				t.Errorf("fsck of the files: %v", err)
			}
			f, err := client.NewHTTPFetcher(serve(t, data), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := runFsck(t, v, f); err != nil {
				t.Errorf("fsck over HTTP: %v", err)
			}
		})
	}
}

// TestFsckFindsDamage shows that the check above can fail: one byte of one
// bundle is another one.
func TestFsckFindsDamage(t *testing.T) {
	data, static := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "log")
	vkey, _ := fill(t, data, 100)
	if out, err := exec.CommandContext(t.Context(), kaizen, "audit", "tiles", static, "--data", data).CombinedOutput(); err != nil {
		t.Fatalf("kaizen audit tiles: %v\n%s", err, out)
	}
	name := filepath.Join(static, "tile", "entries", "000.p", "100")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := runFsck(t, verifier(t, vkey), client.FileFetcher{Root: static}); err == nil {
		t.Error("fsck passed a changed bundle")
	}
}

// TestProofs has Tessera's client follow the log from one checkpoint to the
// next, and prove entries from tiles.
func TestProofs(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	vkey, notes := fill(t, data, 1, 300, 256, 1_443)
	v := verifier(t, vkey)
	f, err := client.NewHTTPFetcher(serve(t, data), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range notes {
		tracker, err := client.NewLogStateTracker(t.Context(), f.ReadTile, old, v, v.Name(), client.UnilateralConsensus(f.ReadCheckpoint))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := tracker.Update(t.Context()); err != nil {
			t.Fatalf("update from\n%s: %v", old, err)
		}
		if got := tracker.Latest(); got.Size != 2_000 {
			t.Errorf("the newest checkpoint covers %d entries, want 2000", got.Size)
		}
	}
	checkpoint, _, _, err := client.FetchCheckpoint(t.Context(), f.ReadCheckpoint, v, v.Name())
	if err != nil {
		t.Fatal(err)
	}
	checkEntries(t, f, checkpoint)
}

func checkEntries(t *testing.T, f *client.HTTPFetcher, checkpoint *log.Checkpoint) {
	t.Helper()
	builder, err := client.NewProofBuilder(t.Context(), checkpoint.Size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	for _, index := range []uint64{0, 1, 255, 256, 557, 1_999} {
		bundle, err := client.GetEntryBundle(t.Context(), f.ReadEntryBundle, index/256, checkpoint.Size)
		if err != nil {
			t.Fatal(err)
		}
		path, err := builder.InclusionProof(t.Context(), index)
		if err != nil {
			t.Fatal(err)
		}
		leaf := rfc6962.DefaultHasher.HashLeaf(bundle.Entries[index%256])
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, checkpoint.Size, leaf, path, checkpoint.Hash); err != nil {
			t.Errorf("entry %d: %v", index, err)
		}
	}
}
