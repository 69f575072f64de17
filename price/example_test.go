package price_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/price"
)

var at = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ExampleBook_Cost() {
	usage := price.Usage{Input: 1000, CacheRead: 200, Output: 300}
	cost, ok := price.Default().Cost("openai", "gpt-4o", at, usage)
	fmt.Println(cost.NanoUSD, cost.Rule, ok)

	_, ok = price.Default().Cost("openai", "a model of our own", at, usage)
	fmt.Println(ok)
	// Output:
	// 5750000 openai/gpt-4o true
	// false
}

func ExampleBook_With() {
	own, err := price.Load(strings.NewReader(`{
	  "version": "example 1",
	  "providers": [{
	    "id": "example",
	    "hosts": [{"host": "llm.example.org"}],
	    "models": [{"id": "house-7b", "prices": [{"input": 0.5, "output": 1.5}]}]
	  }]
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	book := price.Default().With(own)
	provider := book.ProviderForHost("llm.example.org")
	cost, _ := book.Cost(provider, "house-7b", at, price.Usage{Input: 1000, Output: 100})
	fmt.Println(provider, cost.NanoUSD, cost.Table)
	// Output: example 650000 example 1
}
