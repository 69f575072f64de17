package kaizentest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
)

func ExampleNewModelServer() {
	server := kaizentest.NewModelServer(kaizentest.Script{
		Prices: map[string]kaizentest.Rates{"gpt-4o": {Input: 2500, Output: 10_000}},
		Reply: func(r kaizentest.Request) kaizentest.Reply {
			return kaizentest.Reply{Text: "You said: " + r.Messages[0].Text, Usage: price.Usage{Input: 8, Output: 4}}
		},
	})
	defer server.Close()

	// In a test, this is the official client with server.URL + "/v1" as its base URL.
	resp, err := http.Post(server.URL+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(strings.Contains(string(body), "You said: hello"), err)

	bill := server.Bill()
	fmt.Println(bill.Calls, bill.Usage.Input, bill.NanoUSD)
	// Output:
	// true <nil>
	// 1 8 60000
}
