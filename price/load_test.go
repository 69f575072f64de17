package price

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"
)

// withModel is a book with one model whose JSON, but for the id, is given.
func withModel(body string) string {
	return `{"version":"v","providers":[{"id":"p","models":[{"id":"m",` + body + `}]}]}`
}

func TestLoadErrors(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", ``, "price: load book: EOF"},
		{"not JSON", `{]`, "price: load book: invalid character"},
		{"trailing data", `{"version":"v","providers":[]} x`, "more data after the JSON value"},
		{"unknown field", `{"version":"v","provider":[]}`, `unknown field "provider"`},
		{"no version", `{"providers":[]}`, "version is missing"},
		{"no provider id", `{"version":"v","providers":[{}]}`, "providers[0]: id is missing"},
		{"no model id", `{"version":"v","providers":[{"id":"p","models":[{}]}]}`, `provider "p": models[0]: id is missing`},
		{"same name twice", `{"version":"v","providers":[{"id":"p"},{"id":"q","aliases":["P"]}]}`, `provider "q": "p" is a name of provider "p" too`},
		{"resells nobody", `{"version":"v","providers":[{"id":"p","resells":["q"]}]}`, `resells "q", which is not in this file`},
		{"no prices", withModel(`"match":{"equals":"x"}`), `provider "p": model "m": prices are missing`},
		{"empty price", withModel(`"prices":[{}]`), `model "m": prices[0]: no price in it`},
		{"first has a date", withModel(`"prices":[{"from":"2026-01-01","input":1}]`), "prices[0]: the first price holds always"},
		{"bad date", withModel(`"prices":[{"input":1},{"from":"soon","input":1}]`), `prices[1]: from "soon"`},
		{"bad window", withModel(`"prices":[{"input":1},{"daily":["25:00:00","01:00:00"],"input":1}]`), `daily "25:00:00"`},
		{"half a window", withModel(`"prices":[{"input":1},{"daily":["01:00:00"],"input":1}]`), "daily: want two times"},
		{"negative", withModel(`"prices":[{"input":-1}]`), "prices[0]: input: price -1 is negative"},
		{"exponent", withModel(`"prices":[{"output":1e3}]`), "output: price 1e3 has an exponent"},
		{"too fine", withModel(`"prices":[{"input":0.1234567891}]`), "more than 9 digits"},
		{"too dear", withModel(`"prices":[{"input":1000000000}]`), "not below"},
		{"text", withModel(`"prices":[{"input":"cheap"}]`), "invalid number literal"},
		{"tier falls", withModel(`"prices":[{"input":{"base":1,"tiers":[{"start":5,"price":1},{"start":5,"price":2}]}}]`), "tiers[1]: start 5 does not rise"},
		{"tier unknown field", withModel(`"prices":[{"input":{"base":1,"upto":3}}]`), `unknown field "upto"`},
		{"tier without base", withModel(`"prices":[{"input":{"tiers":[]}}]`), "is not a decimal number"},
		{"two rules in one", withModel(`"match":{"equals":"a","contains":"b"},"prices":[]`), "exactly one of"},
		{"no rule", withModel(`"match":{},"prices":[]`), "exactly one of"},
		{"look-ahead", withModel(`"match":{"regex":"^(?!x)"},"prices":[]`), "error parsing regexp"},
		{"bad rule in not", withModel(`"match":{"not":{"or":[{"regex":"("}]}},"prices":[]`), "error parsing regexp"},
		{"host with port", `{"version":"v","providers":[{"id":"p","hosts":[{"host":"a:80"}]}]}`, `hosts[0]: host "a:80"`},
		{"host and regex", `{"version":"v","providers":[{"id":"p","hosts":[{"host":"a","regex":"b"}]}]}`, "want one of host and regex"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(strings.NewReader(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Load = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestLoadTooLong(t *testing.T) {
	_, err := Load(strings.NewReader(strings.Repeat(" ", maxFileBytes+1)))
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Fatalf("Load = %v, want an error about the length", err)
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		rule    string
		yes, no []string
	}{
		{`{"equals":"A-1"}`, []string{"a-1"}, []string{"a-11", "xa-1"}},
		{`{"starts_with":"A"}`, []string{"a", "ab"}, []string{"ba"}},
		{`{"ends_with":"Z"}`, []string{"z", "yz"}, []string{"zy"}},
		{`{"contains":"mid"}`, []string{"mid", "amidst"}, []string{"mi-d"}},
		{`{"regex":"^a\\d+$"}`, []string{"a1", "a22"}, []string{"a", "ba1"}},
		{`{"or":[{"equals":"a"},{"equals":"b"}]}`, []string{"a", "b"}, []string{"c"}},
		{`{"and":[{"starts_with":"a"},{"not":{"contains":"x"}}]}`, []string{"ab"}, []string{"ax", "b"}},
	}
	for _, tt := range tests {
		b, err := Load(strings.NewReader(withModel(`"match":` + tt.rule + `,"prices":[{"input":1}]`)))
		if err != nil {
			t.Fatal(err)
		}
		for _, model := range tt.yes {
			if _, ok := b.Cost("p", strings.ToUpper(model), november, Usage{}); !ok {
				t.Errorf("%s does not match %q", tt.rule, model)
			}
		}
		for _, model := range tt.no {
			if _, ok := b.Cost("p", model, november, Usage{}); ok {
				t.Errorf("%s matches %q", tt.rule, model)
			}
		}
	}
}

func TestFirstMatchAndFallbacks(t *testing.T) {
	b, err := Load(strings.NewReader(`{"version":"v","providers":[{"id":"p","models":[
		{"id":"special","match":{"equals":"m-x"},"prices":[{"output":7}]},
		{"id":"unsold","match":{"equals":"m-y"},"prices":[]},
		{"id":"rest","match":{"starts_with":"m-"},"prices":[{"input":3,"output":7},{"daily":["22:00:00","06:00:00"],"input":1,"output":1}]}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	noon, night := november, day("2026-11-22T23:30:00Z")
	tests := []struct {
		name, model string
		at          time.Time
		u           Usage
		want        int64
		ok          bool
	}{
		{"all classes fall back", "m-z", noon, Usage{Input: 1, CacheRead: 1, CacheWrite: 2, CacheWrite1h: 1, Output: 1, Reasoning: 1}, 4*3000 + 2*7000, true},
		{"past midnight", "m-z", night, Usage{Input: 1}, 1000, true},
		{"before dawn", "m-z", day("2026-11-22T05:59:59.9Z"), Usage{Input: 1}, 1000, true},
		{"dawn", "m-z", day("2026-11-22T06:00:00Z"), Usage{Input: 1}, 3000, true},
		{"the first rule decides", "m-x", noon, Usage{Output: 1}, 7000, true},
		{"though it lacks the class", "m-x", noon, Usage{Input: 1}, 0, false},
		{"though it has no price", "m-y", noon, Usage{}, 0, false},
		{"date with dashes", "m-20260101", noon, Usage{Input: 2}, 6000, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := b.Cost("p", tt.model, tt.at, tt.u); ok != tt.ok || got.NanoUSD != tt.want {
				t.Errorf("Cost = %d, %v, want %d, %v", got.NanoUSD, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestDashDates(t *testing.T) {
	for in, want := range map[string]string{
		"m-20250929":          "m-2025-09-29",
		"m-20250929-v1":       "m-2025-09-29-v1",
		"m-20250929:0":        "m-2025-09-29:0",
		"m-20250929x":         "m-20250929x",
		"m-20251345":          "m-20251345",
		"m-20250230":          "m-20250230",
		"m-202509290":         "m-202509290",
		"a-20240101-20250102": "a-2024-01-01-2025-01-02",
	} {
		if got := dashDates(in); got != want {
			t.Errorf("dashDates(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzLoad checks each price of an accepted book against exact rational
// arithmetic on the numbers as they stand in the file.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(withModel(`"prices":[{"input":2.5,"cache_read":0.003625,"output":10}]`)), uint32(17))
	f.Add([]byte(withModel(`"match":{"or":[{"equals":"m"},{"regex":"x+"}]},"prices":[{"input":{"base":3,"tiers":[{"start":200000,"price":6}]},"reasoning":0.000000001},{"from":"2026-01-01","input":999999999}]`)), uint32(1<<31))
	f.Add([]byte(withModel(`"prices":[]`)), uint32(0))
	f.Add([]byte(`{"version":"v","providers":[{"id":"p","name":"P","hosts":[{"host":"*.a.b"}],"owns":{"not":{"contains":"/"}}}]}`), uint32(1))
	f.Fuzz(func(t *testing.T, in []byte, n uint32) {
		b, err := Load(strings.NewReader(string(in)))
		if err != nil {
			if b != nil || !strings.HasPrefix(err.Error(), "price: load book: ") {
				t.Fatalf("Load = %v, %v", b, err)
			}
			return
		}
		var file bookFile
		if err := json.Unmarshal(in, &file); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		for _, p := range file.Providers {
			// Names may repeat and rules overlap: ask only for a first model by its id.
			if len(p.Models) == 0 || p.Models[0].Match != nil || len(p.Models[0].Prices) != 1 {
				continue
			}
			m := p.Models[0]
			want, sold := exact(m.Prices[0].Input, int64(n))
			if m.Prices[0].Request != nil || strings.TrimSpace(m.ID) != m.ID || strings.TrimSpace(p.ID) != p.ID || strings.ToLower(p.ID) == "litellm" {
				continue
			}
			got, ok := b.Cost(p.ID, m.ID, november, Usage{Input: int64(n)})
			if ok != (sold || n == 0) || ok && got.NanoUSD != want {
				t.Fatalf("Cost(%q, %q, %d) = %+v, %v, want %d, %v", p.ID, m.ID, n, got, ok, want, sold)
			}
		}
	})
}

// exact returns n tokens' price in nano-dollars, rounded half up.
func exact(p *tieredFile, n int64) (int64, bool) {
	if p == nil {
		return 0, false
	}
	text := p.Base.String()
	for _, tr := range p.Tiers {
		if n > tr.Start {
			text = tr.Price.String()
		}
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, false
	}
	r.Mul(r, big.NewRat(n*1000, 1))
	r.Add(r, big.NewRat(1, 2))
	q := new(big.Int).Quo(r.Num(), r.Denom())
	return q.Int64(), q.IsInt64()
}
