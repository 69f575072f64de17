package kaizentest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/price"
)

// ModelServer is a scripted model provider on 127.0.0.1. It speaks OpenAI chat
// completions, responses and embeddings, Anthropic messages, Gemini's
// generateContent and embedContent, Ollama's chat, generate and embed, and
// Amazon Bedrock's Converse, over real HTTP, streaming or not, closely enough
// for the official client libraries, and keeps its own account of what it
// served. It is safe for concurrent use.
type ModelServer struct {
	// URL is the server's address, without a path: http://127.0.0.1:port.
	// OpenAI clients take URL + "/v1" as base URL, all others take URL.
	URL string

	script Script
	http   *httptest.Server

	mu     sync.Mutex
	ledger []*Served
	calls  int                   // logical calls so far
	nth    map[string]int        // calls so far, by agent key
	failed map[string][]openCall // calls whose last attempt failed, by agent key and body
}

// openCall is a logical call that a further attempt may belong to.
type openCall struct{ call, nth, attempt int }

// maxRequestBytes bounds a request's body.
const maxRequestBytes = 64 << 20

// NewModelServer starts a server that answers after s. Close it.
func NewModelServer(s Script) *ModelServer {
	m := &ModelServer{script: s, nth: map[string]int{}, failed: map[string][]openCall{}}
	m.http = httptest.NewServer(m)
	m.URL = m.http.URL
	return m
}

// Close ends the server and waits for requests in flight.
func (m *ModelServer) Close() { m.http.Close() }

// Ledger returns a copy of the server's account, in the order in which answers
// began. An answer stands in it before its last byte is sent, so a client that
// has read an answer finds it there.
func (m *ModelServer) Ledger() []Served {
	m.mu.Lock()
	defer m.mu.Unlock()
	served := make([]Served, len(m.ledger))
	for i, s := range m.ledger {
		served[i] = *s
	}
	return served
}

// Bill sums the account. It uses nothing but [Script.Prices], so that it can
// be held against what somebody else computed.
func (m *ModelServer) Bill() Bill {
	var b Bill
	answered := map[int]bool{}
	for _, s := range m.Ledger() {
		b.Attempts++
		b.ToolCalls += s.ToolCalls
		b.Usage = b.Usage.Add(s.Usage)
		answered[s.Call] = answered[s.Call] || s.Status < 400 && !s.Cut
		r, priced := m.script.Prices[s.Model]
		if !priced && s.Usage.Total() > 0 {
			b.Unpriced++
		}
		b.NanoUSD += r.cost(s.Usage)
	}
	b.Calls = len(answered)
	for _, ok := range answered {
		if ok {
			b.OK++
		}
	}
	b.Failed = b.Calls - b.OK
	return b
}

func (r Rates) cost(u price.Usage) int64 {
	return r.Input*u.Input + r.CacheRead*u.CacheRead +
		r.CacheWrite*(u.CacheWrite-u.CacheWrite1h) + r.CacheWrite1h*u.CacheWrite1h +
		r.Output*u.Output + r.Reasoning*u.Reasoning
}

// wire is a provider's format: how a request is read and an answer written.
type wire interface {
	parse(r *http.Request, body []byte) (Request, error)
	// body is the whole answer, stream the same as events.
	body(a *answer) []byte
	stream(a *answer) []frame
	// failure is an error body.
	failure(status int, message, id string) []byte
}

// answer is a reply with what the wire formats need besides.
type answer struct {
	Reply
	req     Request
	id      string // the same for the same call of the same agent
	created int64
}

// frame is one event of a stream, as bytes.
type frame struct {
	data []byte
	// told is what the client has been told of usage with this event; nil for no news.
	told *price.Usage
	// tools is how many tool calls are complete with it.
	tools int
}

// wires are the formats by the end of the path.
var wires = []struct {
	suffix string
	wire   wire
}{
	{"/chat/completions", openAIChat{}},
	{"/responses", openAIResponses{}},
	{"/embeddings", openAIEmbeddings{}},
	{"/messages", anthropicMessages{}},
	{":generateContent", gemini{}},
	{":streamGenerateContent", gemini{}},
	{":embedContent", geminiEmbed{}},
	{":batchEmbedContents", geminiEmbed{}},
	{"/api/chat", ollamaChat{}},
	{"/api/generate", ollamaGenerate{}},
	{"/api/embed", ollamaEmbed{}},
	{"/converse", bedrock{}},
	{"/converse-stream", bedrock{}},
}

// streamTypes are the content types of streams that are not server-sent
// events, by dialect.
var streamTypes = map[string]string{
	"ollama.chat":      "application/x-ndjson",
	"ollama.generate":  "application/x-ndjson",
	"bedrock.converse": "application/vnd.amazon.eventstream",
}

