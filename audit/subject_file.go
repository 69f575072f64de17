package audit

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The key store's file, described in docs/ledger-format.md: a header and then
// frames, each a batch of records, encrypted under the key-encryption key of
// the file's generation. It only grows, until an erasure writes a new one.
const (
	subjectsMagic     = "KZSK"
	subjectsHeaderLen = 64
	subjectFrameMagic = "KZSF"
	subjectFrameHead  = 4 + 4 + 8 + 12 // magic, length, sequence, nonce
	subjectFrameExtra = subjectFrameHead + 16 + 4
	// maxSubjectFrame bounds one frame, so that a damaged length is found out.
	maxSubjectFrame = 1 << 20
	// maxSubjectsFile bounds what is read into memory: some 4 million subjects.
	maxSubjectsFile = 1 << 30
	kekPrefix       = "KAIZEN-KEK"
)

// storeRecord is one statement in the key store.
type storeRecord struct {
	// Kind is "subject" (Token stands for Name), "key" (Key is one of Token's),
	// "erased" (Token's keys are destroyed, Erasure is what the receipt says),
	// "done" (its receipt is in the ledger) or "end" (the file was closed).
	Kind  string `json:"kind"`
	Token string `json:"token,omitempty"`
	Name  string `json:"name,omitempty"`
	Key   []byte `json:"key,omitempty"`
	// Made is when the key was, in seconds since 1970.
	Made    int64    `json:"made,omitempty"`
	Erasure *erasure `json:"erasure,omitempty"`
}

// errTorn means that the end of the file is what a crash leaves of a write.
var errTorn = errors.New("torn frame")

// frameCipher encrypts and decrypts the frames of one generation of the file.
type frameCipher struct {
	generation uint64
	kek        [32]byte
	id         [16]byte // of the file
	aead       cipher.AEAD
}

func newFrameCipher(generation uint64, kek [32]byte, id [16]byte) (*frameCipher, error) {
	block, err := aes.NewCipher(kek[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &frameCipher{generation: generation, kek: kek, id: id, aead: aead}, err
}

// freshFrameCipher has a new random key.
func freshFrameCipher(generation uint64) (*frameCipher, error) {
	var kek [32]byte
	var id [16]byte
	_, _ = rand.Read(kek[:])
	_, _ = rand.Read(id[:])
	return newFrameCipher(generation, kek, id)
}

// header is block 0 of the file. Its check value tells a wrong key from damage.
func (s *frameCipher) header() []byte {
	b := append(make([]byte, 0, subjectsHeaderLen), subjectsMagic...)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, subjectsHeaderLen)
	b = binary.LittleEndian.AppendUint64(b, s.generation)
	b = append(b, s.id[:]...)
	mac := hmac.New(sha256.New, s.kek[:])
	mac.Write(b)
	b = append(b, mac.Sum(nil)[:16]...)
	b = append(b, make([]byte, 12)...)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// generationOf reads the header of a file whose key is not known yet.
func generationOf(b []byte) (generation uint64, id [16]byte, err error) {
	if len(b) < subjectsHeaderLen {
		return 0, id, errors.New("shorter than its header")
	}
	b = b[:subjectsHeaderLen]
	if string(b[:4]) != subjectsMagic {
		return 0, id, errors.New("not a key store")
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != 1 {
		return 0, id, fmt.Errorf("format version %d: damaged, or written by a later version of this program", v)
	}
	if checksum(b[:60]) != binary.LittleEndian.Uint32(b[60:]) {
		return 0, id, errors.New("header is damaged")
	}
	return binary.LittleEndian.Uint64(b[8:]), [16]byte(b[16:32]), nil
}

// frame encrypts records as frame number seq. The nonce is random: a number
// can be used twice, when a torn frame was cut off.
func (s *frameCipher) frame(dst []byte, seq uint64, records []storeRecord) ([]byte, error) {
	var nonce [12]byte
	_, _ = rand.Read(nonce[:])
	return s.frameWith(nonce, dst, seq, records)
}

func (s *frameCipher) frameWith(nonce [12]byte, dst []byte, seq uint64, records []storeRecord) ([]byte, error) {
	plain, err := json.Marshal(records)
	if err != nil {
		return dst, err
	}
	if len(plain) > maxSubjectFrame-subjectFrameExtra {
		return dst, fmt.Errorf("frame of %d bytes", len(plain))
	}
	at := len(dst)
	dst = append(dst, subjectFrameMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(plain)+s.aead.Overhead()))
	dst = binary.LittleEndian.AppendUint64(dst, seq)
	dst = append(dst, nonce[:]...)
	dst = s.aead.Seal(dst, nonce[:], plain, s.aad(seq))
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[at:])), nil
}

