package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// The source's form.

type sourceProvider struct {
	ID            string          `json:"id"`
	APIPattern    string          `json:"api_pattern"`
	ProviderMatch json.RawMessage `json:"provider_match"`
	ModelMatch    json.RawMessage `json:"model_match"`
	Fallback      []string        `json:"fallback_model_providers"`
	Models        []sourceModel   `json:"models"`
}

type sourceModel struct {
	ID     string          `json:"id"`
	Match  json.RawMessage `json:"match"`
	Prices json.RawMessage `json:"prices"` // an object, or a list with constraints
}

type sourcePrice struct {
	Constraint *struct {
		Type      string `json:"type"`
		StartDate string `json:"start_date"`
		StartTime string `json:"start_time"`
		EndTime   string `json:"end_time"`
	} `json:"constraint"`
	Prices map[string]json.RawMessage `json:"prices"`
}

// The book's form, as [price.Load] documents it.

type bookFile struct {
	Version   string         `json:"version"`
	Source    string         `json:"source"`
	Providers []bookProvider `json:"providers"`
}

type bookProvider struct {
	ID      string      `json:"id"`
	Name    string      `json:"name,omitempty"`
	Aliases []string    `json:"aliases,omitempty"`
	Match   any         `json:"match,omitempty"`
	Owns    any         `json:"owns,omitempty"`
	Hosts   []bookHost  `json:"hosts,omitempty"`
	Resells []string    `json:"resells,omitempty"`
	Models  []bookModel `json:"models"`
}

type bookHost struct {
	Regex string `json:"regex"`
	Name  string `json:"name,omitempty"`
}

type bookModel struct {
	ID     string           `json:"id"`
	Match  any              `json:"match"`
	Prices []map[string]any `json:"prices"`
}

// conventions are the names that the GenAI conventions have for the source's
// providers, where they differ.
var conventions = map[string]struct {
	name    string
	aliases []string
}{
	"aws":        {"aws.bedrock", nil},
	"azure":      {"azure.ai.openai", []string{"azure.ai.inference"}},
	"google":     {"gcp.gemini", []string{"gcp.vertex_ai", "gcp.gen_ai"}},
	"mistral":    {"mistral_ai", nil},
	"moonshotai": {"moonshot_ai", nil},
	"x-ai":       {"x_ai", []string{"xai"}},
}

// hosts replace the source's pattern for providers with several names, and for
// those that share a host with others and are told apart by the path (nil).
var hosts = map[string][]bookHost{
	"azure": {
		{`([^.]+\.)?(openai\.azure\.com|azure-api\.net)`, "azure.ai.openai"},
		{`([^.]+\.)?(cognitiveservices\.azure\.com|services\.ai\.azure\.com)`, "azure.ai.inference"},
	},
	"google": {
		{`generativelanguage\.googleapis\.com`, "gcp.gemini"},
		{`([a-z0-9-]+-)?aiplatform\.googleapis\.com`, "gcp.vertex_ai"},
	},
	"cloudflare":               {{`api\.cloudflare\.com`, ""}},
	"moonshotai":               {{`api\.moonshot\.(ai|cn)`, ""}},
	"huggingface_cerebras":     nil,
	"huggingface_fireworks-ai": nil,
	"huggingface_groq":         nil,
	"huggingface_hyperbolic":   nil,
	"huggingface_nebius":       nil,
	"huggingface_novita":       nil,
	"huggingface_nscale":       nil,
	"huggingface_ovhcloud":     nil,
	"huggingface_publicai":     nil,
	"huggingface_sambanova":    nil,
	"huggingface_together":     nil,
}

// rewritten are the source's regular expressions that RE2 cannot express: all
// use negative look-ahead.
var rewritten = map[string]any{
	`^(?!.*-[tT][tT][sS](?:$|-))`: not(or(is("ends_with", "-tts"), is("contains", "-tts-"))),
	`^(?![^/]+/)(?:labs-)?(?:(?:mi|code|dev|magi|mini)stral|mixtral|pixtral|voxtral|open-(?:mistral|mixtral))`: map[string]any{"and": []any{
		is("regex", `^(?:labs-)?(?:(?:mi|code|dev|magi|mini)stral|mixtral|pixtral|voxtral|open-(?:mistral|mixtral))`),
		not(is("contains", "/")),
	}},
}

