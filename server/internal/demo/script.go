package demo

import (
	"encoding/json"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
	anthropicmodel "github.com/kaizen-go/kaizen/providers/anthropic"
	openaimodel "github.com/kaizen-go/kaizen/providers/openai"
)

// systems are the instructions of the agents, which real models follow as well.
var systems = map[string]string{
	"lead": "You lead a team. Ask the researcher and the analyst at once, then the writer, " +
		"then answer with the report. Use each tool once.",
	"researcher": "You find facts. Search for the topic and fetch the page named index, both at once, then answer in one sentence.",
	"analyst":    "You work with numbers. Calculate with 212, 208, 215, 221, 219, 230, 226, and run the shell command date, both at once, then answer in one sentence.",
	"writer":     "You write. Save a note with the report, then answer with two sentences.",
	"voter-1":    "You vote on questions. Answer with the one word approve.",
	"voter-2":    "You vote on questions. Answer with the one word approve.",
	"voter-3":    "You vote on questions and are hard to please. Answer with the one word reject.",
	"research":   "You say in one sentence how a task should be done.",
	"code":       "You write code. Run the tests of the package list, then answer with the code alone.",
	"review":     "You review code. Answer with one sentence.",
	"courier":    "You deliver letters.",
}

// The models of the script.
const (
	openaiName    = "gpt-5-mini"
	anthropicName = "claude-haiku-4-5"
)

// listPrices is the scripted server's own price list, in nano-dollars a token:
// 0.25, 0.025 and 2 dollars a million for the one, 1, 0.10, 1.25, 2 and 5 for
// the other. It is written out here so that the recorder's price book is
// checked against something that is not the price book.
var listPrices = map[string]kaizentest.Rates{
	openaiName:    {Input: 250, CacheRead: 25, Output: 2000, Reasoning: 2000},
	anthropicName: {Input: 1000, CacheRead: 100, CacheWrite: 1250, CacheWrite1h: 2000, Output: 5000, Reasoning: 5000},
}

// Scripted is a model server on this machine and the models that talk to it.
type Scripted struct{ *kaizentest.ModelServer }

// NewScripted starts the model server. Close it.
func NewScripted() Scripted {
	return Scripted{kaizentest.NewModelServer(kaizentest.Script{Reply: reply, Prices: listPrices})}
}

// Model implements [Models] with the official SDKs.
func (s Scripted) Model(agentName, provider string) agent.Model {
	if provider == "anthropic" {
		return anthropicmodel.New(anthropicmodel.Config{
			Model: anthropicName, APIKey: "no-key-needed", BaseURL: s.URL,
			Options: []anthropicoption.RequestOption{anthropicoption.WithHeader(kaizentest.AgentHeader, agentName)},
		})
	}
	return openaimodel.New(openaimodel.Config{
		Model: openaiName, APIKey: "no-key-needed", BaseURL: s.URL + "/v1",
		Options: []openaioption.RequestOption{openaioption.WithHeader(kaizentest.AgentHeader, agentName)},
	})
}

// Live is one real provider for all agents.
type Live struct {
	// Provider is "openai" or "anthropic"; its SDK reads the key from the
	// environment, and nothing else does.
	Provider string
}

// Model implements [Models].
func (l Live) Model(string, string) agent.Model {
	if l.Provider == "anthropic" {
		return anthropicmodel.New(anthropicmodel.Config{Model: string(anthropic.ModelClaudeHaiku4_5)})
	}
	return openaimodel.New(openaimodel.Config{Model: openaiName})
}

// turn is what an agent's model says in one turn.
type turn struct {
	text  string
	calls []kaizentest.ToolCall
	usage price.Usage
}

func call(name string, arguments any) kaizentest.ToolCall {
	raw, err := json.Marshal(arguments)
	if err != nil {
		panic(err) // the script's own literals
	}
	return kaizentest.ToolCall{Name: name, Arguments: raw}
}

func task(s string) map[string]string { return map[string]string{"task": s} }

