package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/query"
)

var errNoLedger = &apiError{http.StatusServiceUnavailable, codeUnavailable, "this server keeps no audit ledger"}

// entryPage is the answer of GET /api/audit; with count=true it has the count
// alone.
type entryPage struct {
	Entries []audit.Entry `json:"entries,omitempty"`
	Next    *string       `json:"next,omitempty"`
	Size    *int64        `json:"size,omitempty"`
	Count   *int64        `json:"count,omitempty"`
	// By and Groups answer a question with by.
	By     string       `json:"by,omitempty"`
	Groups []entryGroup `json:"groups,omitempty"`
}

// entryGroup is how many entries have one value of a field.
type entryGroup struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// MarshalJSON writes an empty list as one.
func (p entryPage) MarshalJSON() ([]byte, error) {
	if p.Count != nil {
		return json.Marshal(map[string]any{"count": *p.Count})
	}
	if p.By != "" {
		groups := p.Groups
		if groups == nil {
			groups = []entryGroup{}
		}
		return json.Marshal(map[string]any{"by": p.By, "groups": groups})
	}
	entries := p.Entries
	if entries == nil {
		entries = []audit.Entry{}
	}
	return json.Marshal(map[string]any{"entries": entries, "next": *p.Next, "size": *p.Size})
}

func (a *api) entries(r *http.Request, p params) (any, error) {
	if a.cfg.Ledger == nil {
		return nil, errNoLedger
	}
	q, limit, err := auditQuery(p)
	if err != nil {
		return nil, err
	}
	count, err := p.oneOf("count", "true", "false")
	if err != nil {
		return nil, err
	}
	if count == "true" {
		q.Limit = 0
		n, err := a.cfg.Ledger.Count(r.Context(), q)
		return entryPage{Count: &n}, err
	}
	if by, err := p.oneOf("by", groupNames...); err != nil {
		return nil, err
	} else if by != "" {
		return a.groups(r, p, q, by)
	}
	q.Limit = limit + 1 // one more tells whether there is a next page
	page := entryPage{Next: new(""), Size: new(a.cfg.Ledger.Size())}
	for e, err := range a.cfg.Ledger.Query(r.Context(), q) {
		if err != nil {
			return nil, fmt.Errorf("api: query the ledger: %w", err)
		}
		if len(page.Entries) == limit {
			page.Next = new(auditCursor(page.Entries[limit-1].Index))
			break
		}
		page.Entries = append(page.Entries, e)
	}
	return page, nil
}

// groupFields are what by may name.
var groupFields = map[string]audit.Field{
	"agent": audit.ByAgent, "user": audit.ByUser, "subject": audit.BySubject, "action": audit.ByAction, "result": audit.ByResult,
}

var groupNames = []string{"agent", "user", "subject", "action", "result"}

// maxGroups bounds one answer.
const maxGroups = 10_000

// groups counts entries for each value of a field.
func (a *api) groups(r *http.Request, p params, q audit.Query, by string) (any, error) {
	l, ok := a.cfg.Ledger.(interface {
		Group(ctx context.Context, q audit.Query, by audit.Field, top int) ([]audit.GroupCount, error)
	})
	if !ok {
		return nil, &apiError{http.StatusServiceUnavailable, codeUnavailable, "this audit ledger has no index to count by"}
	}
	top := 10
	if text := p.get("top"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxGroups {
			return nil, badRequest("top %q is not a number from 1 to %d", text, maxGroups)
		}
		top = n
	}
	counts, err := l.Group(r.Context(), q, groupFields[by], top)
	if err != nil {
		return nil, fmt.Errorf("api: group the ledger: %w", err)
	}
	page := entryPage{By: by}
	for _, c := range counts {
		page.Groups = append(page.Groups, entryGroup{c.Value, c.Count})
	}
	return page, nil
}

