package price

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
)

func day(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

var november = day("2026-11-22T12:00:00Z")

// The prices in the comments are the providers', in USD per million tokens;
// the figures are computed from them by hand.
func TestCostEmbedded(t *testing.T) {
	tests := []struct {
		name            string
		provider, model string
		at              time.Time
		usage           Usage
		want            int64
		rule            string
	}{
		// 1000·2.5 + 200·1.25 + 300·10 = 5750 µUSD
		{"flat with cache", "openai", "gpt-4o", november, Usage{Input: 1000, CacheRead: 200, Output: 300}, 5_750_000, "openai/gpt-4o"},
		{"dated snapshot", "openai", "gpt-4o-2024-08-06", november, Usage{Input: 1000, Output: 300}, 5_500_000, "openai/gpt-4o"},
		// 300·10 + 700·10: reasoning is charged as output
		{"reasoning as output", "openai", "gpt-4o", november, Usage{Output: 300, Reasoning: 700}, 10_000_000, "openai/gpt-4o"},
		// 0.15·1000 + 0.6·10
		{"case and space", " OpenAI ", "GPT-4o-mini", november, Usage{Input: 1000, Output: 10}, 156_000, "openai/gpt-4o-mini"},
		// 0.02·1e6
		{"embeddings", "openai", "text-embedding-3-small", november, Usage{Input: 1_000_000}, 20_000_000, "openai/text-embedding-3-small"},
		// 100·3 + 2000·0.3 + 300·3.75 + 400·6 + 50·15 = 300+600+1125+2400+750
		{"cache classes", "anthropic", "claude-sonnet-4-5-20250929", november,
			Usage{Input: 100, CacheRead: 2000, CacheWrite: 700, CacheWrite1h: 400, Output: 50}, 5_175_000, "anthropic/claude-sonnet-4-5"},
		// 100000·3 + 100000·0.3: a prompt of exactly 200000 is in the base tier
		{"tier not reached", "anthropic", "claude-sonnet-4-5", november, Usage{Input: 100_000, CacheRead: 100_000}, 330_000_000, "anthropic/claude-sonnet-4-5"},
		// 100001·6 + 100000·0.6 + 10·22.5
		{"tier by whole prompt", "anthropic", "claude-sonnet-4-5", november, Usage{Input: 100_001, CacheRead: 100_000, Output: 10}, 660_231_000, "anthropic/claude-sonnet-4-5"},
		// 271999·2.5 and 272000·5: long context starts at exactly 272000
		{"tier edge below", "openai", "gpt-5.4", november, Usage{Input: 271_999}, 679_997_500, "openai/gpt-5.4"},
		{"tier edge above", "openai", "gpt-5.4", november, Usage{Input: 272_000}, 1_360_000_000, "openai/gpt-5.4"},
		// off-peak 0.14 before 2026-08-17, 0.22 from then; 0.44 from 01:00 to 04:00 UTC, from then only
		{"before the date", "deepseek", "deepseek-v4-flash", day("2026-08-16T23:59:59Z"), Usage{Input: 1_000_000}, 140_000_000, "deepseek/deepseek-v4-flash"},
		{"before the date, in the window", "deepseek", "deepseek-v4-flash", day("2026-08-16T02:00:00Z"), Usage{Input: 1_000_000}, 140_000_000, "deepseek/deepseek-v4-flash"},
		{"from the date", "deepseek", "deepseek-v4-flash", day("2026-08-17T00:00:00Z"), Usage{Input: 1_000_000}, 220_000_000, "deepseek/deepseek-v4-flash"},
		{"in the window", "deepseek", "deepseek-v4-flash", day("2026-11-22T03:59:59Z"), Usage{Input: 1_000_000}, 440_000_000, "deepseek/deepseek-v4-flash"},
		{"window over, other zone", "deepseek", "deepseek-v4-flash", day("2026-11-22T06:00:00+02:00"), Usage{Input: 1_000_000}, 220_000_000, "deepseek/deepseek-v4-flash"},
		// 0.0028·1: one token is 2.8 nano-dollars, rounded half up once
		{"rounded up", "deepseek", "deepseek-v4-flash", day("2026-08-01T00:00:00Z"), Usage{CacheRead: 1}, 3, "deepseek/deepseek-v4-flash"},
		{"rounded down", "deepseek", "deepseek-v4-flash", day("2026-08-01T00:00:00Z"), Usage{CacheRead: 3}, 8, "deepseek/deepseek-v4-flash"},
		{"convention's provider name", "azure.ai.openai", "gpt-4o-mini", november, Usage{Input: 1_000_000}, 150_000_000, ""},
		{"resold", "azure", "claude-sonnet-4-5", november, Usage{Input: 1_000_000}, 6_000_000_000, "anthropic/claude-sonnet-4-5"},
		{"provider by model", "", "claude-haiku-4-5", november, Usage{Input: 1000, Output: 100}, 1_500_000, "anthropic/claude-haiku-4-5"},
		{"litellm", "litellm", "anthropic/claude-haiku-4-5", november, Usage{Input: 1000, Output: 100}, 1_500_000, "anthropic/claude-haiku-4-5"},
		// regional endpoints cost a tenth more than the global one
		{"bedrock regional", "aws.bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0", november, Usage{Input: 1_000_000}, 1_100_000_000, ""},
		{"bedrock global", "aws.bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", november, Usage{Input: 1_000_000}, 1_000_000_000, ""},
		// 2·1000 + 8·100 + 3·500
		{"reasoning of its own price", "openrouter", "perplexity/sonar-deep-research", november, Usage{Input: 1000, Output: 100, Reasoning: 500}, 4_300_000, "openrouter/perplexity/sonar-deep-research"},
		{"free is known", "openrouter", "deepseek/deepseek-r1:free", november, Usage{Input: 1000}, 0, "openrouter/deepseek/deepseek-r1:free"},
		{"no usage", "openai", "gpt-4o", november, Usage{}, 0, "openai/gpt-4o"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Default().Cost(tt.provider, tt.model, tt.at, tt.usage)
			if !ok || got.NanoUSD != tt.want {
				t.Fatalf("Cost = %d, %v (%s), want %d", got.NanoUSD, ok, got.Rule, tt.want)
			}
			if tt.rule != "" && got.Rule != tt.rule {
				t.Errorf("Rule = %q, want %q", got.Rule, tt.rule)
			}
			if got.Table != "genai-prices 0.1.8" {
				t.Errorf("Table = %q", got.Table)
			}
		})
	}
}

