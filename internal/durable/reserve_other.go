//go:build !linux

package durable

import (
	"os"
	"syscall"
)

func reserve(*os.File, int64, int64) error { return nil }

var noSpace = []error{syscall.ENOSPC, syscall.EROFS}
