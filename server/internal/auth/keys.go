package auth

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// minKeyLength is the shortest key that is taken. Sixteen random characters of
// base64 are 96 bits, out of reach for guessing over a network.
const minKeyLength = 16

// maxKeyFileBytes bounds what is read of a key file: far more than any sensible
// list of keys, little enough that a wrong path does no harm.
const maxKeyFileBytes = 1 << 20

// CheckKey says what is wrong with key as an API key: shorter than 16
// characters, or with characters that a header cannot carry.
func CheckKey(key string) error {
	if len(key) < minKeyLength {
		return fmt.Errorf("has %d characters, needs %d or more", len(key), minKeyLength)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return fmt.Errorf("character %d is a space, a control character or not ASCII", i+1)
		}
	}
	return nil
}

// ReadKeys returns the keys in the file at path: one a line, with empty lines
// and lines that start with # left out. The file must be readable by its owner
// only. A file without a key is an error.
func ReadKeys(path string) (keys []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("auth: open key file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("auth: key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("auth: key file %s: mode %04o lets others read it; chmod 600 %s",
			path, info.Mode().Perm(), path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("auth: read key file: %w", err)
	}
	if len(raw) > maxKeyFileBytes {
		return nil, fmt.Errorf("auth: key file %s: larger than %d bytes", path, maxKeyFileBytes)
	}
	return parseKeys(path, raw)
}

func parseKeys(path string, raw []byte) ([]string, error) {
	var keys []string
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, maxKeyFileBytes+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := CheckKey(line); err != nil {
			return nil, fmt.Errorf("auth: key file %s: line %d: %w", path, n, err)
		}
		keys = append(keys, line)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("auth: key file %s: %w", path, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("auth: key file %s: holds no key", path)
	}
	return keys, nil
}
