package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kaizen-go/kaizen/server"
)

func TestMain(m *testing.M) {
	testscript.Main(withStores{m}, map[string]func(){"kaizen": main})
}

// TestScripts runs what a user types. The scripts are in testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     scriptExits,
			"waitready": scriptWaitReady,
			"http":      scriptHTTP,
			"replace":   scriptReplace,
			"follow":    scriptFollow,
		},
	})
}

// scriptExits is "exits CODE COMMAND...": runs the command and compares its
// exit code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code = %d, want %d", got, want)
	}
}

// scriptWaitReady is "waitready DIR": waits until the server
// that holds DIR answers /readyz, and sets UI, UI_ADDR,
// OTLP_HTTP and OTLP_GRPC.
func scriptWaitReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitready DIR")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	h, err := waitReady(ctx, ts.MkAbs(args[0]), ts.Getenv("KAIZEN_API_KEY"))
	ts.Check(err)
	ts.Setenv("UI", h.UI)
	ts.Setenv("UI_ADDR", strings.TrimPrefix(h.UI, "http://"))
	ts.Setenv("OTLP_HTTP", h.OTLPHTTP)
	ts.Setenv("OTLP_GRPC", h.OTLPGRPC)
}

// waitReady asks until a server holds dir and says that it is ready.
func waitReady(ctx context.Context, dir, key string) (server.Holder, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		h, held, err := server.FindHolder(dir)
		if err != nil {
			return h, err
		}
		if held && h.UI != "" {
			status, _, err := ask(ctx, http.MethodGet, h.UI+"/readyz", nil, http.Header{"X-Api-Key": {key}})
			if err == nil && status == http.StatusOK {
				return h, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return h, fmt.Errorf("no server became ready on %s", dir)
		}
	}
}

func ask(ctx context.Context, method, url string, body []byte, header http.Header) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, errors.Join(err, resp.Body.Close())
}

// scriptHTTP is "http STATUS METHOD URL [FILE] [Header:value...]": sends the
// request, compares the status and makes the body its standard output.
func scriptHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: http STATUS METHOD URL [FILE] [Header:value...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	header := http.Header{"Content-Type": {"application/json"}}
	var body []byte
	for _, a := range args[3:] {
		if name, value, ok := strings.Cut(a, ":"); ok {
			header.Set(name, value)
			continue
		}
		body = []byte(ts.ReadFile(a))
	}
	status, text, err := ask(context.Background(), args[1], args[2], body, header)
	ts.Check(err)
	_, err = ts.Stdout().Write(text)
	ts.Check(err)
	if status != want {
		ts.Fatalf("%s %s = %d, want %d: %s", args[1], args[2], status, want, text)
	}
}

// scriptReplace is "replace OLD NEW GLOB": replaces the first OLD in the one
// file that matches, in place, and fails when it is not there.
func scriptReplace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 || len(args[0]) != len(args[1]) {
		ts.Fatalf("usage: replace OLD NEW GLOB, OLD and NEW of one length")
	}
	files, err := filepath.Glob(ts.MkAbs(args[2]))
	ts.Check(err)
	for _, path := range files {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		ts.Check(err)
		text, err := io.ReadAll(f)
		ts.Check(err)
		at := bytes.Index(text, []byte(args[0]))
		if at >= 0 {
			_, err = f.WriteAt([]byte(args[1]), int64(at))
			ts.Check(err)
		}
		ts.Check(f.Close())
		if at >= 0 {
			return
		}
	}
	ts.Fatalf("%q is in none of %d files", args[0], len(files))
}
