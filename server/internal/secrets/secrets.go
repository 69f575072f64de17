// Package secrets makes the passwords and keys of a deployment as files that
// only their owner can read. It never prints one.
//
//	made, err := secrets.Ensure("secrets", "api_key", "grafana_admin_password")
package secrets

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/crypto/bcrypt"
)

// secretBytes of randomness are in each secret: 32, more than can be guessed,
// written as 43 characters of URL-safe base64.
const secretBytes = 32

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)

// State says what became of one secret.
type State struct {
	Name string `json:"name"`
	Path string `json:"path"`
	// New is set if the file was made, or made anew, by this call.
	New bool `json:"new"`
}

// Ensure makes the files in dir that are missing, and leaves those that are
// there alone, but for their permissions. Dir gets a .gitignore that keeps all
// of it out of version control.
func Ensure(dir string, names ...string) ([]State, error) { return write(dir, names, false) }

// Rotate makes the files anew. What uses a secret must be told, or restarted.
func Rotate(dir string, names ...string) ([]State, error) { return write(dir, names, true) }

func write(dir string, names []string, rotate bool) ([]State, error) {
	for _, name := range names {
		if !nameForm.MatchString(name) {
			return nil, fmt.Errorf("secrets: name %q: want lower-case letters, digits, dots, hyphens, underscores", name)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	if err := create(filepath.Join(dir, ".gitignore"), []byte("*\n")); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	var all []State
	for _, name := range names {
		s := State{Name: name, Path: filepath.Join(dir, name)}
		made, err := s.settle(rotate)
		if err != nil {
			return all, fmt.Errorf("secrets: %s: %w", name, err)
		}
		s.New = made
		all = append(all, s)
	}
	return all, nil
}

// settle makes the file of s, or, if it may stay, sees to its permissions.
func (s State) settle(rotate bool) (made bool, err error) {
	info, err := os.Lstat(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, create(s.Path, random())
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, errors.New("is there, and not a file")
	case rotate:
		tmp := s.Path + ".tmp"
		if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if err := create(tmp, random()); err != nil {
			return false, err
		}
		return true, os.Rename(tmp, s.Path)
	case info.Size() == 0:
		return false, errors.New("the file is empty: remove it to have one made")
	case info.Mode().Perm()&0o077 != 0:
		return false, os.Chmod(s.Path, 0o600)
	}
	return false, nil
}

// random is a new secret. There is no newline: some programs would take it for
// a part of the password.
func random() []byte {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program first
	return base64.RawURLEncoding.AppendEncode(nil, b)
}

// create writes a file that must not be there yet.
func create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// Htpasswd writes, for each secret NAME in dir, OUT/NAME.htpasswd with the line
// user:hash, as nginx, Apache and Prometheus know it. The hash is of bcrypt, at
// its default cost of 10: secrets of 256 bits need no more. A file whose hash is
// that of the secret stays as it is.
func Htpasswd(dir, out, user string, names ...string) ([]State, error) {
	if !userForm.MatchString(user) {
		return nil, fmt.Errorf("secrets: user %q: want letters, digits, dots, hyphens, underscores", user)
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	var all []State
	for _, name := range names {
		if !nameForm.MatchString(name) {
			return all, fmt.Errorf("secrets: name %q: want lower-case letters, digits, dots, hyphens, underscores", name)
		}
		s := State{Name: name, Path: filepath.Join(out, name+".htpasswd")}
		made, err := s.hash(filepath.Join(dir, name), user)
		if err != nil {
			return all, fmt.Errorf("secrets: %s: %w", name, err)
		}
		s.New = made
		all = append(all, s)
	}
	return all, nil
}

var userForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// hash writes the file of s from the secret at path.
func (s State) hash(path, user string) (made bool, err error) {
	secret, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if len(secret) == 0 {
		return false, errors.New("the file is empty")
	}
	have, err := os.ReadFile(s.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if h, ok := bytes.CutPrefix(bytes.TrimSpace(have), []byte(user+":")); ok && bcrypt.CompareHashAndPassword(h, secret) == nil {
		return false, os.Chmod(s.Path, 0o600)
	}
	h, err := bcrypt.GenerateFromPassword(secret, bcrypt.DefaultCost)
	if err != nil {
		return false, err // a secret of more than 72 bytes
	}
	tmp := s.Path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := create(tmp, fmt.Appendf(nil, "%s:%s\n", user, h)); err != nil {
		return false, err
	}
	return true, os.Rename(tmp, s.Path)
}
