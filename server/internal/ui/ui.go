// Package ui serves the web page of the server. The page is embedded in the
// binary, works without a network beyond this server, and reads everything it
// shows from the JSON API under /api:
//
//	mux.Handle("/", ui.Handler())
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kaizen-go/kaizen/server/web"
)

// policy is the Content-Security-Policy of every answer: code and style come
// from this server's own files only, nothing is inline, nothing is foreign, and
// a string can never become markup (trusted types without any policy).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// pagePaths are the paths that the page's own router knows.
var pagePaths = regexp.MustCompile(`^/(runs(/[0-9a-f]{32})?|logs|audit|costs|agents|sessions)?$`)

// asset is one file, ready to be sent.
type asset struct {
	body, gzipped []byte // gzipped is nil when it would not be smaller
	contentType   string
	etag          string
}

type handler struct {
	index  asset
	prefix string // "/assets/<hash of all files>/"
	assets map[string]asset
}

// Handler returns the handler of the page's paths (/, /runs, /runs/{trace_id},
// /logs, /audit, /costs, /agents, /sessions) and of its assets; anything else
// is 404. It keeps the files, compressed once, in memory and is safe for
// concurrent use.
//
// The assets' path holds a hash over all of them, so they are immutable to
// caches, and the modules' relative imports stay within one version; the
// document itself is revalidated by its ETag each time.
func Handler() http.Handler {
	h, err := load(web.Files)
	if err != nil {
		panic(err) // the embedded files are part of the binary: only a broken build gets here
	}
	return h
}

func load(files fs.FS) (*handler, error) {
	h := &handler{assets: map[string]asset{}}
	sum := sha256.New()
	bodies := map[string][]byte{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		bodies[name] = body
		fmt.Fprintf(sum, "%s %d\n%s", name, len(body), body)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ui: read embedded files: %w", err)
	}
	h.prefix = "/assets/" + hex.EncodeToString(sum.Sum(nil)[:8]) + "/"
	for name, body := range bodies {
		if name == "index.html" {
			body = bytes.ReplaceAll(body, []byte("{{preload}}"), preload(bodies))
			body = bytes.ReplaceAll(body, []byte("{{assets}}"), []byte(strings.TrimSuffix(h.prefix, "/")))
		}
		a, err := newAsset(name, body)
		if err != nil {
			return nil, err
		}
		if name == "index.html" {
			h.index = a
		} else {
			h.assets[name] = a
		}
	}
	if h.index.body == nil {
		return nil, fmt.Errorf("ui: read embedded files: index.html is missing")
	}
	return h, nil
}

// preload names every module in the document, so that a browser fetches them
// at once and not import by import.
func preload(bodies map[string][]byte) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		if strings.HasPrefix(name, "js/") && name != "js/boot.js" {
			fmt.Fprintf(&b, "<link rel=\"modulepreload\" href=\"{{assets}}/%s\">\n", name)
		}
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func newAsset(name string, body []byte) (asset, error) {
	sum := sha256.Sum256(body)
	a := asset{body: body, etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
	switch ext := path.Ext(name); ext {
	case ".js": // not left to the system's mime table: a wrong type stops every module
		a.contentType = "text/javascript; charset=utf-8"
	case ".css":
		a.contentType = "text/css; charset=utf-8"
	case ".html":
		a.contentType = "text/html; charset=utf-8"
	case ".svg":
		a.contentType = "image/svg+xml"
	default:
		a.contentType = mime.TypeByExtension(ext)
	}
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return asset{}, fmt.Errorf("ui: compress %s: %w", name, err)
	}
	if _, err := zw.Write(body); err != nil {
		return asset{}, fmt.Errorf("ui: compress %s: %w", name, err)
	}
	if err := zw.Close(); err != nil {
		return asset{}, fmt.Errorf("ui: compress %s: %w", name, err)
	}
	if buf.Len() < len(body) {
		a.gzipped = buf.Bytes()
	}
	return a, nil
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", policy)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "the page answers GET and HEAD only", http.StatusMethodNotAllowed)
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, h.prefix); ok {
		if a, ok := h.assets[name]; ok {
			head.Set("Cache-Control", "public, max-age=31536000, immutable")
			a.serve(w, r)
			return
		}
	}
	if r.URL.Path == "/favicon.ico" {
		if a, ok := h.assets["css/icon.svg"]; ok {
			head.Set("Cache-Control", "public, max-age=86400")
			a.serve(w, r)
			return
		}
	}
	if pagePaths.MatchString(r.URL.Path) {
		head.Set("Cache-Control", "no-cache")
		h.index.serve(w, r)
		return
	}
	http.Error(w, "no such page; the start page is /", http.StatusNotFound)
}

func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Type", a.contentType)
	head.Set("Vary", "Accept-Encoding")
	body, etag := a.body, a.etag
	if a.gzipped != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		// Another representation needs another strong tag.
		body, etag = a.gzipped, strings.TrimSuffix(a.etag, `"`)+`-gz"`
		head.Set("Content-Encoding", "gzip")
	}
	head.Set("ETag", etag)
	if matches(r.Header.Get("If-None-Match"), etag) {
		head.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	head.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // the only failure is a peer that went away
}

// acceptsGzip reports whether the header names gzip without refusing it (q=0).
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q := strings.ReplaceAll(strings.TrimSpace(params), " ", "")
		return q != "q=0" && !strings.HasPrefix(q, "q=0.000") && q != "q=0.0" && q != "q=0.00"
	}
	return false
}

// matches reports whether an If-None-Match header names the tag. A weak tag in
// the header compares equal, as RFC 9110 says for this header.
func matches(header, etag string) bool {
	if strings.TrimSpace(header) == "*" {
		return true
	}
	for part := range strings.SplitSeq(header, ",") {
		if strings.TrimPrefix(strings.TrimSpace(part), "W/") == etag {
			return true
		}
	}
	return false
}
