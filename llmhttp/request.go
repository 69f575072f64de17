package llmhttp

import (
	"cmp"
	"hash/maphash"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/kaizen-go/kaizen/price"
	"github.com/tidwall/gjson"
)

// dialect is a wire format.
type dialect struct {
	name      string
	suffix    string // of the path
	operation string
	provider  string // whose format it is
	reader    reader
	fields    []string // of a request, that are kept
	stream    streaming
	// fits reports whether a request with these fields is one of this format.
	fits func(has map[string]bool) bool
	// content reads messages, system instructions and tools out of a request.
	content func(c *Call, body gjson.Result)
	// model reads the model out of the escaped path, for formats that have it
	// there; without one the path is not of this format.
	model func(path string) string
}

// streaming is how a request asks for a stream.
type streaming int

const (
	ifAsked    streaming = iota // by "stream":true
	unlessSaid                  // unless there is "stream":false
	always                      // by its path
	never
)

var dialects = []*dialect{
	{name: OpenAIChat, suffix: "/chat/completions", operation: "chat", provider: "openai", reader: chatReader{}, fields: requestFields,
		fits: func(has map[string]bool) bool { return has["messages"] }, content: chatContent},
	{name: OpenAIResponses, suffix: "/responses", operation: "chat", provider: "openai", reader: responsesReader{}, fields: requestFields,
		fits: func(has map[string]bool) bool {
			return has["prompt"] || has["model"] && (has["input"] || has["previous_response_id"] || has["conversation"])
		}, content: responsesContent},
	{name: OpenAIEmbeddings, suffix: "/embeddings", operation: "embeddings", provider: "openai", reader: embeddingsReader{}, fields: requestFields,
		fits: func(has map[string]bool) bool { return has["input"] }, content: embeddingsContent},
	{name: AnthropicMessages, suffix: "/messages", operation: "chat", provider: "anthropic", reader: anthropicReader{}, fields: requestFields,
		fits: func(has map[string]bool) bool { return has["messages"] && has["max_tokens"] }, content: anthropicContent},
	{name: GeminiGenerateContent, suffix: ":generateContent", operation: "generate_content", provider: "gcp.gemini", reader: geminiReader{}, fields: geminiFields,
		stream: never, fits: func(has map[string]bool) bool { return has["contents"] }, content: geminiContent, model: geminiModel},
	{name: GeminiGenerateContent, suffix: ":streamGenerateContent", operation: "generate_content", provider: "gcp.gemini", reader: geminiReader{}, fields: geminiFields,
		stream: always, fits: func(has map[string]bool) bool { return has["contents"] }, content: geminiContent, model: geminiModel},
	{name: GeminiEmbedContent, suffix: ":embedContent", operation: "embeddings", provider: "gcp.gemini", reader: geminiEmbedReader{},
		stream: never, fits: func(has map[string]bool) bool { return has["content"] }, content: geminiEmbedContent, model: geminiModel},
	{name: GeminiEmbedContent, suffix: ":batchEmbedContents", operation: "embeddings", provider: "gcp.gemini", reader: geminiEmbedReader{},
		stream: never, fits: func(has map[string]bool) bool { return has["requests"] }, content: geminiEmbedContent, model: geminiModel},
	{name: OllamaChat, suffix: "/api/chat", operation: "chat", provider: "ollama", reader: ollamaReader{}, fields: ollamaFields,
		stream: unlessSaid, fits: func(has map[string]bool) bool { return has["model"] && has["messages"] }, content: ollamaChatContent},
	{name: OllamaGenerate, suffix: "/api/generate", operation: "text_completion", provider: "ollama", reader: ollamaReader{}, fields: ollamaFields,
		stream: unlessSaid, fits: func(has map[string]bool) bool { return has["model"] && has["prompt"] }, content: ollamaGenerateContent},
	{name: OllamaEmbed, suffix: "/api/embed", operation: "embeddings", provider: "ollama", reader: ollamaEmbedReader{}, fields: ollamaFields,
		stream: never, fits: func(has map[string]bool) bool { return has["model"] && has["input"] }, content: embeddingsContent},
	{name: BedrockConverse, suffix: "/converse", operation: "chat", provider: "aws.bedrock", reader: bedrockReader{}, fields: bedrockFields,
		stream: never, fits: func(has map[string]bool) bool { return has["messages"] || has["promptVariables"] }, content: bedrockContent, model: bedrockModel},
	{name: BedrockConverse, suffix: "/converse-stream", operation: "chat", provider: "aws.bedrock", reader: bedrockReader{}, fields: bedrockFields,
		stream: always, fits: func(has map[string]bool) bool { return has["messages"] || has["promptVariables"] }, content: bedrockContent, model: bedrockModel},
}

// dialectOf returns the dialect that the path of a request speaks of, nil for none.
func dialectOf(req *http.Request) *dialect {
	if req.Method != http.MethodPost || req.URL == nil || req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	path := strings.TrimSuffix(req.URL.Path, "/")
	for _, d := range dialects {
		if strings.HasSuffix(path, d.suffix) && (d.model == nil || d.model(req.URL.EscapedPath()) != "") {
			return d
		}
	}
	return nil
}

