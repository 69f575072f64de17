package normalise

import (
	"math"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Names of token counts, newest first: generations C, B and A of the GenAI
// conventions, OpenInference, OpenLLMetry, the Vercel AI SDK, Claude Code.
var (
	inputKeys = []string{
		"gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt",
		"llm.usage.prompt_tokens", "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens",
	}
	outputKeys = []string{
		"gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
		"llm.usage.completion_tokens", "ai.usage.outputTokens", "ai.usage.completionTokens",
	}
	cacheReadKeys = []string{
		"gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
		"gen_ai.usage.details.cache_read_input_tokens", "gen_ai.usage.details.cached_tokens",
		"gen_ai.usage.cached_tokens", "gen_ai.usage.input_tokens.cached", "gen_ai.usage.prompt_tokens_details.cached_tokens",
		"llm.token_count.prompt_details.cache_read", "llm.usage.cache_read_input_tokens",
		"ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens",
	}
	cacheWriteKeys = []string{
		"gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens",
		"gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.cache_write_input_tokens",
		"gen_ai.usage.details.cache_creation_input_tokens", "gen_ai.usage.input_tokens.cache_write",
		"llm.token_count.prompt_details.cache_write", "llm.usage.cache_creation_input_tokens",
		"ai.usage.inputTokenDetails.cacheWriteTokens",
	}
	cacheWrite1hKeys = []string{
		"kaizen.usage.cache_write_1h", "gen_ai.usage.cache_creation.ephemeral_1h_input_tokens",
		"gen_ai.usage.details.ephemeral_1h_input_tokens",
	}
	reasoningKeys = []string{
		"gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens", "gen_ai.usage.output_tokens.reasoning",
		"gen_ai.usage.details.reasoning_tokens", "gen_ai.usage.completion_tokens_details.reasoning_tokens",
		"gen_ai.usage.experimental.reasoning_tokens", "llm.token_count.completion_details.reasoning",
		"llm.usage.reasoning_tokens", "ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens",
	}
)

// counts is what a sender stated, before the totals are taken apart.
type counts struct {
	input, output, read, write, write1h, reasoning int64
	any                                            bool
	// splitInput: input excludes both cache kinds. splitOutput: output
	// excludes reasoning.
	splitInput, splitOutput bool
}

// usageOf returns the tokens of a call in disjoint buckets, and whether the
// sender stated any.
func usageOf(a attrs, scope, name, provider string) (price.Usage, bool) {
	c := statedCounts(a)
	switch {
	case a.has("langfuse.observation.usage_details"):
		c = langfuseCounts(a.object("langfuse.observation.usage_details"), c)
	case strings.HasPrefix(name, "claude_code."):
		c = claudeCodeCounts(a, c)
	case scope == "ai" && !a.has("kaizen.kind"):
		c.splitInput = vercelSplits(a, provider, &c)
	case strings.HasPrefix(scope, "gcp.vertex.agent"):
		c.splitOutput = true // candidates, without thoughts
	}
	return c.usage(), c.any
}

func statedCounts(a attrs) counts {
	var c counts
	for _, f := range []struct {
		to   *int64
		keys []string
	}{
		{&c.input, inputKeys}, {&c.output, outputKeys}, {&c.read, cacheReadKeys},
		{&c.write, cacheWriteKeys}, {&c.write1h, cacheWrite1hKeys}, {&c.reasoning, reasoningKeys},
	} {
		if n, ok := a.count(f.keys...); ok {
			*f.to, c.any = n, true
		}
	}
	return c
}

// usage takes the totals apart. The conventions say that input includes what
// was read from and written to caches, and output includes reasoning. A total
// smaller than its parts cannot include them.
func (c counts) usage() price.Usage {
	u := price.Usage{
		Input: c.input, CacheRead: c.read, CacheWrite: c.write, CacheWrite1h: min(c.write1h, c.write),
		Output: c.output, Reasoning: c.reasoning,
	}
	if cached := c.read + c.write; !c.splitInput && c.input >= cached {
		u.Input = c.input - cached
	}
	if !c.splitOutput && c.output >= c.reasoning {
		u.Output = c.output - c.reasoning
	}
	return u
}

// langfuseCounts reads the usage that Langfuse's SDKs write beside the
// standard one, where every kind stands for itself.
func langfuseCounts(d attrs, c counts) counts {
	if d == nil {
		return c
	}
	n := counts{splitInput: true, splitOutput: true}
	for _, f := range []struct {
		to   *int64
		keys []string
	}{
		{&n.input, []string{"input", "input_tokens", "prompt_tokens"}},
		{&n.output, []string{"output", "output_tokens", "completion_tokens"}},
		{&n.read, []string{"input_cached_tokens", "cache_read_input_tokens", "input_cache_read", "cached_tokens"}},
		{&n.write, []string{"cache_creation_input_tokens", "input_cache_creation", "cache_write_input_tokens"}},
		{&n.reasoning, []string{"output_reasoning_tokens", "reasoning_tokens", "output_reasoning"}},
	} {
		if v, ok := d.count(f.keys...); ok {
			*f.to, n.any = v, true
		}
	}
	if !n.any {
		return c
	}
	return n
}

func claudeCodeCounts(a attrs, c counts) counts {
	for _, f := range []struct {
		to  *int64
		key string
	}{
		{&c.input, "input_tokens"}, {&c.output, "output_tokens"},
		{&c.read, "cache_read_tokens"}, {&c.write, "cache_creation_tokens"},
	} {
		if v, ok := a.count(f.key); ok {
			*f.to, c.any, c.splitInput = v, true, true
		}
	}
	return c
}

// vercelSplits says whether the Vercel AI SDK's input excludes the cache. Its
// later versions state the uncached part; earlier ones hand on what the
// provider counts, and Anthropic and Bedrock count without the cache.
func vercelSplits(a attrs, provider string, c *counts) bool {
	if n, ok := a.count("ai.usage.inputTokenDetails.noCacheTokens"); ok {
		c.input = n
		return true
	}
	return provider == "anthropic" || provider == "aws.bedrock"
}

// senderCostKeys hold US dollars.
var senderCostKeys = []string{"gen_ai.usage.cost", "operation.cost", "llm.cost.total", "gen_ai.usage.total_cost"}

// maxNanoUSD bounds a stated cost at a million dollars a call: more is a
// fault. Sums stay within int64, and a float64 holds such a number exactly.
const maxNanoUSD = 1_000_000 * 1_000_000_000

// price sets the cost of a model call: what our own SDK computed, else what
// the price book says, else what the sender stated in dollars.
func (n Normaliser) price(s *record.Span, a attrs) {
	if s.Kind != record.KindModel && s.Kind != record.KindEmbedding || s.Pending {
		return
	}
	if f, ok := a.float("kaizen.cost.nano_usd"); ok && f >= 0 && f <= maxNanoUSD {
		s.CostNanoUSD, s.HasCost = int64(f), true
		s.CostTable, s.CostRule = intern(a.str("kaizen.cost.table")), intern(a.str("kaizen.cost.rule"))
		return
	}
	if s.HasUsage && n.Pricer != nil && n.priceFromBook(s) {
		return
	}
	usd, ok := a.float(senderCostKeys...)
	if !ok {
		usd, ok = a.object("langfuse.observation.cost_details").float("total")
	}
	if nano := math.Round(usd * 1e9); ok && nano >= 0 && nano <= maxNanoUSD {
		s.CostNanoUSD, s.HasCost, s.CostTable = int64(nano), true, "sender"
	}
}

// priceFromBook asks for the model that answered, then for the one asked for.
func (n Normaliser) priceFromBook(s *record.Span) bool {
	at := s.Start
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	for _, model := range []string{s.ResponseModel, s.Model} {
		if model == "" {
			continue
		}
		c, ok := n.Pricer.Cost(s.Provider, model, at, s.Usage)
		if ok && c.NanoUSD >= 0 {
			s.CostNanoUSD, s.HasCost, s.CostTable, s.CostRule = c.NanoUSD, true, intern(c.Table), intern(c.Rule)
			return true
		}
	}
	return false
}