// ServeHTTP implements [http.Handler].
func (m *ModelServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var format wire
	for _, known := range wires {
		if strings.HasSuffix(r.URL.Path, known.suffix) {
			format = known.wire
		}
	}
	if format == nil || r.Method != http.MethodPost {
		http.Error(w, `{"error":{"type":"not_found_error","message":"no such path or method"}}`, http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	if err != nil {
		return // the client is gone, or sends without end
	}
	req, err := format.parse(r, body)
	if err != nil {
		m.enter(&Served{Time: time.Now(), Status: http.StatusBadRequest, Agent: r.Header.Get(AgentHeader), Call: m.newCall()})
		m.fail(w, format, &answer{Reply: Reply{Status: http.StatusBadRequest, ErrorMessage: err.Error()}, id: "unreadable"})
		return
	}
	m.answer(w, r, format, req, body)
}

func (m *ModelServer) answer(w http.ResponseWriter, r *http.Request, format wire, req Request, body []byte) {
	req.Header = r.Header
	req.Agent = r.Header.Get(AgentHeader)
	if n, err := strconv.Atoi(r.Header.Get("X-Stainless-Retry-Count")); err == nil {
		req.Attempt = n
	} else if n := 0; strings.HasPrefix(r.Header.Get("Amz-Sdk-Request"), "attempt=") {
		if _, err := fmt.Sscanf(r.Header.Get("Amz-Sdk-Request"), "attempt=%d", &n); err == nil && n > 0 {
			req.Attempt = n - 1
		}
	}
	for _, msg := range req.Messages {
		if msg.Role == "assistant" {
			req.Turn++
		}
	}
	agent := req.Agent
	if agent == "" {
		agent = req.Model + "\x00" + req.System
	}
	sum := sha256.Sum256(body)
	callKey := agent + "\x00" + string(sum[:])
	call := m.begin(agent, callKey, req.Attempt)
	req.Nth = call.nth

	a := &answer{Reply: Reply{Text: "ok"}, req: req, created: time.Now().Unix()}
	sum = sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", agent, call.nth))
	a.id = hex.EncodeToString(sum[:12])
	if m.script.Reply != nil {
		a.Reply = m.script.Reply(req)
	}
	a.complete()
	s := &Served{Time: time.Now(), Dialect: req.Dialect, Model: req.Model, Agent: req.Agent, Stream: req.Stream,
		Call: call.call, Attempt: req.Attempt, Status: a.Status}
	gone := !sleep(r, a.Delay)
	s.Cut = gone
	m.enter(s)
	if gone || a.Status >= 400 || a.CutAfterChunks > 0 {
		m.reopen(callKey, call) // before the client can try again
	}
	switch {
	case gone:
		panic(http.ErrAbortHandler)
	case a.Status >= 400:
		m.fail(w, format, a)
	case req.Stream:
		m.sendStream(w, r, s, format.stream(a), a)
	default:
		m.sendBody(w, s, format.body(a), a)
	}
}

// complete fills what the script left to its default.
func (a *answer) complete() {
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	if a.Status == http.StatusTooManyRequests && a.RetryAfter == 0 {
		a.RetryAfter = time.Millisecond
	}
	for i := range a.ToolCalls {
		if i == 0 {
			a.ToolCalls = append([]ToolCall(nil), a.ToolCalls...) // the script's own
		}
		if a.ToolCalls[i].ID == "" {
			a.ToolCalls[i].ID = fmt.Sprintf("call_%s_%d", a.id, i)
		}
		if a.ToolCalls[i].Arguments == nil {
			a.ToolCalls[i].Arguments = []byte("{}")
		}
	}
	if a.Usage == (price.Usage{}) {
		a.Usage = derivedUsage(a)
	}
	a.sayable()
}

// sayable bills what the format has no class for in a plain one, or leaves it
// out, so that nothing is billed that the client cannot know of.
func (a *answer) sayable() {
	u := &a.Usage
	if a.embeds() {
		a.ToolCalls = nil
		*u = price.Usage{Input: u.Input + u.CacheRead + u.CacheWrite}
		return
	}
	switch a.req.Dialect {
	case "anthropic.messages":
	case "gemini.generate_content":
		*u = price.Usage{Input: u.Input + u.CacheWrite, CacheRead: u.CacheRead, Output: u.Output, Reasoning: u.Reasoning}
	case "ollama.chat", "ollama.generate":
		*u = price.Usage{Input: u.Input + u.CacheRead + u.CacheWrite, Output: u.Output + u.Reasoning}
	case "bedrock.converse":
		u.Output, u.Reasoning = u.Output+u.Reasoning, 0
	default:
		u.CacheWrite1h = 0
	}
	if a.req.Dialect == "ollama.generate" {
		a.ToolCalls = nil
	}
}

// embeds reports whether the request is for embeddings.
func (a *answer) embeds() bool {
	switch a.req.Dialect {
	case "openai.embeddings", "gemini.embed_content", "ollama.embed":
		return true
	}
	return false
}

// derivedUsage is a token for each 4 bytes begun of what was said.
func derivedUsage(a *answer) price.Usage {
	in, out := len(a.req.System), len(a.Text)
	for _, m := range a.req.Messages {
		in += len(m.Text)
		for _, c := range m.ToolCalls {
			in += len(c.Name) + len(c.Arguments)
		}
		for _, r := range m.ToolResults {
			in += len(r.Text)
		}
	}
	for _, c := range a.ToolCalls {
		out += len(c.Name) + len(c.Arguments)
	}
	if a.embeds() {
		out = 0
	}
	return price.Usage{Input: int64(in+3) / 4, Output: int64(out+3) / 4}
}

// begin finds the logical call that an attempt belongs to: a first attempt
// starts one, a further one continues a call with the same agent and body
// whose attempt before failed.
func (m *ModelServer) begin(agent, callKey string, attempt int) openCall {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, c := range m.failed[callKey] {
		if attempt > 0 && c.attempt == attempt-1 {
			m.failed[callKey] = append(m.failed[callKey][:i:i], m.failed[callKey][i+1:]...)
			c.attempt = attempt
			return c
		}
	}
	c := openCall{call: m.calls, nth: m.nth[agent], attempt: attempt}
	m.calls++
	m.nth[agent]++
	return c
}

func (m *ModelServer) newCall() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	return m.calls - 1
}

func (m *ModelServer) reopen(callKey string, c openCall) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed[callKey] = append(m.failed[callKey], c)
}