// call describes a request, and reports whether it is a model call at all.
func (t *transport) call(req *http.Request, d *dialect, a *ahead) (Call, bool) {
	known := price.Default().ProviderForHost(req.URL.Hostname())
	fields := a.scan
	// A body that is compressed, not read or longer than what is read ahead
	// does not show its fields: then a known host decides. An empty one is no call.
	if fields.mode == scanStart || !d.fits(fields.noted) && (fields.done || known == "") {
		return Call{}, false
	}
	get := func(name string) gjson.Result { return gjson.ParseBytes(fields.found[name]) }
	c := Call{
		Provider: known, Operation: d.operation, Dialect: d.name,
		Model: get("model").String(), Stream: d.streams(get("stream")),
		ServerAddress: req.URL.Hostname(), ServerPort: port(req.URL), Fingerprint: fingerprint(req, a),
	}
	c.Attempt, c.MaxAttempts, c.Counted = attempt(req.Header)
	if c.Provider == "" {
		c.Provider = t.cfg.Provider
	}
	if c.Provider == "" {
		c.Provider = providerOf(d, req.URL.Path)
	}
	switch {
	case d.model != nil:
		c.Model = d.model(req.URL.EscapedPath())
	case c.Model == "":
		c.Model = deployment(req.URL.Path)
	}
	for _, name := range maxTokensFields {
		if n := count(get(name)); n > 0 {
			c.MaxTokens = int(n)
		}
	}
	for _, name := range temperatureFields {
		c.Temperature = cmp.Or(c.Temperature, number(get(name)))
	}
	for _, name := range topPFields {
		c.TopP = cmp.Or(c.TopP, number(get(name)))
	}
	c.ConversationID = get("conversation").Str
	if id := get("conversation").Get("id"); id.Exists() {
		c.ConversationID = id.Str
	}
	if t.cfg.Content {
		if c.Truncated = len(a.all) > t.cfg.MaxContentBytes || !gjson.ValidBytes(a.all); !c.Truncated {
			d.content(&c, gjson.ParseBytes(a.all))
		}
	}
	return c, true
}

// Settings by the names that the dialects have for them.
var (
	maxTokensFields   = []string{"max_tokens", "max_completion_tokens", "max_output_tokens", "generationConfig.maxOutputTokens", "options.num_predict", "inferenceConfig.maxTokens"}
	temperatureFields = []string{"temperature", "generationConfig.temperature", "options.temperature", "inferenceConfig.temperature"}
	topPFields        = []string{"top_p", "generationConfig.topP", "options.top_p", "inferenceConfig.topP"}
)

// streams reports whether a request with this field "stream" asks for a stream.
func (d *dialect) streams(field gjson.Result) bool {
	switch d.stream {
	case unlessSaid:
		return field.Type != gjson.False
	case always:
		return true
	case never:
		return false
	}
	return field.Bool()
}

// providerOf names the provider where neither the host nor the configuration does.
func providerOf(d *dialect, path string) string {
	if d.provider == "gcp.gemini" && strings.Contains(path, "/projects/") {
		return "gcp.vertex_ai" // whose paths begin with a project
	}
	return d.provider
}

func number(v gjson.Result) *float64 {
	if v.Type != gjson.Number {
		return nil
	}
	return &v.Num
}

func port(u *url.URL) int {
	if n, err := strconv.Atoi(u.Port()); err == nil {
		return n
	}
	if u.Scheme == "http" {
		return 80
	}
	return 443
}

// attempt returns which retry of the client library this is, 0 for the first
// try, how many attempts it makes at most, 0 if unknown, and whether it counts.
func attempt(h http.Header) (n, limit int, counted bool) {
	if n, err := strconv.Atoi(h.Get("X-Stainless-Retry-Count")); err == nil && n >= 0 {
		return n, 0, true
	}
	// Amz-Sdk-Request: attempt=2; max=3
	for field := range strings.SplitSeq(h.Get("Amz-Sdk-Request"), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		v, err := strconv.Atoi(value)
		switch {
		case err != nil || v < 1:
		case name == "attempt":
			n, counted = v-1, true
		case name == "max":
			limit = v
		}
	}
	return n, limit, counted
}

// fingerprint tells calls apart, and finds the attempts of one: see [Call.Fingerprint].
func fingerprint(req *http.Request, a *ahead) uint64 {
	for _, name := range [...]string{"Amz-Sdk-Invocation-Id", "Idempotency-Key"} {
		if id := req.Header.Get(name); id != "" {
			return maphash.String(hashSeed, id)
		}
	}
	_, _ = a.hash.WriteString(req.URL.Host)
	_, _ = a.hash.WriteString(req.URL.Path)
	return a.hash.Sum64()
}

// deployment returns the name in a path such as Azure's
// /openai/deployments/NAME/chat/completions, which stands for the model.
func deployment(path string) string {
	_, rest, ok := strings.Cut(path, "/deployments/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}
