package durable

import "unsafe"

// DirectAlign is what the address, the offset and the length of a write must
// be multiples of in a file that was opened with [DirectFlag].
const DirectAlign = 4096

// AlignedBuffer returns n zero bytes at an address that is a multiple of
// [DirectAlign].
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+DirectAlign)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (DirectAlign - 1)
	return b[skip : skip+n : skip+n]
}