func TestCostUnknown(t *testing.T) {
	tests := []struct {
		name            string
		provider, model string
		usage           Usage
	}{
		{"model", "openai", "gpt-17-imaginary", Usage{Input: 1}},
		{"provider", "nobody", "gpt-4o", Usage{Input: 1}},
		{"no model", "openai", "", Usage{Input: 1}},
		{"sold by the hour", "openai", "whisper-1", Usage{Input: 1}},
		{"listed without a price", "openrouter", "google/lyria-3-pro-preview", Usage{Input: 1}},
		{"output where none is sold", "openai", "text-embedding-3-small", Usage{Input: 1, Output: 1}},
		{"negative", "openai", "gpt-4o", Usage{Input: -1}},
		{"negative 5 min writes", "openai", "gpt-4o", Usage{CacheWrite: 1, CacheWrite1h: 2}},
		{"prompt out of range", "openai", "gpt-4o", Usage{Input: math.MaxInt64, CacheRead: 1}},
		{"sum out of range", "openai", "gpt-4o", Usage{Input: math.MaxInt64}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := Default().Cost(tt.provider, tt.model, november, tt.usage); ok || got != (Cost{}) {
				t.Fatalf("Cost = %+v, %v, want unknown", got, ok)
			}
		})
	}
}

// The three rules of the source that RE2 cannot express.
func TestRewrittenRules(t *testing.T) {
	tests := []struct{ provider, model, rule string }{
		{"google", "gemini-2.5-pro-preview-06-05", "google/gemini-2.5-pro"},
		{"google", "gemini-2.5-flash-lite-preview-06-17", "google/gemini-2.5-flash-lite"},
		{"", "mistral-small-latest", "mistral/"},
		{"", "labs-devstral-small-2512", "mistral/"},
	}
	for _, tt := range tests {
		got, ok := Default().Cost(tt.provider, tt.model, november, Usage{Input: 1})
		if !ok || !strings.HasPrefix(got.Rule, tt.rule) {
			t.Errorf("Cost(%q, %q) by rule %q, %v, want %q", tt.provider, tt.model, got.Rule, ok, tt.rule)
		}
	}
	for _, model := range []string{"gemini-2.5-pro-preview-tts", "gemini-2.5-pro-TTS-x"} {
		if got, _ := Default().Cost("google", model, november, Usage{Input: 1}); got.Rule == "google/gemini-2.5-pro" {
			t.Errorf("%s is priced as text", model)
		}
	}
	if got, ok := Default().Cost("", "someone/mistral-small", november, Usage{Input: 1}); ok {
		t.Errorf("a prefixed model was taken for Mistral's own: %+v", got)
	}
}