// script is what each agent's model says, turn by turn. Usage has all classes
// of tokens that the provider knows.
var script = map[string][]turn{
	"lead": {
		{calls: []kaizentest.ToolCall{call("ask_researcher", task("Find the water level.")), call("ask_analyst", task("Work out the mean."))},
			usage: price.Usage{Input: 412, CacheRead: 1024, Output: 46, Reasoning: 128}},
		{calls: []kaizentest.ToolCall{call("ask_writer", task("Write the report: mean 218.7 cm, highest 230 cm."))},
			usage: price.Usage{Input: 603, CacheRead: 1024, Output: 31, Reasoning: 64}},
		{text: "The water level of the last week was 218.7 cm on average and 230 cm at most. Rain fell on four days.",
			usage: price.Usage{Input: 701, CacheRead: 1536, Output: 58}},
	},
	"researcher": {
		{calls: []kaizentest.ToolCall{call("search", map[string]string{"query": "water level"}), call("fetch_page", page{"index"})},
			usage: price.Usage{Input: 380, CacheWrite: 2048, Output: 73}},
		{text: "The readings were 212, 208, 215, 221, 219, 230 and 226 cm.",
			usage: price.Usage{Input: 122, CacheRead: 2048, Output: 39}},
	},
	"analyst": {
		{calls: []kaizentest.ToolCall{call("calculate", numbers{[]float64{212, 208, 215, 221, 219, 230, 226}}), call("run_shell", command{"date"})},
			usage: price.Usage{Input: 297, Output: 54, Reasoning: 192}},
		{text: "The mean is 218.7 cm; the shell was denied, so the date is not known.",
			usage: price.Usage{Input: 455, CacheRead: 256, Output: 27}},
	},
	"writer": {
		{calls: []kaizentest.ToolCall{call("save_note", note{"Water level", "Mean 218.7 cm, highest 230 cm."})},
			usage: price.Usage{Input: 510, Output: 66}},
		{text: "The water level of the last week was 218.7 cm on average. It was highest on the sixth day, at 230 cm.",
			usage: price.Usage{Input: 588, Output: 44}},
	},
	"voter-1":  {{text: "approve", usage: price.Usage{Input: 88, Output: 2, Reasoning: 64}}},
	"voter-2":  {{text: "Approve", usage: price.Usage{Input: 91, Output: 3}}},
	"voter-3":  {{text: "reject", usage: price.Usage{Input: 95, Output: 2, Reasoning: 128}}},
	"research": {{text: "Swap the ends of the list and move inwards.", usage: price.Usage{Input: 140, Output: 18}}},
	"code": {
		{calls: []kaizentest.ToolCall{call("run_tests", testRun{"list"})}, usage: price.Usage{Input: 260, Output: 22, Reasoning: 320}},
		{text: "for i, j := 0, len(l)-1; i < j; i, j = i+1, j-1 { l[i], l[j] = l[j], l[i] }", usage: price.Usage{Input: 330, Output: 61}},
	},
	"review": {{text: "It swaps in place and handles the empty list.", usage: price.Usage{Input: 210, Output: 20}}},
}

// reply answers for the agent that the request names.
func reply(r kaizentest.Request) kaizentest.Reply {
	switch {
	case r.Agent == "courier":
		return kaizentest.Reply{Status: 400, ErrorMessage: "the request was refused by the content policy"}
	case r.Agent == "analyst" && r.Turn == 0 && r.Attempt == 0:
		return kaizentest.Reply{Status: 429, RetryAfter: 20 * time.Millisecond}
	case r.Turn >= len(script[r.Agent]):
		return kaizentest.Reply{Status: 400, ErrorMessage: "the script has no turn for this request"}
	}
	t := script[r.Agent][r.Turn]
	rep := kaizentest.Reply{Text: t.text, ToolCalls: t.calls, Usage: t.usage, Delay: 15 * time.Millisecond}
	if r.Stream {
		rep.ChunkDelay = 3 * time.Millisecond
	}
	return rep
}
