package durable

import "golang.org/x/sys/unix"

// DirectFlag opens a file for writes that go past the page cache and are
// durable when they return: one call and one flush, no copy, and no page that
// reads as clean after it failed to be written. Not every file system takes
// it: opening, or the first write, then fails with EINVAL. Zero where there is
// no such thing.
const DirectFlag = unix.O_DIRECT | unix.O_DSYNC
