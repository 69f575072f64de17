package langchaingo_test

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tmc/langchaingo/chains"
	lcopenai "github.com/tmc/langchaingo/llms/openai"
	"github.com/tmc/langchaingo/prompts"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/providers/langchaingo"
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

	h := langchaingo.New(langchaingo.Config{Observer: obs, Agent: "greeter"})
	defer h.Close()
	llm, err := lcopenai.New(lcopenai.WithToken("none"), lcopenai.WithModel("gpt-5-mini"), lcopenai.WithBaseURL(server.URL+"/v1"),
		lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(nil)))
	if err != nil {
		fmt.Println(err)
		return
	}
	chain := chains.NewLLMChain(llm, prompts.NewPromptTemplate("Greet {{.whom}}.", []string{"whom"}), chains.WithCallback(h))
	answer, err := chains.Run(ctx, chain, "the guests")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer)
	// Output:
	// greeter asked gpt-5-mini for 1250000 nano-dollars
	// greeter used 1500 tokens
	// Good morning!
}