func (s *frameCipher) aad(seq uint64) []byte {
	b := append(make([]byte, 0, 40), "kaizen subjects v1"...)
	b = append(b, s.id[:]...)
	return binary.LittleEndian.AppendUint64(b, seq)
}

// frameAt is the whole frame at the start of b: its length, or errTorn.
func frameAt(b []byte) (length int, seq uint64, err error) {
	if len(b) < subjectFrameExtra || string(b[:4]) != subjectFrameMagic {
		return 0, 0, errTorn
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	length = subjectFrameHead + n + 4
	if n < 16 || length > maxSubjectFrame || length > len(b) {
		return 0, 0, errTorn
	}
	if checksum(b[:length-4]) != binary.LittleEndian.Uint32(b[length-4:]) {
		return 0, 0, errTorn
	}
	return length, binary.LittleEndian.Uint64(b[8:]), nil
}

// open decrypts a whole frame.
func (s *frameCipher) open(frame []byte, seq uint64) ([]storeRecord, error) {
	plain, err := s.aead.Open(nil, frame[16:28], frame[28:len(frame)-4], s.aad(seq))
	if err != nil {
		return nil, fmt.Errorf("frame %d does not open under the key", seq)
	}
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.DisallowUnknownFields()
	var records []storeRecord
	if err := dec.Decode(&records); err != nil {
		return nil, fmt.Errorf("frame %d: %w", seq, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("frame %d: something after its records", seq)
	}
	return records, nil
}

// parse reads a whole file: its records in order, how many frames there are,
// and where they end. If that is before the end of b, the rest is what a crash
// left of a frame: nobody was told that it is durable. A whole frame after
// something that is none shows that this is damage, and is an error.
func (s *frameCipher) parse(b []byte) (records []storeRecord, frames uint64, end int, err error) {
	if !bytes.Equal(b[:min(len(b), subjectsHeaderLen)], s.header()) {
		return nil, 0, 0, errors.New("key-encryption key is not that of the file")
	}
	for end = subjectsHeaderLen; end < len(b); frames++ {
		n, seq, err := frameAt(b[end:])
		if err != nil {
			if at := laterFrame(b[end:]); at >= 0 {
				return nil, 0, 0, fmt.Errorf("damaged at byte %d: a whole frame follows at %d", end, end+at)
			}
			return records, frames, end, nil
		}
		if seq != frames {
			return nil, 0, 0, fmt.Errorf("frame %d at byte %d, want %d", seq, end, frames)
		}
		batch, err := s.open(b[end:end+n], seq)
		if err != nil {
			return nil, 0, 0, err
		}
		records = append(records, batch...)
		end += n
	}
	return records, frames, end, nil
}

// laterFrame finds a whole frame in b after its first byte, or -1.
func laterFrame(b []byte) int {
	for at := 1; at < len(b); {
		next := bytes.Index(b[at:], []byte(subjectFrameMagic))
		if next < 0 {
			return -1
		}
		at += next
		if _, _, err := frameAt(b[at:]); err == nil {
			return at
		}
		at++
	}
	return -1
}

// kekFile is the file of a key-encryption key, one line.
func kekFile(generation uint64, kek [32]byte) []byte {
	b := append([]byte(nil), kekPrefix+" 1 "...)
	b = strconv.AppendUint(b, generation, 10)
	b = append(b, ' ')
	b = base64.StdEncoding.AppendEncode(b, kek[:])
	return fmt.Appendf(b, " %08x\n", checksum(b))
}

// parseKEK takes exactly what kekFile gives.
func parseKEK(b []byte) (generation uint64, kek [32]byte, err error) {
	bad := errors.New("not a key-encryption key, or damaged")
	f := strings.Split(strings.TrimSuffix(string(b), "\n"), " ")
	if len(f) != 5 {
		return 0, kek, bad
	}
	generation, err = strconv.ParseUint(f[2], 10, 64)
	raw, rawErr := base64.StdEncoding.DecodeString(f[3])
	if err != nil || rawErr != nil || len(raw) != len(kek) {
		return 0, kek, bad
	}
	kek = [32]byte(raw)
	if !bytes.Equal(kekFile(generation, kek), b) {
		return 0, [32]byte{}, bad
	}
	return generation, kek, nil
}
