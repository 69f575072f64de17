package auth

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	keyOne = "kz-first-0123456789"
	keyTwo = "kz-other-9876543210"
)

func TestWrap(t *testing.T) {
	tests := []struct {
		name   string
		cfg    Config
		method string
		host   string
		path   string
		header map[string]string
		want   int
		code   string
	}{
		{name: "loopback address", host: "127.0.0.1:7070", want: 200},
		{name: "other loopback address", host: "127.8.9.1", want: 200},
		{name: "IPv6 loopback", host: "[::1]:7070", want: 200},
		{name: "IPv6 loopback without port", host: "[::1]", want: 200},
		{name: "mapped loopback", host: "[::ffff:127.0.0.1]:80", want: 200},
		{name: "localhost in capitals", host: "LocalHost:7070", want: 200},
		{name: "localhost with a final dot", host: "localhost.", want: 200},
		{name: "name under localhost", host: "kaizen.localhost:7070", want: 200},
		{name: "configured host", cfg: Config{Hosts: []string{"Box.lan"}}, host: "box.lan:7070", want: 200},
		{name: "rebound name", host: "attacker.example:7070", want: 403, code: "forbidden_host"},
		{name: "name that starts like localhost", host: "localhost.attacker.example", want: 403, code: "forbidden_host"},
		{name: "name that ends like localhost", host: "notlocalhost", want: 403, code: "forbidden_host"},
		{name: "address that starts like loopback", host: "127.0.0.1.attacker.example", want: 403, code: "forbidden_host"},
		{name: "lan address", host: "192.168.1.4:7070", want: 403, code: "forbidden_host"},
		{name: "empty host", host: "", want: 403, code: "forbidden_host"},
		{name: "rebinding has no public paths", host: "attacker.example", path: "/healthz", want: 403, code: "forbidden_host"},

		{name: "post by a program", method: "POST", want: 200},
		{name: "post by our page", method: "POST", header: map[string]string{"Origin": "http://127.0.0.1:7070"}, want: 200},
		{name: "post by our page, newer browser", method: "POST", header: map[string]string{"Sec-Fetch-Site": "same-origin"}, want: 200},
		{name: "post from another site", method: "POST", header: map[string]string{"Origin": "https://attacker.example"}, want: 403, code: "forbidden_origin"},
		{name: "post from another port of this machine", method: "POST", header: map[string]string{"Origin": "http://127.0.0.1:3000"}, want: 403, code: "forbidden_origin"},
		{name: "post from a file", method: "POST", header: map[string]string{"Origin": "null"}, want: 403, code: "forbidden_origin"},
		{name: "post that says cross-site", method: "POST", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, want: 403, code: "forbidden_origin"},
		{name: "delete from another site", method: "DELETE", header: map[string]string{"Origin": "https://attacker.example"}, want: 403, code: "forbidden_origin"},
		{name: "get from another site", method: "GET", header: map[string]string{"Origin": "https://attacker.example"}, want: 200},
		{name: "post from a trusted origin", cfg: Config{Origins: []string{"https://grafana.example"}}, method: "POST",
			header: map[string]string{"Origin": "https://grafana.example"}, want: 200},

		{name: "no key", cfg: Config{Keys: []string{keyOne}}, want: 401, code: "unauthorized"},
		{name: "wrong key", cfg: Config{Keys: []string{keyOne}}, header: bearer(keyTwo), want: 401, code: "unauthorized"},
		{name: "beginning of the key", cfg: Config{Keys: []string{keyOne}}, header: bearer(keyOne[:10]), want: 401, code: "unauthorized"},
		{name: "key and more", cfg: Config{Keys: []string{keyOne}}, header: bearer(keyOne + "x"), want: 401, code: "unauthorized"},
		{name: "bearer", cfg: Config{Keys: []string{keyOne}}, header: bearer(keyOne), want: 200},
		{name: "bearer in lower case", cfg: Config{Keys: []string{keyOne}}, header: map[string]string{"Authorization": "bearer " + keyOne}, want: 200},
		{name: "second key", cfg: Config{Keys: []string{keyOne, keyTwo}}, header: bearer(keyTwo), want: 200},
		{name: "x-api-key", cfg: Config{Keys: []string{keyOne}}, header: map[string]string{"X-Api-Key": keyOne}, want: 200},
		{name: "x-api-key beside basic", cfg: Config{Keys: []string{keyOne}},
			header: map[string]string{"Authorization": "Basic eDp5", "X-Api-Key": keyOne}, want: 200},
		{name: "public path", cfg: Config{Keys: []string{keyOne}}, path: "/healthz", want: 200},
		{name: "below a public path", cfg: Config{Keys: []string{keyOne}}, path: "/healthz/x", want: 401, code: "unauthorized"},
		{name: "key lets any host in", cfg: Config{Keys: []string{keyOne}}, host: "kaizen.example", header: bearer(keyOne), want: 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := New(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(or(tt.method, "GET"), "http://127.0.0.1:7070"+or(tt.path, "/api/traces"), nil)
			if tt.host != "" || tt.name == "empty host" {
				r.Host = tt.host
			}
			for k, v := range tt.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			passed := false
			next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true })
			mux := http.NewServeMux()
			mux.Handle("/", g.Wrap(next))
			mux.Handle("/healthz", g.WrapPublic(next))
			mux.ServeHTTP(w, r)
			if w.Code != tt.want || passed != (tt.want == 200) {
				t.Fatalf("status = %d, passed = %v, want %d: %s", w.Code, passed, tt.want, w.Body)
			}
			if tt.code == "" {
				return
			}
			var body struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatalf("body %q: %v", w.Body, err)
			}
			if body.Error.Code != tt.code || body.Error.Message == "" {
				t.Errorf("error = %+v, want code %q with a message", body.Error, tt.code)
			}
			if (w.Code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("WWW-Authenticate = %q with status %d", w.Header().Get("WWW-Authenticate"), w.Code)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"short key", Config{Keys: []string{keyOne, "short"}}, "key 2: has 5 characters"},
		{"key with a space", Config{Keys: []string{"kz 0123456789abcdef"}}, "character 3"},
		{"key beyond ASCII", Config{Keys: []string{"0123456789abcdefé"}}, "character 17"},
		{"origin with a path", Config{Origins: []string{"https://a.example/x"}}, `origin "https://a.example/x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("New = %v, want an error with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), keyOne) {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

func TestCheckListen(t *testing.T) {
	tests := []struct {
		addr  string
		keyed bool
		want  error
	}{
		{"127.0.0.1:7070", false, nil},
		{"127.0.0.1:0", false, nil},
		{"[::1]:7070", false, nil},
		{"localhost:7070", false, nil},
		{":7070", false, ErrKeyRequired},
		{"0.0.0.0:7070", false, ErrKeyRequired},
		{"[::]:7070", false, ErrKeyRequired},
		{"192.0.2.1:7070", false, ErrKeyRequired},
		{"0.0.0.0:7070", true, nil},
		{":7070", true, nil},
	}
	for _, tt := range tests {
		if err := CheckListen(tt.addr, tt.keyed); !errors.Is(err, tt.want) {
			t.Errorf("CheckListen(%q, %v) = %v, want %v", tt.addr, tt.keyed, err, tt.want)
		}
	}
	if err := CheckListen("7070", true); err == nil {
		t.Error("CheckListen(7070) = nil, want an error: no host:port")
	}
}

func TestReadKeys(t *testing.T) {
	tests := []struct {
		name string
		text string
		mode os.FileMode
		want []string
		err  string
	}{
		{name: "two keys and a comment", text: "# robots\n" + keyOne + "\n\n  " + keyTwo + "\t\r\n", mode: 0o600, want: []string{keyOne, keyTwo}},
		{name: "no final newline", text: keyOne, mode: 0o400, want: []string{keyOne}},
		{name: "readable by the group", text: keyOne, mode: 0o640, err: "mode 0640"},
		{name: "readable by all", text: keyOne, mode: 0o604, err: "chmod 600"},
		{name: "no key", text: "# none\n", mode: 0o600, err: "holds no key"},
		{name: "short key", text: keyOne + "\nabc\n", mode: 0o600, err: "line 2"},
		{name: "too large", text: strings.Repeat("#\n", maxKeyFileBytes), mode: 0o600, err: "larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			got, err := ReadKeys(path)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("ReadKeys = %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Fatalf("ReadKeys = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	if _, err := ReadKeys(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadKeys(absent) = %v, want ErrNotExist", err)
	}
}

func TestGRPC(t *testing.T) {
	tests := []struct {
		name string
		keys []string
		md   metadata.MD
		want codes.Code
	}{
		{"no keys configured", nil, nil, codes.OK},
		{"no metadata", []string{keyOne}, nil, codes.Unauthenticated},
		{"wrong key", []string{keyOne}, metadata.Pairs("authorization", "Bearer "+keyTwo), codes.Unauthenticated},
		{"bearer", []string{keyOne}, metadata.Pairs("authorization", "Bearer "+keyOne), codes.OK},
		{"x-api-key", []string{keyOne}, metadata.Pairs("x-api-key", keyOne), codes.OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := New(Config{Keys: tt.keys})
			if err != nil {
				t.Fatal(err)
			}
			if got := status.Code(g.judgeCall(metadata.NewIncomingContext(t.Context(), tt.md))); got != tt.want {
				t.Errorf("code = %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzLocalHost(f *testing.F) {
	for _, s := range []string{"127.0.0.1:7070", "localhost", "[::1]:1", "a.localhost", "127.0.0.1.evil", "[::1", "::1", "localhost:x:y", "evil:127.0.0.1"} {
		f.Add(s)
	}
	g, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !g.local(host) {
			return
		}
		// Whatever is admitted spells out loopback: no name of the public DNS can.
		low := strings.ToLower(host)
		if !strings.Contains(low, "localhost") && !strings.Contains(low, "127.") && !strings.Contains(low, ":") {
			t.Fatalf("local(%q) = true", host)
		}
		if g.local("x" + host + ".example") {
			t.Fatalf("local(%q) = true", "x"+host+".example")
		}
	})
}

func bearer(key string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + key}
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