func (m *ModelServer) enter(s *Served) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger = append(m.ledger, s)
}

// note changes an entry that is in the ledger already.
func (m *ModelServer) note(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *ModelServer) fail(w http.ResponseWriter, format wire, a *answer) {
	message := a.ErrorMessage
	if message == "" {
		message = "scripted: " + http.StatusText(a.Status)
	}
	setHeaders(w, a, "application/json")
	if a.RetryAfter > 0 {
		w.Header().Set("Retry-After-Ms", strconv.FormatInt(max(1, a.RetryAfter.Milliseconds()), 10))
		w.Header().Set("Retry-After", strconv.FormatInt(int64((a.RetryAfter+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(format.failure(a.Status, message, "req_"+a.id)) // a client that left needs no error
}

func (m *ModelServer) sendBody(w http.ResponseWriter, s *Served, body []byte, a *answer) {
	setHeaders(w, a, "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	cut := a.CutAfterChunks > 0
	m.note(func() {
		s.Cut = cut
		if !cut {
			s.Usage, s.Told, s.ToolCalls = a.Usage, true, len(a.ToolCalls)
		}
	})
	w.WriteHeader(a.Status)
	if cut {
		_, _ = w.Write(body[:len(body)/2]) // cut anyway
		flush(w)
		panic(http.ErrAbortHandler)
	}
	if _, err := w.Write(body); err != nil {
		m.note(func() { s.Cut = true })
	}
}

func (m *ModelServer) sendStream(w http.ResponseWriter, r *http.Request, s *Served, frames []frame, a *answer) {
	setHeaders(w, a, a.streamType())
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(a.Status)
	flush(w)
	for i, f := range frames {
		if a.CutAfterChunks > 0 && i == a.CutAfterChunks || !sleep(r, a.ChunkDelay) {
			m.note(func() { s.Cut = true })
			panic(http.ErrAbortHandler)
		}
		m.note(func() {
			s.ToolCalls += f.tools
			if f.told != nil {
				s.Usage, s.Told = *f.told, true
			}
			if i == len(frames)-1 {
				s.Usage = a.Usage // billed whether or not the client was told
			}
		})
		if _, err := w.Write(f.data); err != nil {
			m.note(func() { s.Cut = true })
			return
		}
		flush(w)
	}
}

func (a *answer) streamType() string {
	if a.req.array {
		return "application/json; charset=UTF-8"
	}
	return cmp.Or(streamTypes[a.req.Dialect], "text/event-stream; charset=utf-8")
}

func setHeaders(w http.ResponseWriter, a *answer, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Request-Id", "req_"+a.id)
	h.Set("Request-Id", "req_"+a.id)
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// sleep waits, and reports whether the client was still there at the end.
func sleep(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return r.Context().Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
