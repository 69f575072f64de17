package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/hook"
)

// ask makes one observed call of the model, if the budget allows it.
func (a *Agent) ask(ctx context.Context, t *task, req Request, stream bool) (*Response, error) {
	if err := t.afford(ctx); err != nil {
		return nil, err
	}
	res, start := t.res, time.Now()
	model := a.cfg.Model.Info()
	streamer, _ := a.cfg.Model.(Streamer)
	stream = stream && streamer != nil
	call := &hook.ModelCall{
		Operation: "chat", Provider: model.Provider, Model: model.Name, Stream: stream,
		MaxTokens: req.MaxTokens, Temperature: req.Temperature,
	}
	var resp *Response
	var made *hook.Op
	err := hook.From(ctx).Do(ctx, call, func(ctx context.Context, op *hook.Op) (err error) {
		made = op
		if stream {
			resp, err = streamer.Stream(ctx, req, a.onChunk())
		} else {
			resp, err = a.cfg.Model.Generate(ctx, req)
		}
		op.Update(func(hook.Payload) { fill(call, resp) })
		return err
	})
	if made != nil {
		made.Update(func(hook.Payload) {
			res.ModelCalls++
			res.Usage = res.Usage.Add(call.Usage)
			res.CostNanoUSD += call.CostNanoUSD
			t.meter.charge(call, start, err)
		})
	}
	return resp, err
}

func (a *Agent) onChunk() func(Chunk) error {
	if a.cfg.OnChunk != nil {
		return a.cfg.OnChunk
	}
	return func(Chunk) error { return nil }
}

// fill adds what the response says to what the transport has seen on the wire,
// which knows more and is left as it is.
func fill(call *hook.ModelCall, resp *Response) {
	if resp == nil {
		return
	}
	if call.ResponseModel == "" {
		call.ResponseModel = resp.Model
	}
	if call.ResponseID == "" {
		call.ResponseID = resp.ID
	}
	if len(call.FinishReasons) == 0 && resp.FinishReason != "" {
		call.FinishReasons = []string{resp.FinishReason}
	}
	if !call.HasUsage && resp.HasUsage {
		call.Usage, call.HasUsage = resp.Usage, true
	}
	if call.ToolCalls == 0 {
		call.ToolCalls = len(resp.Message.ToolCalls)
	}
}

// callTools carries out calls at once and returns their results in the order
// of the calls. It notes in t which were cut off.
func (a *Agent) callTools(ctx context.Context, calls []ToolCall, t *task) []ToolResult {
	results, cut := make([]ToolResult, len(calls)), make([]bool, len(calls))
	nested := &tally{res: t.res}
	inner := context.WithValue(ctx, tallyKey{}, nested)
	var wg sync.WaitGroup
	for i, c := range calls {
		wg.Go(func() {
			results[i] = a.callTool(inner, c)
			cut[i] = results[i].IsError && ctx.Err() != nil
		})
	}
	wg.Wait()
	t.cut = nil
	for i, c := range calls {
		if cut[i] {
			if t.cut == nil {
				t.cut = make(map[string]bool)
			}
			t.cut[c.ID] = true
		}
	}
	return results
}

// callTool makes one observed call of a tool. What goes wrong is an answer to
// the model, not the end of the run.
func (a *Agent) callTool(ctx context.Context, c ToolCall) (result ToolResult) {
	result = ToolResult{ID: c.ID, Name: c.Name}
	tool := a.tools[c.Name]
	payload := hook.Tool{Name: c.Name, CallID: c.ID, Type: "function", Arguments: string(c.Arguments)}
	if tool != nil {
		payload.Description = tool.Description
	}
	defer func() {
		if v := recover(); v != nil { // the panic is recorded; the agent goes on
			result.Text, result.IsError = fmt.Sprintf("the tool failed: %v", v), true
		}
	}()
	err := hook.Do(ctx, hook.From(ctx), payload, func(ctx context.Context, op *hook.Op) error {
		out, err := a.carryOut(ctx, tool, c)
		op.Update(func(p hook.Payload) { p.(*hook.Tool).Result = out })
		result.Text = out
		return err
	})
	if err != nil {
		result.Text, result.IsError = err.Error(), true
	}
	return result
}

func (a *Agent) carryOut(ctx context.Context, tool *boundTool, c ToolCall) (string, error) {
	if tool == nil {
		return "", fmt.Errorf("no tool is named %s", c.Name)
	}
	if err := tool.validate(c.Arguments); err != nil {
		return "", err
	}
	if err := a.permit(ctx, c); err != nil {
		return "", err
	}
	return tool.Call(ctx, c.Arguments)
}
