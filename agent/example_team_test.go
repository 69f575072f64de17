package agent_test

import (
	"context"
	"fmt"

	"github.com/kaizen-go/kaizen/agent"
)

func exampleAgent(name string, turns ...func(agent.Request) (*agent.Response, error)) *agent.Agent {
	a, err := agent.New(agent.Config{Name: name, Model: &scripted{turns: turns}})
	if err != nil {
		panic(err)
	}
	return a
}

func ExampleNewConsensus() {
	jury, err := agent.NewConsensus("jury", 2, exampleAgent("a", says("yes")), exampleAgent("b", says("no")), exampleAgent("c", says("yes")))
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := jury.Run(context.Background(), "Shall we?")
	fmt.Println(res.Output, err)
	// Output: yes <nil>
}

func ExampleNewChain() {
	chain, err := agent.NewChain("delivery", exampleAgent("write", says("a draft")), exampleAgent("review", says("a reviewed draft")))
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := chain.Run(context.Background(), "Write something.")
	fmt.Println(res.Output, err)
	// Output: a reviewed draft <nil>
}

func ExampleAsTool() {
	worker := exampleAgent("worker", says("42"))
	lead, err := agent.New(agent.Config{
		Name: "lead", Tools: []agent.Tool{agent.AsTool(worker, "Works things out.")},
		Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(call("1", "ask_worker", `{"task":"6 times 7"}`)), says("It is 42.")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := lead.Run(context.Background(), "What is 6 times 7?")
	fmt.Println(res.Output, err)
	// Output: It is 42. <nil>
}
