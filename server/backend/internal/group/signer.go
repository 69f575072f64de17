package group

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

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

// Cosign adds the signature to a checkpoint that others have signed, unless it is
// there already.
func (s *Signer) Cosign(c audit.Checkpoint) (audit.Checkpoint, error) {
	own, err := s.Sign(c.Size, c.Root)
	if err != nil {
		return c, err
	}
	if _, sig, _ := strings.Cut(own.Note, "\n\n"); !strings.Contains(c.Note, sig) {
		c.Note += sig
	}
	return c, nil
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

// Only is the checkpoint with the signature of one key alone, which must be
// there.
func Only(c audit.Checkpoint, vkey string) (audit.Checkpoint, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return c, err
	}
	n, err := note.Open([]byte(c.Note), note.VerifierList(v))
	if err != nil {
		return c, err
	}
	sig := n.Sigs[0]
	c.Note = n.Text + "\n— " + sig.Name + " " + sig.Base64 + "\n"
	return c, nil
}

// Seal signs the SHA-256 of something that is derived from the ledger: what
// names its kind. It can be taken for no checkpoint, whose first line is the
// origin.
func (s *Signer) Seal(what string, sum [sha256.Size]byte) (string, error) {
	signed, err := note.Sign(&note.Note{Text: sealText(s.Origin(), what, sum)}, s.signer)
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", what, err)
	}
	return string(signed), nil
}

// CheckSeal is an error unless vkey has made the seal.
func CheckSeal(seal, what string, sum [sha256.Size]byte, vkey string) error {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	n, err := note.Open([]byte(seal), note.VerifierList(v))
	if err != nil {
		return err
	}
	if n.Text != sealText(v.Name(), what, sum) || len(n.Sigs)+len(n.UnverifiedSigs) != 1 {
		return errors.New("sealed was something else")
	}
	return nil
}

func sealText(origin, what string, sum [sha256.Size]byte) string {
	return fmt.Sprintf("kaizen derived %s\n%s\n%s\n", what, origin, tlog.Hash(sum))
}
