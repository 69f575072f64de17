package llmhttp

import (
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
	// fits reports whether a request with these fields is one of this format.
	fits func(has map[string]bool) bool
	// content reads messages, system instructions and tools out of a request.
	content func(c *Call, body gjson.Result)
}

var dialects = []*dialect{
	{OpenAIChat, "/chat/completions", "chat", "openai", chatReader{},
		func(has map[string]bool) bool { return has["messages"] }, chatContent},
	{OpenAIResponses, "/responses", "chat", "openai", responsesReader{},
		func(has map[string]bool) bool {
			return has["prompt"] || has["model"] && (has["input"] || has["previous_response_id"] || has["conversation"])
		}, responsesContent},
	{OpenAIEmbeddings, "/embeddings", "embeddings", "openai", embeddingsReader{},
		func(has map[string]bool) bool { return has["input"] }, embeddingsContent},
	{AnthropicMessages, "/messages", "chat", "anthropic", anthropicReader{},
		func(has map[string]bool) bool { return has["messages"] && has["max_tokens"] }, anthropicContent},
}

// dialectOf returns the dialect that the path of a request speaks of, nil for none.
func dialectOf(req *http.Request) *dialect {
	if req.Method != http.MethodPost || req.URL == nil || req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	path := strings.TrimSuffix(req.URL.Path, "/")
	for _, d := range dialects {
		if strings.HasSuffix(path, d.suffix) {
			return d
		}
	}
	return nil
}

// call describes a request, and reports whether it is a model call at all.
func (t *transport) call(req *http.Request, d *dialect, a ahead) (Call, bool) {
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
		Model: get("model").String(), Stream: get("stream").Bool(),
		ServerAddress: req.URL.Hostname(), ServerPort: port(req.URL), Attempt: attempt(req.Header),
	}
	if c.Provider == "" {
		c.Provider = t.cfg.Provider
	}
	if c.Provider == "" {
		c.Provider = d.provider
	}
	if c.Model == "" {
		c.Model = deployment(req.URL.Path)
	}
	for _, name := range []string{"max_tokens", "max_completion_tokens", "max_output_tokens"} {
		if n := count(get(name)); n > 0 {
			c.MaxTokens = int(n)
		}
	}
	c.Temperature, c.TopP = number(get("temperature")), number(get("top_p"))
	c.ConversationID = get("conversation").Str
	if id := get("conversation").Get("id"); id.Exists() {
		c.ConversationID = id.Str
	}
	if t.cfg.Content {
		if c.Truncated = !gjson.ValidBytes(a.all); !c.Truncated {
			d.content(&c, gjson.ParseBytes(a.all))
		}
	}
	return c, true
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

// attempt returns which retry of the client library this is, 0 for the first try.
func attempt(h http.Header) int {
	if n, err := strconv.Atoi(h.Get("X-Stainless-Retry-Count")); err == nil && n > 0 {
		return n
	}
	// Amz-Sdk-Request: attempt=2; max=3
	for field := range strings.SplitSeq(h.Get("Amz-Sdk-Request"), ";") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(field), "attempt="); ok {
			if n, err := strconv.Atoi(v); err == nil && n > 1 {
				return n - 1
			}
		}
	}
	return 0
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
