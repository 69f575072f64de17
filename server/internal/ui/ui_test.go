package ui

import (
	"compress/gzip"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, h http.Handler, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRoutes(t *testing.T) {
	h := Handler()
	id := strings.Repeat("0f", 16)
	for _, tc := range []struct {
		name, method, path string
		status             int
	}{
		{"start", "GET", "/", 200}, {"runs", "GET", "/runs", 200}, {"one run", "GET", "/runs/" + id, 200}, {"logs", "GET", "/logs", 200},
		{"audit", "GET", "/audit", 200}, {"costs", "GET", "/costs", 200}, {"agents", "GET", "/agents", 200}, {"sessions", "GET", "/sessions", 200},
		{"head", "HEAD", "/logs", 200}, {"icon", "GET", "/favicon.ico", 200},
		{"no trace id", "GET", "/runs/abc", 404}, {"upper case id", "GET", "/runs/" + strings.ToUpper(id), 404}, {"below a run", "GET", "/runs/" + id + "/x", 404},
		{"unknown", "GET", "/nope", 404}, {"sources are not served by name", "GET", "/js/main.js", 404}, {"another version's asset", "GET", "/assets/0000000000000000/js/main.js", 404},
		{"climbing", "GET", "/assets/../embed.go", 404}, {"post", "POST", "/", 405}, {"delete", "DELETE", "/runs", 405},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := get(t, h, tc.method, tc.path)
			if r.StatusCode != tc.status {
				t.Errorf("%s %s = %d, want %d", tc.method, tc.path, r.StatusCode, tc.status)
			}
			for _, name := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"} {
				if r.Header.Get(name) == "" {
					t.Errorf("%s %s: no %s", tc.method, tc.path, name)
				}
			}
			if tc.method == "HEAD" && body(t, r) != "" {
				t.Errorf("HEAD %s has a body", tc.path)
			}
		})
	}
}

func TestPolicy(t *testing.T) {
	for _, forbidden := range []string{"unsafe-inline", "unsafe-eval", "http:", "https:", "*"} {
		if strings.Contains(policy, forbidden) {
			t.Errorf("policy allows %s: %s", forbidden, policy)
		}
	}
}

var link = regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`)

// TestAssets follows what the document and the modules name, as a browser would.
func TestAssets(t *testing.T) {
	h := Handler()
	doc := body(t, get(t, h, "GET", "/"))
	if strings.Contains(doc, "{{") {
		t.Error("the document holds an unfilled placeholder")
	}
	if regexp.MustCompile(`<script(?:\s[^>]*)?>[^<]`).MatchString(doc) || strings.Contains(doc, "<style") || regexp.MustCompile(`\son\w+=`).MatchString(doc) {
		t.Error("the document holds inline code, which the policy forbids")
	}
	var queue []string
	for _, m := range link.FindAllStringSubmatch(doc, -1) {
		queue = append(queue, m[1])
	}
	if len(queue) < 5 {
		t.Fatalf("the document names %d assets, want at least 5", len(queue))
	}
	imports := regexp.MustCompile(`(?m)^(?:import|export)[^"]*from "\./([^"]+)"`)
	seen := map[string]bool{}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		r := get(t, h, "GET", path)
		text := body(t, r)
		if r.StatusCode != 200 {
			t.Errorf("GET %s = %d", path, r.StatusCode)
			continue
		}
		if !strings.Contains(r.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: Cache-Control = %q, want immutable", path, r.Header.Get("Cache-Control"))
		}
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind == "application/octet-stream" {
			t.Errorf("%s: Content-Type = %q", path, r.Header.Get("Content-Type"))
		}
		for _, banned := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("} {
			if strings.HasSuffix(path, ".js") && strings.Contains(text, banned) {
				t.Errorf("%s uses %s: text could become markup", path, banned)
			}
		}
		for _, m := range imports.FindAllStringSubmatch(text, -1) {
			queue = append(queue, path[:strings.LastIndex(path, "/")+1]+m[1])
		}
	}
	t.Logf("%d assets", len(seen))
}

func TestConditional(t *testing.T) {
	h := Handler()
	plain := get(t, h, "GET", "/")
	packed := get(t, h, "GET", "/", "Accept-Encoding", "br, gzip;q=0.8")
	if a, b := plain.Header.Get("ETag"), packed.Header.Get("ETag"); a == "" || a == b || strings.HasPrefix(a, "W/") {
		t.Errorf("ETags %q and %q, want two strong and different ones", a, b)
	}
	if packed.Header.Get("Content-Encoding") != "gzip" || packed.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("packed answer has Content-Encoding %q, Vary %q", packed.Header.Get("Content-Encoding"), packed.Header.Get("Vary"))
	}
	zr, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	if string(unpacked) != body(t, plain) {
		t.Error("the packed document is not the plain one")
	}
	for _, tc := range []struct {
		name, header, accept string
		status               int
	}{
		{"same", plain.Header.Get("ETag"), "", 304},
		{"weak", "W/" + plain.Header.Get("ETag"), "", 304},
		{"list", `"x", ` + plain.Header.Get("ETag"), "", 304},
		{"any", "*", "", 304},
		{"packed", packed.Header.Get("ETag"), "gzip", 304},
		{"of the other encoding", plain.Header.Get("ETag"), "gzip", 200},
		{"other", `"x"`, "", 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := get(t, h, "GET", "/", "If-None-Match", tc.header, "Accept-Encoding", tc.accept)
			if r.StatusCode != tc.status {
				t.Errorf("If-None-Match %s = %d, want %d", tc.header, r.StatusCode, tc.status)
			}
			if r.StatusCode == 304 && body(t, r) != "" {
				t.Error("304 with a body")
			}
		})
	}
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{"": false, "gzip": true, "GZIP": true, "br": false, "br, gzip": true, "gzip;q=0": false, "gzip; q=0.0": false, "gzip;q=0.5": true, "xgzip": false} {
		if got := acceptsGzip(header); got != want {
			t.Errorf("acceptsGzip(%q) = %v, want %v", header, got, want)
		}
	}
}

// A change in one file changes the path of all, so no cache mixes two versions.
func TestPrefixFollowsContent(t *testing.T) {
	files := func(js string) fstest.MapFS {
		return fstest.MapFS{"index.html": {Data: []byte(`<script src="{{assets}}/js/a.js">`)}, "js/a.js": {Data: []byte(js)}}
	}
	a, err := load(files("1"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := load(files("2"))
	if err != nil {
		t.Fatal(err)
	}
	if a.prefix == b.prefix || a.index.etag == b.index.etag {
		t.Errorf("two versions share the path %s or the tag %s", a.prefix, a.index.etag)
	}
	if _, err := load(fstest.MapFS{"js/a.js": {Data: []byte("1")}}); err == nil {
		t.Error("load without a document succeeds")
	}
}
