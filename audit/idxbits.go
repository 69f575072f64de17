package audit

import (
	"encoding/binary"
	"math/bits"
)

// Numbers packed at a fixed number of bits, the lowest bit first: how the
// columns of an index file keep 256 values in width*32 bytes.

// packPad is how many bytes must follow packed values, so that unpacking may
// load eight bytes anywhere.
const packPad = 8

// bitWidth is the number of bits that v needs.
func bitWidth(v uint64) uint { return uint(bits.Len64(v)) }

// packedLen is the number of bytes of n values of that width.
func packedLen(n int, width uint) int { return (n*int(width) + 7) / 8 }

// appendPacked appends the values, each less than 2^width.
func appendPacked(dst []byte, values []uint64, width uint) []byte {
	end := len(dst) + packedLen(len(values), width)
	var word uint64 // the bits that are not in dst yet
	var have uint   // how many, less than 64
	for _, v := range values {
		word |= v << have
		if have += width; have >= 64 {
			dst = binary.LittleEndian.AppendUint64(dst, word)
			have -= 64
			word = v >> (width - have)
		}
	}
	for ; len(dst) < end; word >>= 8 {
		dst = append(dst, byte(word))
	}
	return dst
}

// unpack returns the i-th value. src has packPad bytes more than the values.
func unpack(src []byte, i int, width uint) uint64 {
	pos := uint(i) * width
	at, shift := pos/8, pos%8
	v := binary.LittleEndian.Uint64(src[at:]) >> shift
	if shift+width > 64 {
		v |= uint64(src[at+8]) << (64 - shift)
	}
	if width < 64 {
		v &= 1<<width - 1
	}
	return v
}

// zigzag makes small numbers of either sign small without sign.
func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
