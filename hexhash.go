package kaizen

import (
	"encoding/hex"
	"fmt"
)

// hexHash is a SHA-256 hash that is hexadecimal in JSON.
type hexHash [32]byte

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *hexHash) UnmarshalText(b []byte) error {
	if len(b) != 2*len(h) {
		return fmt.Errorf("hash of %d hex digits, want %d", len(b), 2*len(h))
	}
	_, err := hex.Decode(h[:], b)
	return err
}
