package merkle

import (
	"errors"
	"fmt"
)

// ErrProof means that a proof does not show what it claims to.
var ErrProof = errors.New("merkle: proof does not match the root")

// CheckInclusion verifies that leaf is at index in the tree of size leaves
// with that root (RFC 9162, section 2.1.3.2). It returns nil or an error that
// wraps [ErrProof].
func CheckInclusion(proof []Hash, index, size int64, leaf, root Hash) error {
	if index < 0 || index >= size {
		return fmt.Errorf("%w: leaf %d of %d", ErrProof, index, size)
	}
	fn, sn, h := index, size-1, leaf
	for _, p := range proof {
		if sn == 0 {
			return fmt.Errorf("%w: too long", ErrProof)
		}
		if fn&1 == 1 || fn == sn {
			h = HashNode(p, h)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			h = HashNode(h, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return fmt.Errorf("%w: too short", ErrProof)
	}
	if h != root {
		return ErrProof
	}
	return nil
}

// CheckConsistency verifies that the tree of old leaves with oldRoot is a
// prefix of the tree of size leaves with root (RFC 9162, section 2.1.4.2).
func CheckConsistency(proof []Hash, old, size int64, oldRoot, root Hash) error {
	switch {
	case old < 0 || old > size:
		return fmt.Errorf("%w: tree of %d in tree of %d", ErrProof, old, size)
	case old == size || old == 0:
		return checkTrivial(proof, old, size, oldRoot, root)
	case len(proof) == 0:
		return fmt.Errorf("%w: too short", ErrProof)
	}
	fn, sn := old-1, size-1
	for fn&1 == 1 {
		fn, sn = fn>>1, sn>>1
	}
	var fr, sr Hash
	if fn == 0 { // old is a power of two: its root is the first node
		fr, sr = oldRoot, oldRoot
	} else {
		fr, sr, proof = proof[0], proof[0], proof[1:]
	}
	for _, p := range proof {
		if sn == 0 {
			return fmt.Errorf("%w: too long", ErrProof)
		}
		if fn&1 == 1 || fn == sn {
			fr, sr = HashNode(p, fr), HashNode(p, sr)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			sr = HashNode(sr, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return fmt.Errorf("%w: too short", ErrProof)
	}
	if fr != oldRoot || sr != root {
		return ErrProof
	}
	return nil
}

// checkTrivial handles the trees that need no proof: the same, and the empty.
func checkTrivial(proof []Hash, old, size int64, oldRoot, root Hash) error {
	if len(proof) != 0 {
		return fmt.Errorf("%w: too long", ErrProof)
	}
	if old == 0 && oldRoot != EmptyRoot() || old == size && oldRoot != root {
		return ErrProof
	}
	return nil
}