func is(op, text string) any { return map[string]any{op: text} }
func or(rules ...any) any    { return map[string]any{"or": rules} }
func not(rule any) any       { return map[string]any{"not": rule} }

// priceKinds are the kinds of price that are kept, under the book's names.
var priceKinds = map[string]string{
	"input_mtok": "input", "output_mtok": "output", "output_reasoning_mtok": "reasoning",
	"cache_read_mtok": "cache_read", "cache_write_mtok": "cache_write", "cache_write_1h_mtok": "cache_write_1h",
	"requests_kcount": "request",
}

// otherKinds are the kinds that a usage in plain token classes cannot be
// charged for, and so are left out.
var otherKinds = regexp.MustCompile(`^(web_searches_kcount|storage_searches_kcount|input_text_messages_kcount|output_citation_mtok|audio_hours|input_audio_hours|(input|output)_(audio|image|video)_mtok|cache_(audio|image)_read_mtok|input_(annotated_)?document_kpages)$`)

func convert(raw []byte, version string) (*bookFile, error) {
	var source []sourceProvider
	if err := json.Unmarshal(raw, &source); err != nil {
		return nil, fmt.Errorf("decode the source's data: %w", err)
	}
	book := &bookFile{Version: version, Source: "https://github.com/pydantic/genai-prices, MIT licence, see NOTICE"}
	for _, sp := range source {
		p, err := sp.convert()
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", sp.ID, err)
		}
		book.Providers = append(book.Providers, p)
	}
	return book, nil
}

func (sp *sourceProvider) convert() (bookProvider, error) {
	p := bookProvider{ID: sp.ID, Resells: sp.Fallback}
	p.Name, p.Aliases = conventions[sp.ID].name, conventions[sp.ID].aliases
	var err error
	if p.Match, err = match(sp.ProviderMatch); err != nil {
		return p, err
	}
	if p.Owns, err = match(sp.ModelMatch); err != nil {
		return p, err
	}
	known := false
	if p.Hosts, known = hosts[sp.ID]; !known {
		pattern, err := hostPattern(sp.APIPattern)
		if err != nil {
			return p, err
		}
		p.Hosts = []bookHost{{Regex: pattern}}
	}
	for _, sm := range sp.Models {
		m, err := sm.convert()
		if err != nil {
			return p, fmt.Errorf("model %s: %w", sm.ID, err)
		}
		p.Models = append(p.Models, m)
	}
	return p, nil
}

// hostPattern reduces a pattern of URLs to one of hosts. Package price anchors
// it at both ends, so api.example.com.example.org is not taken for api.example.com.
func hostPattern(pattern string) (string, error) {
	host, ok := strings.CutPrefix(pattern, "https://")
	if !ok {
		return "", fmt.Errorf("api_pattern %q: no https:// at its start", pattern)
	}
	for _, end := range []string{"(?:/|$)", "(/|$)"} {
		host = strings.TrimSuffix(host, end)
	}
	// A / is allowed in a class that excludes it.
	if strings.Contains(strings.ReplaceAll(host, "[^/]", ""), "/") || strings.HasSuffix(host, `\.`) {
		return "", fmt.Errorf("api_pattern %q is no host: add it to the table hosts", pattern)
	}
	return host, nil
}

// match translates a match rule: the two forms are alike but for look-ahead.
func match(raw json.RawMessage) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var rule map[string]any
	if err := json.Unmarshal(raw, &rule); err != nil {
		return nil, fmt.Errorf("match %s: %w", raw, err)
	}
	return rewrite(rule)
}

func rewrite(rule map[string]any) (any, error) {
	for op, v := range rule {
		switch v := v.(type) {
		case string:
			if op != "regex" {
				continue
			}
			if other, ok := rewritten[v]; ok {
				return other, nil
			}
			if _, err := regexp.Compile(v); err != nil {
				return nil, fmt.Errorf("add it to the table rewritten: %w", err)
			}
		case []any:
			for i := range v {
				inner, ok := v[i].(map[string]any)
				if !ok {
					return nil, fmt.Errorf("match %v: not a rule", v[i])
				}
				r, err := rewrite(inner)
				if err != nil {
					return nil, err
				}
				v[i] = r
			}
		}
	}
	return rule, nil
}

