// Package price knows what a model call costs: a dated book of the providers'
// list prices, embedded in the program, that a user's own file can override.
//
//	cost, ok := price.Default().Cost("openai", "gpt-4o", time.Now(), usage)
//
// Money is counted in integers: nano-dollars (10⁻⁹ USD), computed from prices
// in nano-dollars per million tokens and rounded once, half up, for the whole
// call. A model that no rule matches has no price, which is not a price of 0.
package price

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Cost is the price of one model call.
type Cost struct {
	// NanoUSD is the cost in 10⁻⁹ US dollars.
	NanoUSD int64
	// Table is the version of the table that had the price.
	Table string
	// Rule is the provider and model of that table's rule: "openai/gpt-4o".
	// The provider can be another than was asked for: Azure sells OpenAI's models.
	Rule string
}

// Book is a price book: one table, or several of which the first that knows a
// model decides. It does not change and is safe for concurrent use.
type Book struct {
	tables []*table

	// mu guards found, the rules that models were found to have. Matching a
	// name against a provider's hundreds of rules costs microseconds, and a
	// program uses few models.
	mu    sync.RWMutex
	found map[modelKey]*rule
}

type modelKey struct{ provider, model string }

// maxFound bounds Book.found: names come from outside.
const maxFound = 4096

// rule is a model's entry, with what a [Cost] says about its origin.
type rule struct {
	table  string
	id     string
	prices []datedRates
}

//go:embed prices.json.gz
var embedded []byte

var defaultBook = sync.OnceValue(func() *Book {
	b, err := loadEmbedded(embedded)
	if err != nil {
		panic(err) // the file is part of the program, and a test loads it
	}
	return b
})

func loadEmbedded(packed []byte) (*Book, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("price: open the embedded book: %w", err)
	}
	return Load(r)
}

// Default returns the embedded book. It is parsed at the first call.
//
// Its data are those of the genai-prices project (MIT licence, see NOTICE):
// list prices in US dollars, without discounts, taxes or committed use.
func Default() *Book { return defaultBook() }

// With returns a book that asks override first, and b for the models that
// override does not know. A nil override adds nothing.
func (b *Book) With(override *Book) *Book {
	if override == nil {
		return b
	}
	tables := append([]*table(nil), override.tables...)
	return newBook(append(tables, b.tables...))
}

func newBook(tables []*table) *Book {
	return &Book{tables: tables, found: map[modelKey]*rule{}}
}

// Version returns the versions of the book's tables, joined by ", ".
func (b *Book) Version() string {
	var vs []string
	for _, t := range b.tables {
		vs = append(vs, t.version)
	}
	return strings.Join(vs, ", ")
}

// Cost returns what usage u of model costs when the call was made at the given
// time, and false when that is unknown: no rule matches, the price of a class
// of tokens that u has is not to be had, or u has a negative count.
//
// Provider is a name of the GenAI conventions (openai, aws.bedrock, …) or of
// the table, in any case; if it is empty, the model's name decides. A date
// written as -20250929 in a model's name is tried as -2025-09-29 too.
//
//	cost = (Input·input + CacheRead·cache_read + (CacheWrite-CacheWrite1h)·cache_write +
//	        CacheWrite1h·cache_write_1h + Output·output + Reasoning·reasoning) / 10⁶ + request / 10³
//
// with prices in USD per million tokens (request: per thousand calls). Where
// the table has no price for a class, cache_read and cache_write are charged
// as input, cache_write_1h as cache_write, reasoning as output. Prices in tiers
// go by the prompt: the tier of Input+CacheRead+CacheWrite, which must exceed
// its start, holds for all tokens of the call.
//
// Tokens of audio, image and video count as text, and what is sold by other
// units (searches, pages, hours) is not in a [Usage], so not in its cost.
func (b *Book) Cost(provider, model string, at time.Time, u Usage) (Cost, bool) {
	r := b.rule(provider, model)
	if r == nil || len(r.prices) == 0 {
		return Cost{}, false
	}
	nano, ok := ratesAt(r.prices, at).cost(u)
	if !ok {
		return Cost{}, false
	}
	return Cost{NanoUSD: nano, Table: r.table, Rule: r.id}, true
}

// ProviderForHost returns the GenAI convention's name of the provider that
// answers at host (a name, with or without a port), or "" if it is unknown.
func (b *Book) ProviderForHost(host string) string {
	host = bareHost(host)
	for _, t := range b.tables {
		for _, p := range t.providers {
			if name, ok := p.serves(host); ok {
				return name
			}
		}
	}
	return ""
}

// rule returns the rule of a model, nil if there is none.
func (b *Book) rule(provider, model string) *rule {
	key := modelKey{strings.ToLower(strings.TrimSpace(provider)), strings.ToLower(strings.TrimSpace(model))}
	b.mu.RLock()
	r, ok := b.found[key]
	b.mu.RUnlock()
	if ok {
		return r
	}
	r = b.search(key.provider, key.model)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.found) < maxFound {
		// A key can be part of a long-lived request body: keep copies.
		b.found[modelKey{strings.Clone(key.provider), strings.Clone(key.model)}] = r
	}
	return r
}

func (b *Book) search(provider, model string) *rule {
	if model == "" {
		return nil
	}
	// LiteLLM names the provider in the model: openai/gpt-4o.
	if p, m, ok := strings.Cut(model, "/"); ok && provider == "litellm" && p != "" && m != "" {
		provider, model = p, m
	}
	names := b.providerNames(provider, model)
	for _, t := range b.tables {
		if r := t.find(names, model); r != nil {
			return r
		}
	}
	return nil
}

// providerNames returns the name that was asked for and what each table calls
// that provider, so that a user's table need not repeat the aliases.
func (b *Book) providerNames(provider, model string) []string {
	names := []string{provider}
	for _, t := range b.tables {
		if p := t.provider(provider, model); p != nil {
			names = append(names, p.id)
		}
	}
	return names
}
