package secrets

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEnsureAndRotate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	first, err := Ensure(dir, "api_key", "grafana_admin_password")
	if err != nil {
		t.Fatal(err)
	}
	a, b := read(t, first[0].Path), read(t, first[1].Path)
	if len(a) != 43 || a == b || !first[0].New {
		t.Errorf("two new secrets of %d and %d characters, the same: %v", len(a), len(b), a == b)
	}
	if got := read(t, filepath.Join(dir, ".gitignore")); got != "*\n" {
		t.Errorf(".gitignore = %q: a secret could be committed", got)
	}
	if err := os.Chmod(first[0].Path, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := Ensure(dir, "api_key")
	if err != nil || again[0].New || read(t, first[0].Path) != a {
		t.Errorf("a second call made it anew: %+v, %v", again, err)
	}
	info, err := os.Stat(first[0].Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	rotated, err := Rotate(dir, "api_key")
	if err != nil || !rotated[0].New || read(t, first[0].Path) == a || read(t, first[1].Path) != b {
		t.Errorf("Rotate = %+v, %v: want one new, the other as it was", rotated, err)
	}
}

func TestEnsureRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../up", "", "Upper", "empty", "folder"} {
		if _, err := Ensure(dir, name); err == nil {
			t.Errorf("Ensure(%q): no error", name)
		}
	}
}

func TestHtpasswd(t *testing.T) {
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "generated")
	made, err := Ensure(dir, "prometheus_password")
	if err != nil {
		t.Fatal(err)
	}
	secret := read(t, made[0].Path)
	hash := func() (string, bool) {
		t.Helper()
		states, err := Htpasswd(dir, out, "kaizen", "prometheus_password")
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(states[0].Path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
		}
		return read(t, states[0].Path), states[0].New
	}
	first, isNew := hash()
	h, ok := strings.CutPrefix(strings.TrimSpace(first), "kaizen:")
	if !ok || !isNew || strings.Contains(first, secret) || bcrypt.CompareHashAndPassword([]byte(h), []byte(secret)) != nil {
		t.Errorf("htpasswd %q is not of the secret", first)
	}
	if again, isNew := hash(); isNew || again != first {
		t.Errorf("a second call made it anew: %q", again)
	}
	if _, err := Rotate(dir, "prometheus_password"); err != nil {
		t.Fatal(err)
	}
	if after, isNew := hash(); !isNew || after == first {
		t.Error("the hash of a rotated secret stayed")
	}
	for _, c := range [][2]string{{"ka:izen", "prometheus_password"}, {"kaizen", "../x"}, {"kaizen", "none"}} {
		if _, err := Htpasswd(dir, out, c[0], c[1]); err == nil {
			t.Errorf("Htpasswd(%q, %q): no error", c[0], c[1])
		}
	}
}
