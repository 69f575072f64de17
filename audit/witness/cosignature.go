package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// algorithm is the type of timestamped Ed25519 cosignatures
// (c2sp.org/tlog-cosignature).
const algorithm = 0x04

// A cosignature is a timestamp, high byte first, and an Ed25519 signature.
const (
	timestampLen   = 8
	cosignatureLen = timestampLen + ed25519.SignatureSize
)

// Signer holds the private key of a witness. It may be used from several
// goroutines.
type Signer struct {
	name string
	key  ed25519.PrivateKey
	id   uint32
}

// GenerateKey makes the key pair of a witness called name, which should be a
// URL without scheme: no spaces, no plus sign. The private key is one line for
// a file that only its owner can read; the public key is what the ledgers that
// ask the witness are given.
func GenerateKey(name string) (private, public string, err error) {
	if !validName(name) {
		return "", "", fmt.Errorf("witness: name %q: empty, or has spaces or a plus sign", name)
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return "", "", fmt.Errorf("witness: make key: %w", err)
	}
	s := newSigner(name, seed)
	return fmt.Sprintf("%s%s+%08x+%s", privatePrefix, name, s.id, encodeKey(seed)), s.VerifierKey(), nil
}

const privatePrefix = "PRIVATE+KEY+"

func encodeKey(material []byte) string {
	return base64.StdEncoding.EncodeToString(append([]byte{algorithm}, material...))
}

func newSigner(name string, seed []byte) *Signer {
	key := ed25519.NewKeyFromSeed(seed)
	return &Signer{name, key, keyID(name, key.Public().(ed25519.PublicKey))}
}

// NewSigner reads a private key that [GenerateKey] made. It is read in its one
// spelling only, and no error quotes it.
func NewSigner(private string) (*Signer, error) {
	rest, ok := strings.CutPrefix(private, privatePrefix)
	name, id, seed, err := parseKey(rest)
	if !ok || err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("witness: not the private key of a witness")
	}
	s := newSigner(name, seed)
	if s.id != id {
		return nil, errors.New("witness: private key has another id than it should")
	}
	return s, nil
}

// Name is the witness's name.
func (s *Signer) Name() string { return s.name }

// VerifierKey is the public key: "<name>+<id>+<base64>".
func (s *Signer) VerifierKey() string {
	return fmt.Sprintf("%s+%08x+%s", s.name, s.id, encodeKey(s.key.Public().(ed25519.PublicKey)))
}

// cosign signs the text of a checkpoint, and returns the line for its note.
func (s *Signer) cosign(text string, at time.Time) string {
	unix := uint64(at.Unix())
	b := binary.BigEndian.AppendUint32(nil, s.id)
	b = binary.BigEndian.AppendUint64(b, unix)
	b = append(b, ed25519.Sign(s.key, message(unix, text))...)
	return "— " + s.name + " " + base64.StdEncoding.EncodeToString(b) + "\n"
}

// message is what a cosignature signs.
func message(unix uint64, text string) []byte {
	return append(strconv.AppendUint([]byte("cosignature/v1\ntime "), unix, 10), "\n"+text...)
}

// keyID is SHA-256(name || "\n" || 0x04 || key)[:4].
func keyID(name string, key ed25519.PublicKey) uint32 {
	h := sha256.Sum256(append(append([]byte(name), '\n', algorithm), key...))
	return binary.BigEndian.Uint32(h[:])
}

// parseKey reads "<name>+<id>+<base64 of 0x04 and material>".
func parseKey(s string) (name string, id uint32, material []byte, err error) {
	name, rest, _ := strings.Cut(s, "+")
	idText, key, _ := strings.Cut(rest, "+")
	idBytes, idErr := hex.DecodeString(idText)
	raw, keyErr := base64.StdEncoding.DecodeString(key)
	if !validName(name) || idErr != nil || len(idBytes) != 4 || keyErr != nil || len(raw) == 0 {
		return "", 0, nil, errors.New("not <name>+<id>+<key>")
	}
	if raw[0] != algorithm {
		return "", 0, nil, fmt.Errorf("key is of type %#02x, want %#02x: timestamped Ed25519 cosignatures", raw[0], algorithm)
	}
	id, material = binary.BigEndian.Uint32(idBytes), raw[1:]
	if fmt.Sprintf("%s+%08x+%s", name, id, encodeKey(material)) != s {
		return "", 0, nil, errors.New("not in canonical form")
	}
	return name, id, material, nil
}

func validName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsRune(name, '+') && strings.IndexFunc(name, unicode.IsSpace) < 0
}

// Verifier checks the cosignatures of one witness. It is a [note.Verifier].
type Verifier struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

var _ note.Verifier = (*Verifier)(nil)

// NewVerifier reads the public key of a witness, as [Signer.VerifierKey] gives
// it.
func NewVerifier(vkey string) (*Verifier, error) {
	name, id, key, err := parseKey(vkey)
	if err != nil {
		return nil, fmt.Errorf("witness: public key: %w", err)
	}
	if len(key) != ed25519.PublicKeySize || keyID(name, key) != id {
		return nil, errors.New("witness: public key: length or id is wrong")
	}
	return &Verifier{name, id, key}, nil
}

// Name implements [note.Verifier].
func (v *Verifier) Name() string { return v.name }

// KeyHash implements [note.Verifier].
func (v *Verifier) KeyHash() uint32 { return v.id }

// Verify implements [note.Verifier]: sig is a timestamp and a signature.
func (v *Verifier) Verify(msg, sig []byte) bool {
	if len(sig) != cosignatureLen {
		return false
	}
	unix := binary.BigEndian.Uint64(sig)
	return unix > 0 && unix <= math.MaxInt64 && ed25519.Verify(v.key, message(unix, string(msg)), sig[timestampLen:])
}

// Cosignature says who saw a checkpoint, and when, by that witness's clock.
type Cosignature struct {
	Witness string
	Time    time.Time
}

// Cosignatures returns those on a note that are by the witnesses whose public
// keys are vkeys, in the order of the note. Signatures of others are passed
// over; one under a name and id of vkeys that does not verify is an error.
func Cosignatures(signed string, vkeys ...string) ([]Cosignature, error) {
	n, err := openNote(signed, vkeys)
	if err != nil {
		return nil, fmt.Errorf("witness: cosignatures: %w", err)
	}
	var found []Cosignature
	for _, sig := range n.Sigs {
		raw, err := base64.StdEncoding.DecodeString(sig.Base64)
		if err != nil {
			return nil, fmt.Errorf("witness: cosignatures: %w", err)
		}
		found = append(found, Cosignature{sig.Name, time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC()})
	}
	return found, nil
}

// openNote opens a note under keys of witnesses. One without a signature by
// any of them has no Sigs.
func openNote(signed string, vkeys []string) (*note.Note, error) {
	var list []note.Verifier
	for _, k := range vkeys {
		v, err := NewVerifier(k)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(list...))
	if unverified, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		return unverified.Note, nil
	}
	return n, err
}
