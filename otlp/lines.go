package otlp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/kaizen-go/kaizen/internal/ship"
)

// Lines is a queue of JSON lines to one URL, with the same bounds, retries and
// spool as the other signals. Its methods may be called at once.
type Lines struct {
	queue   *ship.Shipper[[]byte]
	noSpool bool // the spool was asked for and could not be opened
}

// NewLines returns the queue of JSON lines that are posted to url as
// application/x-ndjson, with the headers of the Config: audit entries, say, to
// /api/audit of a server. The same url gives the same queue. It is flushed and
// shut down with the exporter, and counted as Audit.
//
// A batch that the server refuses with 400, 413 or 422 is halved until the bad
// line is found, so lines should carry an id by which the server knows those it
// has. When the spool cannot be opened, which is logged and counted, lines wait
// in memory only. A url that cannot be parsed makes every line be refused.
func (e *Exporter) NewLines(url string) *Lines {
	// It is held while the spool is opened; nothing that records takes it.
	e.opening.Lock()
	defer e.opening.Unlock()
	e.mu.Lock()
	l, closed := e.lines[url], e.closed
	e.mu.Unlock()
	if l != nil {
		return l
	}
	l = e.openLines(url, closed)
	e.mu.Lock()
	e.lines[url] = l
	closed = e.closed
	e.mu.Unlock()
	if closed {
		// Nothing is in it, so nothing can be lost: it only learns to refuse.
		_ = l.queue.Shutdown(context.Background())
	}
	return l
}

func (e *Exporter) openLines(url string, closed bool) *Lines {
	l := &Lines{}
	cfg := e.lineConfig(url)
	if closed {
		cfg.SpoolDir = "" // the exporter has let go of the disk
	}
	var err error
	if l.queue, err = ship.New(cfg); err == nil {
		return l
	}
	l.noSpool = true
	e.cfg.Logger.Error("lines wait in memory only", slog.String("signal", cfg.Name), slog.Any("error", err))
	cfg.SpoolDir = ""
	if l.queue, err = ship.New(cfg); err != nil {
		panic(fmt.Sprintf("otlp: lines without a spool: %v", err)) // a bug: it has nothing to fail on
	}
	return l
}

func (e *Exporter) lineConfig(url string) ship.Config[[]byte] {
	s := Signal{URL: url, Headers: e.cfg.Headers, TLS: e.cfg.TLS, Timeout: e.cfg.Timeout, Compression: e.cfg.Compression}
	cfg := shipConfig[[]byte](e.cfg, s, e.linesName(url), e.client(s))
	cfg.ContentType = "application/x-ndjson"
	cfg.PartialSuccess = nil
	cfg.Cost = func(line []byte) int { return len(line) }
	cfg.Encode = encodeLine
	cfg.Frame = func(dst []byte, parts []ship.Part[[]byte]) []byte {
		for _, p := range parts {
			dst = append(append(dst, p.Data...), '\n')
		}
		return dst
	}
	cfg.Split = splitLines
	return cfg
}

// linesName names the spool after the URL's path, so that it is found again
// when the server has moved to another host.
func (e *Exporter) linesName(raw string) string {
	path := raw
	if u, err := url.Parse(raw); err == nil {
		path = u.Path
	}
	name := strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			return r
		}
		return '-'
	}, strings.ToLower(strings.Trim(path, "/")))
	name = "lines-" + name[:min(len(name), 64)]
	if e.lineNames[name] {
		sum := sha256.Sum256([]byte(raw))
		name += "-" + hex.EncodeToString(sum[:4])
	}
	e.lineNames[name] = true
	return name
}

// Emit takes one line, with or without a line feed at its end, and copies it.
// JSON over several lines is joined into one. It never waits; when the queue is
// full the line is dropped and counted.
func (l *Lines) Emit(line []byte) { l.queue.Offer(bytes.Clone(line)) }

var errEmptyLine = errors.New("otlp: empty line")

func encodeLine(dst, line []byte) ([]byte, error) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return dst, errEmptyLine
	}
	if bytes.IndexByte(line, '\n') < 0 {
		return append(dst, line...), nil
	}
	var joined bytes.Buffer
	if err := json.Compact(&joined, line); err != nil {
		return dst, fmt.Errorf("otlp: line: %w", err)
	}
	return append(dst, joined.Bytes()...), nil
}

// splitLines halves a body of lines.
func splitLines(body []byte) (a, b []byte, na, nb int) {
	n := bytes.Count(body, []byte{'\n'})
	cut := 0
	for range n / 2 {
		cut += bytes.IndexByte(body[cut:], '\n') + 1
	}
	return body[:cut], body[cut:], n / 2, n - n/2
}