func auditQuery(p params) (q audit.Query, limit int, err error) {
	w, err := p.window()
	if err != nil {
		return q, 0, err
	}
	q = audit.Query{
		AgentID: p.get("agent"), UserID: p.get("user"), Action: p.get("action"), RunID: p.get("run"), SessionID: p.get("session"),
		Subject: p.get("subject"),
		Since:   w.Since,
	}
	if !w.Until.IsZero() {
		q.Until = w.Until.Add(-1) // the ledger includes it
	}
	result, err := p.oneOf("result", "success", "failure", "denied")
	if err != nil {
		return q, 0, err
	}
	q.Result = audit.Result(result)
	if _, err = p.traceID("trace"); err != nil {
		return q, 0, err
	}
	if _, err = p.spanID("span"); err != nil {
		return q, 0, err
	}
	q.TraceID, q.SpanID = lower(p.get("trace")), lower(p.get("span"))
	form, err := p.oneOf("form", "stored", "plain")
	if err != nil {
		return q, 0, err
	}
	q.Stored = form == "stored"
	order, err := p.oneOf("order", "asc", "desc")
	if err != nil {
		return q, 0, err
	}
	q.Descending = order == "desc"
	if w.Cursor != "" {
		if q.After, err = parseAuditCursor(w.Cursor); err != nil {
			return q, 0, err
		}
	}
	limit = w.Limit
	if limit == 0 {
		limit = 50
	}
	return q, limit, nil
}

func lower(s string) string { return string(bytes.ToLower([]byte(s))) }

// A cursor is the index after the last entry seen.
func auditCursor(last int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(last+1, 36)))
}

func parseAuditCursor(s string) (int64, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return 0, query.ErrBadCursor
	}
	n, err := strconv.ParseInt(string(b), 36, 64)
	if err != nil || n < 1 || n == math.MaxInt64 {
		return 0, query.ErrBadCursor
	}
	return n, nil
}

// Bounds of one POST. An entry has 65,535 bytes at most.
const (
	maxAuditBodyBytes = 16 << 20
	maxAuditEntries   = 10_000
)

// receipt is the answer to one entry.
type receipt struct {
	Index    int64  `json:"index"`
	ID       string `json:"id"`
	LeafHash string `json:"leaf_hash"`
	Size     int64  `json:"size"`
	Root     string `json:"root"`
	// Checkpoint is the signed note, on the last receipt alone: it covers all.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// receipts is the answer of POST /api/audit.
type receipts struct {
	Receipts []receipt `json:"receipts"`
}

// unpacked returns the body without its content encoding. The bound on what is
// read applies to what comes out of it.
func unpacked(r *http.Request) (io.ReadCloser, error) {
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		plain, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, badRequest("cannot read gzip body: %v", err)
		}
		return plain, nil
	default:
		return nil, &apiError{http.StatusUnsupportedMediaType, codeUnsupported, fmt.Sprintf("content encoding %.40q: send gzip or none", encoding)}
	}
}

func (a *api) appendEntries(r *http.Request, _ params) (any, error) {
	if a.cfg.Ledger == nil {
		return nil, errNoLedger
	}
	plain, err := unpacked(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, plain, maxAuditBodyBytes))
	var tooBig *http.MaxBytesError
	if errors.As(err, &tooBig) {
		return nil, &apiError{http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("body larger than %d bytes", maxAuditBodyBytes)}
	}
	if err != nil {
		return nil, badRequest("cannot read body: %v", err)
	}
	entries, err := parseEntries(body, a.cfg.Now().UTC())
	if err != nil {
		return nil, err
	}
	got, err := a.cfg.Ledger.AppendBatch(r.Context(), entries)
	if err != nil {
		return nil, fmt.Errorf("api: append to the ledger: %w", err)
	}
	out := receipts{make([]receipt, len(got))}
	for i, g := range got {
		out.Receipts[i] = receipt{
			Index: g.Index, ID: g.ID, LeafHash: hex.EncodeToString(g.LeafHash[:]),
			Size: g.Checkpoint.Size, Root: hex.EncodeToString(g.Checkpoint.Root[:]),
		}
	}
	if n := len(got); n > 0 {
		out.Receipts[n-1].Checkpoint = got[n-1].Checkpoint.Note
	}
	return out, nil
}

