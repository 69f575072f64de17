package eino_test

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/cloudwego/eino/compose"
	"github.com/cloudwego/eino/schema"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/providers/eino"
	"github.com/kaizen-go/kaizen/providers/openai"
)

// A chain with a model, observed; the model is a scripted one of this process.
func Example() {
	ctx := context.Background()
	server := kaizentest.NewModelServer(kaizentest.Script{Reply: func(kaizentest.Request) kaizentest.Reply {
		return kaizentest.Reply{Text: "Good morning!", Usage: price.Usage{Input: 1000, Output: 500}}
	}})
	defer server.Close()
	obs, err := kaizen.Start(ctx, kaizen.Config{SpoolDir: kaizen.NoSpool, LogWriter: io.Discard})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer obs.Shutdown(ctx)
	err = obs.Hooks().Register(hook.Registration{Name: "print", Timeout: time.Minute, Phases: []hook.Phase{hook.End}, Handler: hook.HandlerFunc(
		func(_ context.Context, e hook.Event) error {
			switch p := e.Payload.(type) {
			case *hook.ModelCall:
				fmt.Println(e.Run.AgentName, "asked", p.Model, "for", p.CostNanoUSD, "nano-dollars")
			case *hook.RunInfo:
				fmt.Println(e.Run.AgentName, "used", p.Usage.Total(), "tokens")
			}
			return nil
		})})
	if err != nil {
		fmt.Println(err)
		return
	}

	// Any model of eino will do. Its HTTP client should be obs.HTTPClient(nil).
	chat := &chatModel{Streamer: openai.New(openai.Config{Model: "gpt-5-mini", APIKey: "none", BaseURL: server.URL + "/v1"})}
	chain := compose.NewChain[[]*schema.Message, *schema.Message]()
	chain.AppendChatModel(chat)
	greeter, err := chain.Compile(ctx, compose.WithGraphName("greeter"))
	if err != nil {
		fmt.Println(err)
		return
	}

	h := eino.New(eino.Config{Observer: obs})
	defer h.Close(ctx)
	answer, err := greeter.Invoke(ctx, []*schema.Message{schema.UserMessage("Hello")}, compose.WithCallbacks(h))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Content)
	// Output:
	// greeter asked gpt-5-mini for 1250000 nano-dollars
	// greeter used 1500 tokens
	// Good morning!
}
