package main

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server"
)

// The exit codes.
const (
	exitGood        = 0
	exitFailed      = 1 // the check or the work failed
	exitUsage       = 2
	exitEnvironment = 3 // cannot open, locked, port taken
)

// exitError carries the exit code that an error ends the process with, and the
// next step for whoever reads it.
type exitError struct {
	code   int
	advice string
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usage(err error, advice string) error       { return &exitError{exitUsage, advice, err} }
func failed(err error) error                     { return &exitError{exitFailed, "", err} }
func environment(err error, advice string) error { return &exitError{exitEnvironment, advice, err} }

// classify returns the exit code of err and the advice to print below it. An
// error that nobody classed is judged by its cause.
func classify(err error) (code int, advice string) {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code, e.advice
	}
	switch {
	case errors.Is(err, server.ErrConfig):
		return exitUsage, "see kaizen serve --help"
	case errors.Is(err, server.ErrLocked), errors.Is(err, audit.ErrLocked):
		return exitEnvironment, "stop the other process, or name another directory with --data"
	case errors.Is(err, syscall.EADDRINUSE):
		return exitEnvironment, "choose another port with --listen, --otlp-http and --otlp-grpc (port 0 takes a free one), or stop what uses it"
	case errors.Is(err, server.ErrNoData):
		return exitEnvironment, "start the server with kaizen serve, or name the place with --data DIR or --server URL"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return exitEnvironment, ""
	}
	return exitFailed, ""
}
