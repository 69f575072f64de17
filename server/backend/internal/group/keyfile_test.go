package group

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A key that was made and not used is used by the next change; each step of
// putting it in place can be repeated.
func TestNextKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit [1].key")
	first, err := LoadSigner(file, "example.org/a")
	if err != nil {
		t.Fatal(err)
	}
	next, err := nextSigner(file, "example.org/a", []string{first.vkey})
	if err != nil {
		t.Fatal(err)
	}
	again, err := nextSigner(file, "example.org/a", []string{first.vkey})
	if err != nil || again.vkey != next.vkey {
		t.Fatalf("the next key is %s and then %v, %v", next.vkey, again, err)
	}
	if _, err := findSigner(file, "example.org/a+00000000+AA=="); !errors.Is(err, ErrKey) {
		t.Errorf("findSigner of a strange key = %v, want ErrKey", err)
	}
	for range 2 {
		if s, err := findSigner(file, next.vkey); err != nil || s.vkey != next.vkey {
			t.Fatalf("findSigner = %v, %v, want the next key", s, err)
		}
		if s, err := loadSigner(file + oldKeyExt); err != nil || s.vkey != first.vkey {
			t.Errorf("the old key is %v, %v", s, err)
		}
	}
	// A crash between the two steps leaves the old key in both places.
	if err := os.Rename(file, NextKeyName(file, next.vkey)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file + oldKeyExt)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := findSigner(file, next.vkey); err != nil || s.vkey != next.vkey {
		t.Errorf("after a crash: %v, %v", s, err)
	}
	third, err := nextSigner(file, "example.org/a", []string{first.vkey, next.vkey})
	if err != nil || third.vkey == next.vkey || third.vkey == first.vkey {
		t.Errorf("the key after that is %v, %v", third, err)
	}
}
