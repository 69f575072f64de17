//go:build !purego

package merkle

import "sync"

// blocks2 adds n blocks of 64 bytes to two hashes at once. It needs twoAtOnce.
// The two may be one and the same.
//
//go:noescape
func blocks2(h0, h1 *state, p0, p1 *byte, n int)

// cpuid asks the processor what it can do.
//
//go:noescape
func cpuid(leaf, sub uint32) (eax, ebx, ecx uint32)

// twoAtOnce reports whether the processor has what blocks2 needs, and it gives
// the hashes of crypto/sha256.
var twoAtOnce = sync.OnceValue(func() bool {
	const ssse3, sse41, sha = 1 << 9, 1 << 19, 1 << 29
	if most, _, _ := cpuid(0, 0); most < 7 {
		return false
	}
	_, _, ecx := cpuid(1, 0)
	_, ebx, _ := cpuid(7, 0)
	return ecx&ssse3 != 0 && ecx&sse41 != 0 && ebx&sha != 0 && lanesWork()
})
