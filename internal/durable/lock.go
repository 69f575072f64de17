package durable

import "errors"

// ErrLocked means that the lock is held, by this process or by another one.
var ErrLocked = errors.New("lock held by another process")
