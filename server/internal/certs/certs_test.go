package certs

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func issue(t *testing.T, cfg Config, servers ...Server) []Cert {
	t.Helper()
	all, err := Issue(cfg, servers)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var kaizenServer = Server{Name: "kaizen", Hosts: []string{"kaizen", "localhost", "127.0.0.1"}}

// TestServerIsTrusted serves with what was issued, to a client that knows the
// authority alone and checks names.
func TestServerIsTrusted(t *testing.T) {
	dir := t.TempDir()
	issue(t, Config{Dir: dir}, kaizenServer)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "kaizen.pem"), filepath.Join(dir, "kaizen-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	defer server.Close()

	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("ca.pem holds no certificate")
	}
	get := func(serverName string) error {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: serverName}}}
		defer client.CloseIdleConnections()
		resp, err := client.Get(server.URL)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	for _, name := range []string{"", "kaizen", "localhost"} { // "" is the address
		if err := get(name); err != nil {
			t.Errorf("as %q: %v", name, err)
		}
	}
	if get("other.example") == nil {
		t.Error("the certificate is good for a name that it was not made for")
	}
}

func TestFilesAreTheOwners(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	issue(t, Config{Dir: dir}, kaizenServer)
	for name, want := range map[string]os.FileMode{".": 0o700, "ca-key.pem": 0o600, "kaizen-key.pem": 0o600, "ca.pem": 0o644, "kaizen.pem": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: mode %o, want %o", name, got, want)
		}
	}
}

func TestIssueRenewsWhatMustBe(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	cfg := Config{Dir: t.TempDir(), Now: func() time.Time { return now }}
	issue(t, cfg, kaizenServer)
	tests := []struct {
		name   string
		at     time.Duration
		server Server
		want   string
	}{
		{"nothing to do", 24 * time.Hour, kaizenServer, ""},
		{"a month before the end", 370 * 24 * time.Hour, kaizenServer, "expires soon"},
		{"good again", 371 * 24 * time.Hour, kaizenServer, ""},
		{"another host", 371 * 24 * time.Hour, Server{Name: "kaizen", Hosts: []string{"kaizen", "::1"}}, "has other hosts"},
		{"another server", 371 * 24 * time.Hour, Server{Name: "grafana"}, "missing"},
	}
	for _, tc := range tests {
		now = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(tc.at)
		all := issue(t, cfg, tc.server)
		if all[0].New {
			t.Errorf("%s: the authority was made anew", tc.name)
		}
		if got := all[1]; got.Why != tc.want || got.New != (tc.want != "") {
			t.Errorf("%s: made because %q, want %q", tc.name, got.Why, tc.want)
		}
	}
	now = now.AddDate(10, 0, 0)
	if _, err := Issue(cfg, []Server{kaizenServer}); err == nil || !strings.Contains(err.Error(), "ends on") {
		t.Errorf("an authority at its end: %v, want an error that says so", err)
	}
}

func TestIssueRefuses(t *testing.T) {
	dir := t.TempDir()
	issue(t, Config{Dir: dir}, kaizenServer)
	other := t.TempDir()
	issue(t, Config{Dir: other}, kaizenServer)
	tests := []struct {
		name   string
		cfg    Config
		server Server
	}{
		{"a path as name", Config{Dir: dir}, Server{Name: "../kaizen"}},
		{"the authority's name", Config{Dir: dir}, Server{Name: "ca"}},
		{"no host", Config{Dir: dir}, Server{Name: "x", Hosts: []string{"a b"}}},
		{"too long", Config{Dir: dir, Days: 3000}, kaizenServer},
		{"authority before server", Config{Dir: dir, Days: 397, CADays: 30}, kaizenServer},
	}
	for _, tc := range tests {
		if _, err := Issue(tc.cfg, []Server{tc.server}); err == nil {
			t.Errorf("%s: no error", tc.name)
		}
	}
	// A key of another certificate is not used, nor written over.
	b, err := os.ReadFile(filepath.Join(other, "kaizen-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kaizen-key.pem"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Issue(Config{Dir: dir}, []Server{kaizenServer}); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("another's key: %v", err)
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	issue(t, Config{Dir: dir}, kaizenServer)
	all, err := List(dir)
	if err != nil || len(all) != 2 || all[0].Name != "ca" || all[1].Name != "kaizen" {
		t.Errorf("List = %+v, %v, want ca and kaizen", all, err)
	}
	if _, err := List(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there: no error")
	}
}

func FuzzParseCert(f *testing.F) {
	dir := f.TempDir()
	if _, err := Issue(Config{Dir: dir}, nil); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		cert, err := parseCert("x", b)
		if (cert == nil) == (err == nil) {
			t.Errorf("certificate %v with error %v", cert, err)
		}
	})
}