func (sm *sourceModel) convert() (bookModel, error) {
	m := bookModel{ID: sm.ID, Prices: []map[string]any{}}
	var err error
	if m.Match, err = match(sm.Match); err != nil {
		return m, err
	}
	list := []sourcePrice{{}}
	if bytes.HasPrefix(sm.Prices, []byte("[")) {
		err = json.Unmarshal(sm.Prices, &list)
	} else {
		err = json.Unmarshal(sm.Prices, &list[0].Prices)
	}
	if err != nil {
		return m, fmt.Errorf("prices: %w", err)
	}
	from, priced := "", 0
	for _, sp := range list {
		p, err := sp.convert(sm.ID, &from)
		if err != nil {
			return m, err
		}
		m.Prices = append(m.Prices, p)
		for _, kind := range priceKinds {
			if p[kind] != nil {
				priced++
				break
			}
		}
	}
	if priced == 0 {
		m.Prices = []map[string]any{} // known, and sold by something else than tokens
	}
	return m, nil
}

// convert translates a price. The source cannot give an entry both a date and
// a time of day; where a daily window follows a dated price in the list, it
// belongs to it (DeepSeek's peak hours), so it gets that price's date, from.
func (sp *sourcePrice) convert(model string, from *string) (map[string]any, error) {
	p := map[string]any{}
	if c := sp.Constraint; c != nil {
		switch c.Type {
		case "start_date":
			*from = c.StartDate
		case "time_of_date":
			start, ok1 := strings.CutSuffix(c.StartTime, "Z")
			end, ok2 := strings.CutSuffix(c.EndTime, "Z")
			if !ok1 || !ok2 {
				return nil, fmt.Errorf("daily window %s to %s is not in UTC", c.StartTime, c.EndTime)
			}
			p["daily"] = []string{start, end}
		default:
			return nil, fmt.Errorf("constraint of unknown type %q", c.Type)
		}
		if *from != "" {
			p["from"] = *from
		}
	}
	for kind, raw := range sp.Prices {
		name, kept := priceKinds[kind]
		if !kept {
			if !otherKinds.MatchString(kind) {
				return nil, fmt.Errorf("price of unknown kind %q: add it to priceKinds or otherKinds", kind)
			}
			continue
		}
		v, err := amount(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
		p[name] = v
	}
	// An empty list of prices means "free" where the name says so, and
	// "unknown" elsewhere.
	if len(sp.Prices) == 0 && strings.HasSuffix(model, ":free") {
		p["input"], p["output"] = json.Number("0"), json.Number("0")
	}
	return p, nil
}

func amount(raw json.RawMessage) (any, error) {
	if !bytes.HasPrefix(raw, []byte("{")) {
		return decimal(string(raw))
	}
	var tiers struct {
		Base  json.Number `json:"base"`
		Tiers []struct {
			Start int64       `json:"start"`
			Price json.Number `json:"price"`
		} `json:"tiers"`
	}
	if err := json.Unmarshal(raw, &tiers); err != nil {
		return nil, err
	}
	base, err := decimal(tiers.Base.String())
	if err != nil {
		return nil, err
	}
	var list []map[string]any
	for _, t := range tiers.Tiers {
		p, err := decimal(t.Price.String())
		if err != nil {
			return nil, err
		}
		list = append(list, map[string]any{"start": t.Start, "price": p})
	}
	return map[string]any{"base": base, "tiers": list}, nil
}

// decimal writes a number with at most nine digits after the point, rounded
// half away from zero. Two of the source's numbers have more: they are quotients
// and sums of floats (0.08333333333333334, 0.18000000000000002).
func decimal(s string) (json.Number, error) {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return "", fmt.Errorf("%q is not a number", s)
	}
	text := strings.TrimRight(r.FloatString(9), "0")
	return json.Number(strings.TrimSuffix(text, ".")), nil
}
