package ollama_test

import (
	"context"
	"fmt"
	"io"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/providers/ollama"
)

// ask lets an observed agent with model answer a question.
func ask(model agent.Model) {
	ctx := context.Background()
	a, err := agent.New(agent.Config{Name: "helper", Model: model, System: "Be brief."})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := a.EnableObservability(ctx, kaizen.Config{SpoolDir: kaizen.NoSpool, LogWriter: io.Discard}); err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close(ctx)
	res, err := a.Run(ctx, "What is the capital of Peru?")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Output)
	fmt.Println(res.Usage.Total(), "tokens,", res.CostNanoUSD, "nano-dollars")
}

// models is a scripted provider in this process.
func models() *kaizentest.ModelServer {
	return kaizentest.NewModelServer(kaizentest.Script{Reply: func(kaizentest.Request) kaizentest.Reply {
		return kaizentest.Reply{Text: "Lima", Usage: price.Usage{Input: 100, Output: 20}}
	}})
}

func ExampleNew() {
	server := models()
	defer server.Close()
	model, err := ollama.New(ollama.Config{Model: "llama3.1", BaseURL: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	ask(model) // what one's own machine computes has no list price
	// Output:
	// Lima
	// 120 tokens, 0 nano-dollars
}
