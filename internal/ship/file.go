package ship

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A spool file holds one batch as it goes over the wire. Integers are
// little-endian:
//
//	offset  bytes  content
//	0       8      "KZSPOOL1"
//	8       4      flags: 1 = gzip
//	12      4      records in the batch
//	16      4      n, length of the body
//	20      n      body
//	20+n    4      CRC-32C of everything before
//
// Neither the URL nor the headers are kept: a batch goes where the process that
// sends it is configured to send, with that process's credentials.
const (
	fileMagic    = "KZSPOOL1"
	fileHeader   = 20
	fileTrailer  = 4
	fileFlagGzip = 1
	// maxFileBytes is more than any batch has: a wrong length is found before
	// memory is asked for.
	maxFileBytes = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("damaged")

// encodeFile returns the content of the file for b.
func encodeFile(b *batch) []byte {
	out := make([]byte, 0, fileHeader+len(b.wire)+fileTrailer)
	out = append(out, fileMagic...)
	var flags uint32
	if b.gzipped {
		flags |= fileFlagGzip
	}
	out = binary.LittleEndian.AppendUint32(out, flags)
	out = binary.LittleEndian.AppendUint32(out, uint32(b.items))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(b.wire)))
	out = append(out, b.wire...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

// header is the fixed part of a spool file.
type header struct {
	gzipped bool
	items   int64
	length  int64
}

// decodeHeader reads the head of a file of that size.
func decodeHeader(head []byte, size int64) (header, error) {
	if len(head) < fileHeader || string(head[:8]) != fileMagic {
		return header{}, fmt.Errorf("%w: no spool header", errDamaged)
	}
	flags := binary.LittleEndian.Uint32(head[8:])
	h := header{
		gzipped: flags&fileFlagGzip != 0,
		items:   int64(binary.LittleEndian.Uint32(head[12:])),
		length:  int64(binary.LittleEndian.Uint32(head[16:])),
	}
	switch {
	case flags&^fileFlagGzip != 0:
		return header{}, fmt.Errorf("%w: unknown flags %#x", errDamaged, flags)
	case h.items == 0:
		return header{}, fmt.Errorf("%w: no records", errDamaged)
	case h.length > maxFileBytes || size != fileHeader+h.length+fileTrailer:
		return header{}, fmt.Errorf("%w: %d bytes do not fit a body of %d", errDamaged, size, h.length)
	}
	return h, nil
}

// decodeFile is the inverse of encodeFile.
func decodeFile(content []byte) (*batch, error) {
	h, err := decodeHeader(content, int64(len(content)))
	if err != nil {
		return nil, err
	}
	end := fileHeader + h.length
	if got, want := crc32.Checksum(content[:end], castagnoli), binary.LittleEndian.Uint32(content[end:]); got != want {
		return nil, fmt.Errorf("%w: checksum %08x, want %08x", errDamaged, got, want)
	}
	return &batch{wire: content[fileHeader:end:end], gzipped: h.gzipped, items: h.items}, nil
}
