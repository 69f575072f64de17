package price

// Usage counts the tokens of one model call in disjoint buckets: adding them
// all gives every token once. Providers and conventions count differently
// (OpenAI's prompt_tokens include the cached ones, Anthropic's input_tokens do
// not); whoever fills a Usage has to take that apart. The zero value is a call
// that used nothing; whether usage is known at all is said beside it.
type Usage struct {
	// Input counts prompt tokens that were neither read from nor written to a cache.
	Input int64 `json:"input"`
	// CacheRead counts prompt tokens served from the provider's cache.
	CacheRead int64 `json:"cache_read"`
	// CacheWrite counts prompt tokens written to the cache, of any lifetime.
	CacheWrite int64 `json:"cache_write"`
	// CacheWrite1h is the part of CacheWrite with a lifetime of an hour, which
	// some providers charge more for. It is not a bucket of its own.
	CacheWrite1h int64 `json:"cache_write_1h,omitempty"`
	// Output counts generated tokens without reasoning.
	Output int64 `json:"output"`
	// Reasoning counts generated tokens that the caller does not see.
	Reasoning int64 `json:"reasoning"`
}

// Add returns the sum of u and v, bucket by bucket.
func (u Usage) Add(v Usage) Usage {
	u.Input += v.Input
	u.CacheRead += v.CacheRead
	u.CacheWrite += v.CacheWrite
	u.CacheWrite1h += v.CacheWrite1h
	u.Output += v.Output
	u.Reasoning += v.Reasoning
	return u
}

// Total returns all tokens of u.
func (u Usage) Total() int64 {
	return u.Input + u.CacheRead + u.CacheWrite + u.Output + u.Reasoning
}
