// Package auth decides which requests reach the server.
//
// Without keys the server is for the machine it runs on: it listens on
// loopback only, answers only to names that mean this machine (a page on
// another site could otherwise reach it by rebinding its own name to
// 127.0.0.1), and refuses requests that change something when a browser says
// that another site made them. With keys every request needs one, except for
// the routes that carry no data.
//
//	guard, err := auth.New(auth.Config{Keys: keys})
//	mux.Handle("/api/", guard.Wrap(api))
//	mux.Handle("/healthz", guard.WrapPublic(live))
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// ErrKeyRequired is returned by [CheckListen] for an address that others can
// reach while no key is configured.
var ErrKeyRequired = errors.New("an address that other machines can reach needs an API key")

// Config says who may pass. The zero value is a server for this machine alone.
type Config struct {
	// Keys are the accepted API keys. If empty, requests need none.
	Keys []string
	// Hosts are further host names, without port, that a request may name in
	// its Host header while there are no keys. Loopback addresses, localhost
	// and names under .localhost are always accepted.
	Hosts []string
	// Origins are further web origins (scheme://host[:port]) whose pages may
	// send requests that change something. If empty, only the server's own.
	Origins []string
}

// Guard admits requests. It is safe for concurrent use.
type Guard struct {
	keys    [][sha256.Size]byte
	hosts   map[string]bool
	foreign *http.CrossOriginProtection
}

// New returns the guard that cfg describes, or an error for an origin that is
// not one and for a key that [CheckKey] refuses.
func New(cfg Config) (*Guard, error) {
	g := &Guard{hosts: map[string]bool{}, foreign: http.NewCrossOriginProtection()}
	for i, key := range cfg.Keys {
		if err := CheckKey(key); err != nil {
			return nil, fmt.Errorf("auth: key %d: %w", i+1, err)
		}
		g.keys = append(g.keys, sha256.Sum256([]byte(key)))
	}
	for _, h := range cfg.Hosts {
		g.hosts[strings.ToLower(h)] = true
	}
	for _, o := range cfg.Origins {
		if err := g.foreign.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("auth: origin %q: %w", o, err)
		}
	}
	return g, nil
}

// Keyed reports whether requests need a key.
func (g *Guard) Keyed() bool { return len(g.keys) > 0 }

// Wrap returns a handler that passes to next what the guard admits.
func (g *Guard) Wrap(next http.Handler) http.Handler { return g.wrap(next, false) }

// WrapPublic is [Guard.Wrap] for a route that carries no data: it asks for no
// key. Without keys it checks Host and Origin all the same.
func (g *Guard) WrapPublic(next http.Handler) http.Handler { return g.wrap(next, true) }

func (g *Guard) wrap(next http.Handler, public bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, code, msg := g.judge(r, public); status != 0 {
			refuse(w, status, code, msg)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// judge returns status 0 for a request that may pass, or the answer to give.
func (g *Guard) judge(r *http.Request, public bool) (status int, code, msg string) {
	if g.Keyed() {
		if public || g.valid(keyOf(r)) {
			return 0, "", ""
		}
		return http.StatusUnauthorized, "unauthorized",
			"this server needs an API key: send Authorization: Bearer <key> or x-api-key: <key>"
	}
	if !g.local(r.Host) {
		return http.StatusForbidden, "forbidden_host",
			fmt.Sprintf("host %q is not a name of this machine: use 127.0.0.1 or localhost, or configure an API key", r.Host)
	}
	if err := g.foreign.Check(r); err != nil {
		return http.StatusForbidden, "forbidden_origin",
			"a page of another site may not change anything here: " + err.Error()
	}
	return 0, "", ""
}

// local reports whether host, a Host header, names this machine.
func (g *Guard) local(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	if g.hosts[name] {
		return true
	}
	return loopbackName(name)
}

func loopbackName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}

// valid compares key with every configured key in a time that does not depend
// on how much of it is right, or on which one it is.
func (g *Guard) valid(key string) bool {
	sum := sha256.Sum256([]byte(key))
	found := 0
	for i := range g.keys {
		found |= subtle.ConstantTimeCompare(sum[:], g.keys[i][:])
	}
	return found == 1
}

func keyOf(r *http.Request) string {
	return pickKey(r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"))
}

// pickKey takes the key from an Authorization header or, when that has no
// bearer token, from an x-api-key header.
func pickKey(authorization, apiKey string) string {
	scheme, token, ok := strings.Cut(authorization, " ")
	if ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return apiKey
}

func refuse(w http.ResponseWriter, status int, code, msg string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="kaizen"`)
	}
	w.WriteHeader(status)
	body := map[string]any{"error": map[string]string{"code": code, "message": msg}}
	_ = json.NewEncoder(w).Encode(body) // the peer has gone: nobody to tell
}
