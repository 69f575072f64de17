package group

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"strings"

	"crypto/sha256"

	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// Signer signs checkpoints as [audit.Ledger] does. It may be used by several
// goroutines.
type Signer struct {
	signer note.Signer
	vkey   string
}

// VerifierKey is the public key in the note format.
func (s *Signer) VerifierKey() string { return s.vkey }

// Origin is the name of the key, and of the ledger.
func (s *Signer) Origin() string { return s.signer.Name() }

// Sign makes the checkpoint of a tree.
func (s *Signer) Sign(size int64, root tlog.Hash) (audit.Checkpoint, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", s.Origin(), size, root)
	signed, err := note.Sign(&note.Note{Text: text}, s.signer)
	if err != nil {
		return audit.Checkpoint{}, fmt.Errorf("sign checkpoint: %w", err)
	}
	return audit.Checkpoint{Size: size, Root: root, Note: string(signed)}, nil
}

// LoadSigner reads the signing key in file, one line in the note format and for
// its owner alone, as package audit keeps it. If there is none it makes one for
// origin, or for "kaizen/" and a random name.
func LoadSigner(file, origin string) (*Signer, error) {
	s, err := loadSigner(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(file, origin); err != nil {
			return nil, err
		}
		s, err = loadSigner(file)
	}
	if err != nil {
		return nil, err
	}
	if origin != "" && s.Origin() != origin {
		return nil, fmt.Errorf("key %s is that of %s, want %s", file, s.Origin(), origin)
	}
	return s, nil
}

func loadSigner(file string) (*Signer, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key %s is readable by others (mode %o, want 600)", file, info.Mode().Perm())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return NewSigner(strings.TrimSpace(string(b)))
}

// NewSigner takes a private key in the note format.
func NewSigner(skey string) (*Signer, error) {
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, errors.New("not a signing key in the note format")
	}
	vkey, err := verifierKey(skey)
	if err != nil {
		return nil, err
	}
	return &Signer{signer: signer, vkey: vkey}, nil
}

// makeKey writes a new key. If somebody else makes one at the same moment, the
// first one stays.
func makeKey(file, origin string) (err error) {
	if origin == "" {
		origin = "kaizen/" + strings.ToLower(ulid.Make().String())
	}
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return fmt.Errorf("make key of %q: %w", origin, err)
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(file)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.WriteString(skey + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Tree is the right edge of a Merkle tree: the roots of its perfect subtrees,
// from the largest to the smallest, one for each bit of the size.
type Tree struct {
	Size int64
	Edge []tlog.Hash
}

// Node is the root of a subtree of 256^Level leaves: what a tile of that level
// holds at that place.
type Node struct {
	Level int
	N     int64
	Hash  tlog.Hash
}

// Append adds a leaf, and to nodes the subtrees of 256^n leaves that it
// completes.
func (t *Tree) Append(leaf tlog.Hash, nodes []Node) []Node {
	h := leaf
	for level, s := 1, t.Size; s&1 == 1; level, s = level+1, s>>1 {
		last := len(t.Edge) - 1
		h = hashNode(t.Edge[last], h)
		t.Edge = t.Edge[:last]
		if level%8 == 0 {
			nodes = append(nodes, Node{Level: level / 8, N: t.Size >> level, Hash: h})
		}
	}
	t.Edge = append(t.Edge, h)
	t.Size++
	return nodes
}

// Root is the RFC 6962 root.
func (t *Tree) Root() tlog.Hash {
	if t.Size == 0 {
		return sha256.Sum256(nil)
	}
	last := len(t.Edge) - 1
	h := t.Edge[last]
	for i := last - 1; i >= 0; i-- {
		h = hashNode(t.Edge[i], h)
	}
	return h
}

// Clone returns a copy that shares nothing.
func (t *Tree) Clone() Tree { return Tree{Size: t.Size, Edge: append([]tlog.Hash(nil), t.Edge...)} }

// Marshal gives the edge as bytes, 32 for each hash.
func (t *Tree) Marshal() []byte {
	b := make([]byte, 0, len(t.Edge)*tlog.HashSize)
	for _, h := range t.Edge {
		b = append(b, h[:]...)
	}
	return b
}

// ParseTree reads what [Tree.Marshal] gave for a tree of that size.
func ParseTree(size int64, edge []byte) (Tree, error) {
	if size < 0 || len(edge) != bits.OnesCount64(uint64(size))*tlog.HashSize {
		return Tree{}, fmt.Errorf("right edge of %d bytes for a tree of %d entries", len(edge), size)
	}
	t := Tree{Size: size}
	for i := 0; i < len(edge); i += tlog.HashSize {
		t.Edge = append(t.Edge, tlog.Hash(edge[i:i+tlog.HashSize]))
	}
	return t, nil
}

// hashNode is SHA-256(0x01 || left || right), on the stack.
func hashNode(left, right tlog.Hash) tlog.Hash {
	var buf [1 + 2*tlog.HashSize]byte
	buf[0] = 1
	copy(buf[1:], left[:])
	copy(buf[1+tlog.HashSize:], right[:])
	return sha256.Sum256(buf[:])
}
