package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// Checkpoint says what a ledger held at one moment, signed. It covers every
// entry whose index is below Size.
type Checkpoint struct {
	// Size is the number of entries covered.
	Size int64
	// Root is the RFC 6962 root hash of their lines.
	Root [32]byte
	// Note is the signed text: a C2SP checkpoint (c2sp.org/tlog-checkpoint).
	// Whoever keeps it can show later that the ledger was changed.
	Note string
}

const sigPrefix = "— "

// signer holds the private key of a ledger. Its methods may be called from
// several goroutines.
type signer struct {
	origin string
	vkey   string
	key    ed25519.PrivateKey
	hash   [4]byte // the key id of the note format
	macKey []byte  // for ring frames, derived from key
}

// checkpoint signs the tree of size entries with that root. It allocates no
// more than the note.
func (s *signer) checkpoint(size int64, root [32]byte) Checkpoint {
	var buf [1024]byte
	b := appendCheckpointText(buf[:0], s.origin, size, root)
	sig := ed25519.Sign(s.key, b)
	var raw [4 + ed25519.SignatureSize]byte
	copy(raw[:], s.hash[:])
	copy(raw[4:], sig)
	b = append(append(append(append(b, '\n'), sigPrefix...), s.origin...), ' ')
	b = append(base64.StdEncoding.AppendEncode(b, raw[:]), '\n')
	return Checkpoint{Size: size, Root: root, Note: string(b)}
}

// checkpointText is the body of a C2SP checkpoint, without extension lines.
func checkpointText(origin string, size int64, root [32]byte) string {
	return string(appendCheckpointText(nil, origin, size, root))
}

func appendCheckpointText(b []byte, origin string, size int64, root [32]byte) []byte {
	b = append(append(b, origin...), '\n')
	b = append(strconv.AppendInt(b, size, 10), '\n')
	return append(base64.StdEncoding.AppendEncode(b, root[:]), '\n')
}

func sigLine(name string, sig []byte) string {
	return sigPrefix + name + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
}

// parseCheckpoint checks msg against vkey and returns what it says. Signatures
// of others (witnesses) may stand beside ours; they are not looked at.
func parseCheckpoint(msg []byte, vkey string) (Checkpoint, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verifier key: %w", err)
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, err
	}
	for _, sig := range n.Sigs {
		// The note package takes base64 whose last, unused bits are set.
		raw, err := base64.StdEncoding.DecodeString(sig.Base64)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != sig.Base64 {
			return Checkpoint{}, errors.New("signature is not in canonical form")
		}
	}
	c := Checkpoint{Note: string(msg)}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 {
		return Checkpoint{}, errors.New("checkpoint is not of three lines")
	}
	size, sizeErr := strconv.ParseInt(lines[1], 10, 64)
	root, rootErr := base64.StdEncoding.DecodeString(lines[2])
	if sizeErr != nil || rootErr != nil || len(root) != len(c.Root) {
		return Checkpoint{}, errors.New("checkpoint has no size and root")
	}
	c.Size = size
	copy(c.Root[:], root)
	if size < 0 || checkpointText(v.Name(), c.Size, c.Root) != n.Text {
		return Checkpoint{}, errors.New("checkpoint of another origin, or not in canonical form")
	}
	return c, nil
}

// parseOwnCheckpoint is parseCheckpoint for the file that a ledger writes: it
// has our signature and nothing else, so every byte of it is checked.
func parseOwnCheckpoint(msg []byte, vkey string) (Checkpoint, error) {
	c, err := parseCheckpoint(msg, vkey)
	if err != nil {
		return Checkpoint{}, err
	}
	text, sig, _ := bytes.Cut(msg, []byte("\n\n"))
	name, _, _ := strings.Cut(vkey, "+")
	line := strings.TrimSuffix(strings.TrimPrefix(string(sig), sigPrefix+name+" "), "\n")
	raw, err := base64.StdEncoding.DecodeString(line)
	if err != nil || string(msg) != string(text)+"\n\n"+sigLine(name, raw) {
		return Checkpoint{}, errors.New("checkpoint is not in canonical form")
	}
	return c, nil
}

// originOf is the key's name, which is also the origin of its checkpoints. It
// refuses a second spelling of the same key.
func originOf(vkey string) (string, error) {
	if _, err := note.NewVerifier(vkey); err != nil {
		return "", err
	}
	part := strings.SplitN(vkey, "+", 3)
	key, err := base64.StdEncoding.DecodeString(part[2])
	if err != nil {
		return "", err
	}
	again, err := note.NewEd25519VerifierKey(part[0], key[1:])
	if err != nil || again != vkey {
		return "", errors.New("key is not in canonical form")
	}
	return part[0], nil
}

// newSigner reads a private key in the note format, as [note.GenerateKey]
// makes it: PRIVATE+KEY+name+id+base64(0x01 || seed).
func newSigner(skey string) (*signer, error) {
	if _, err := note.NewSigner(skey); err != nil {
		return nil, errors.New("not a signing key in the note format")
	}
	part := strings.SplitN(skey, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(part[4])
	if err != nil {
		return nil, errors.New("not a signing key in the note format")
	}
	s := &signer{origin: part[2], key: ed25519.NewKeyFromSeed(raw[1:])}
	id, err := strconv.ParseUint(part[3], 16, 32)
	if err != nil {
		return nil, errors.New("signing key without id")
	}
	if part[3] != fmt.Sprintf("%08x", id) {
		return nil, errors.New("id of the signing key is not in lower case")
	}
	binary.BigEndian.PutUint32(s.hash[:], uint32(id))
	if s.vkey, err = note.NewEd25519VerifierKey(s.origin, s.key.Public().(ed25519.PublicKey)); err != nil {
		return nil, err
	}
	s.macKey, err = hkdf.Key(sha256.New, raw[1:], nil, "kaizen ring frame v1 "+s.origin, sha256.Size)
	return s, err
}

// keyPath is where the key of the ledger in dir lies: beside it, because a key
// inside would travel with every copy of the ledger.
func keyPath(dir, keyDir string) string {
	if keyDir == "" {
		keyDir = filepath.Join(filepath.Dir(dir), "keys")
	}
	return filepath.Join(keyDir, filepath.Base(dir)+".key")
}

// maxSmallFile bounds ledger.json, checkpoint and key files.
const maxSmallFile = 64 << 10

func loadSigner(fsys durable.FS, name string) (*signer, error) {
	b, err := durable.ReadFile(fsys, name, maxSmallFile)
	if err != nil {
		return nil, err
	}
	s, err := newSigner(strings.TrimSuffix(string(b), "\n"))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	return s, nil
}

// ensureSigner loads the key, or makes one for origin if there is none.
func ensureSigner(fsys durable.FS, name, origin string) (*signer, error) {
	s, err := loadSigner(fsys, name)
	if err == nil {
		// It may come from an attempt that failed half-way: a ledger must not
		// outlive its key.
		return s, fsys.SyncDir(filepath.Dir(name))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := durable.MkdirAll(fsys, filepath.Dir(name)); err != nil {
		return nil, err
	}
	if origin == "" {
		origin = "kaizen/" + strings.ToLower(newID())
	}
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, err
	}
	if s, err = newSigner(skey); err != nil {
		return nil, fmt.Errorf("origin %q: %w", origin, err)
	}
	return s, durable.ReplaceFile(fsys, name, []byte(skey+"\n"))
}