func TestProviderForHost(t *testing.T) {
	tests := []struct{ host, want string }{
		{"api.openai.com", "openai"},
		{"API.OpenAI.com.:443", "openai"},
		{"api.openai.com.example.org", ""},
		{"api.anthropic.com", "anthropic"},
		{"bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"},
		{"generativelanguage.googleapis.com", "gcp.gemini"},
		{"us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"},
		{"storage.googleapis.com", ""},
		{"mine.openai.azure.com", "azure.ai.openai"},
		{"mine.services.ai.azure.com", "azure.ai.inference"},
		{"api.mistral.ai", "mistral_ai"},
		{"api.x.ai", "x_ai"},
		{"api.moonshot.cn", "moonshot_ai"},
		{"openrouter.ai", "openrouter"},
		{"api.groq.com", "groq"},
		{"router.huggingface.co", ""},
		{"127.0.0.1:8080", ""},
		{"[::1]:8080", ""},
		{"localhost", ""},
		{"", ""},
	}
	for _, tt := range tests {
		if got := Default().ProviderForHost(tt.host); got != tt.want {
			t.Errorf("ProviderForHost(%q) = %q, want %q", tt.host, got, tt.want)
		}
	}
}

func TestWith(t *testing.T) {
	own, err := Load(strings.NewReader(`{"version":"own 1","providers":[
		{"id":"openai","models":[{"id":"gpt-4o","prices":[{"input":1,"output":2}]}]},
		{"id":"azure","models":[{"id":"house","match":{"starts_with":"house-"},"prices":[{"input":4}]}]},
		{"id":"acme","hosts":[{"host":"llm.acme.test"},{"host":"*.acme.test","name":"acme.edge"}],"models":[{"id":"m","prices":[{"input":3,"output":3,"request":5}]}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	b := Default().With(own).With(nil)
	tests := []struct {
		provider, model string
		want            int64
		table           string
	}{
		{"openai", "gpt-4o", 1000 + 2000, "own 1"},
		{"openai", "gpt-4o-mini", 150 + 600, "genai-prices 0.1.8"},
		{"acme", "m", 6000 + 5_000_000, "own 1"},
	}
	for _, tt := range tests {
		got, ok := b.Cost(tt.provider, tt.model, november, Usage{Input: 1, Output: 1})
		if !ok || got.NanoUSD != tt.want || got.Table != tt.table {
			t.Errorf("Cost(%s, %s) = %+v, %v, want %d of %s", tt.provider, tt.model, got, ok, tt.want, tt.table)
		}
	}
	// The embedded book's alias leads to the own table's entry.
	if got, ok := b.Cost("azure.ai.inference", "house-7", november, Usage{Input: 1}); !ok || got.Rule != "azure/house" {
		t.Errorf("Cost by alias = %+v, %v", got, ok)
	}
	for host, want := range map[string]string{"llm.acme.test": "acme", "eu.acme.test:8443": "acme.edge", "acme.test": "", "api.openai.com": "openai"} {
		if got := b.ProviderForHost(host); got != want {
			t.Errorf("ProviderForHost(%q) = %q, want %q", host, got, want)
		}
	}
	if got, want := b.Version(), "own 1, genai-prices 0.1.8"; got != want {
		t.Errorf("Version = %q, want %q", got, want)
	}
	if _, ok := Default().Cost("acme", "m", november, Usage{}); ok {
		t.Error("With changed the default book")
	}
}

func TestCostConcurrently(t *testing.T) {
	b := Default().With(nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				b.Cost("openai", fmt.Sprintf("gpt-4o-%d", (i+g)%7), november, Usage{Input: 1})
				if c, ok := b.Cost("openai", "gpt-4o", november, Usage{Input: 2}); !ok || c.NanoUSD != 5000 {
					t.Errorf("Cost = %+v, %v", c, ok)
				}
			}
		})
	}
	wg.Wait()
}

func TestFoundIsBounded(t *testing.T) {
	b := newBook(Default().tables)
	for i := range maxFound + 100 {
		b.Cost("openai", fmt.Sprint("model-", i), november, Usage{})
	}
	if len(b.found) != maxFound {
		t.Errorf("%d names are kept, want %d", len(b.found), maxFound)
	}
	if _, ok := b.Cost("openai", "gpt-4o", november, Usage{}); !ok {
		t.Error("a model that comes after the bound has no price")
	}
}

func BenchmarkCost(b *testing.B) {
	book := Default()
	for b.Loop() {
		book.Cost("anthropic", "claude-sonnet-4-5", november, Usage{Input: 100, CacheRead: 2000, Output: 50})
	}
}

func BenchmarkSearch(b *testing.B) {
	book := Default()
	for b.Loop() {
		book.search("openrouter", "no such model")
	}
}
