//go:build !unix

package hook

import (
	"errors"
	"os"
	"syscall"
)

// Programs need process groups and file modes; elsewhere they are refused.

const nonblock = 0

type pinned struct{ path string }

func (pinned) files() []*os.File { return nil }
func (pinned) close() error      { return nil }

func pin(string, []byte) (pinned, error) { return pinned{}, errors.ErrUnsupported }

func checkFile(os.FileInfo) error { return errors.ErrUnsupported }

func ownGroup() *syscall.SysProcAttr { return nil }
func killGroup(int)                  {}
func awaitExit(int) bool             { return false }
