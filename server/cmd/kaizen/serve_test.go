package main

import (
	"errors"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A stop waits for running requests; a second signal does not.
func TestSecondSignal(t *testing.T) {
	c := startChild(t, filepath.Join(t.TempDir(), "data"))
	body, slow := io.Pipe() // a request that does not end
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		resp, err := http.Post(c.ready.UI+"/v1/traces", "application/json", body)
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	if _, err := slow.Write([]byte("{")); err != nil {
		t.Fatal(err)
	}
	// The answer to another request shows that the server has read on.
	if status, _, err := ask(t.Context(), http.MethodGet, c.ready.UI+"/readyz", nil, nil); err != nil || status != http.StatusOK {
		t.Fatalf("readyz = %d, %v", status, err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// Once nobody listens any more, the first signal has been taken.
	for {
		if _, _, err := ask(t.Context(), http.MethodGet, c.ready.UI+"/readyz", nil, http.Header{"Connection": {"close"}}); err != nil {
			break
		}
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := c.cmd.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("second signal ended it with %v, want it to end at once, by the signal", err)
	}
	if err := slow.Close(); err != nil { // the client waits for its body's end
		t.Error(err)
	}
	<-answered
}