// parseEntries reads one entry, an array of entries, or JSON lines. All are
// read before one is stored.
func parseEntries(body []byte, now time.Time) ([]audit.Entry, error) {
	raws, err := splitEntries(body)
	if err != nil {
		return nil, err
	}
	if len(raws) == 0 {
		return nil, badRequest("body has no entry")
	}
	if len(raws) > maxAuditEntries {
		return nil, badRequest("%d entries in one request (limit %d)", len(raws), maxAuditEntries)
	}
	entries := make([]audit.Entry, len(raws))
	for i, raw := range raws {
		if entries[i], err = parseEntry(raw, now); err != nil {
			return nil, badRequest("entry %d: %v", i, err)
		}
	}
	return entries, nil
}

func splitEntries(body []byte) ([]json.RawMessage, error) {
	body = bytes.TrimSpace(body)
	var raws []json.RawMessage
	if bytes.HasPrefix(body, []byte("[")) {
		if err := json.Unmarshal(body, &raws); err != nil {
			return nil, badRequest("body is no JSON array: %v", err)
		}
		return raws, nil
	}
	for dec := json.NewDecoder(bytes.NewReader(body)); ; {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if err == io.EOF {
			return raws, nil
		}
		if err != nil {
			return nil, badRequest("entry %d is no JSON object: %v", len(raws), err)
		}
		raws = append(raws, raw)
	}
}

// parseEntry reads one entry with the ledger's own strict parser, which wants
// an id and a time: those that are missing are written in first.
func parseEntry(raw json.RawMessage, now time.Time) (audit.Entry, error) {
	var has struct {
		ID   json.RawMessage `json:"id"`
		Time json.RawMessage `json:"time"`
	}
	raw = bytes.TrimSpace(raw)
	if err := json.Unmarshal(raw, &has); err != nil || len(raw) < 2 || raw[0] != '{' {
		return audit.Entry{}, errors.New("not a JSON object")
	}
	var fill []byte
	if has.ID == nil {
		fill = fmt.Appendf(fill, `"id":%q,`, ulid.MustNewDefault(now).String())
	}
	if has.Time == nil {
		fill = fmt.Appendf(fill, `"time":%q,`, now.Format(time.RFC3339Nano))
	}
	if inside := bytes.TrimSpace(raw[1:]); len(fill) > 0 && inside[0] == '}' {
		fill = fill[:len(fill)-1] // nothing follows the comma
	}
	filled := append(append([]byte{'{'}, fill...), raw[1:]...)
	var e audit.Entry
	err := e.UnmarshalJSON(filled)
	return e, err
}

// checkpoint is the answer of GET /api/audit/checkpoint.
type checkpoint struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"`
	Note   string `json:"note"`
	VKey   string `json:"vkey"`
}

func (a *api) checkpoint(*http.Request, params) (any, error) {
	l := a.cfg.Ledger
	if l == nil {
		return nil, errNoLedger
	}
	c := l.Checkpoint()
	return checkpoint{Origin: l.Origin(), Size: c.Size, Root: hex.EncodeToString(c.Root[:]), Note: c.Note, VKey: l.VerifierKey()}, nil
}

func (a *api) proof(r *http.Request, _ params) (any, error) {
	if a.cfg.Ledger == nil {
		return nil, errNoLedger
	}
	index, err := strconv.ParseInt(r.PathValue("index"), 10, 64)
	if err != nil || index < 0 {
		return nil, badRequest("index %.40q is no number from 0", r.PathValue("index"))
	}
	p, err := a.cfg.Ledger.Proof(index)
	if err != nil {
		return nil, fmt.Errorf("api: proof of entry %d: %w", index, err)
	}
	return rawAnswer{"text/plain; charset=utf-8", p.Marshal()}, nil
}
