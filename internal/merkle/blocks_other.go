//go:build !amd64 || purego

package merkle

// twoAtOnce reports whether blocks2 may be called.
func twoAtOnce() bool { return false }

func blocks2(h0, h1 *state, p0, p1 *byte, n int) { panic("merkle: no blocks2") }
