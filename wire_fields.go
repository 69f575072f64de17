package kaizen

import (
	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
)

// This file says which fields the log line and the audit entry of each kind of
// event have, as pairs of name and value. They describe what was done, not what
// was said: arguments and results stand there only when content is recorded.

func runFields(w *wire, e *hook.Event) []any {
	p := e.Payload.(*hook.RunInfo)
	f := []any{"agent", e.Run.AgentName}
	if e.Run.ParentRunID != "" {
		f = append(f, "parent_run_id", e.Run.ParentRunID)
	}
	if e.Phase == hook.End {
		f = append(f, "iterations", p.Iterations, "stop_reason", p.StopReason, "tokens", p.Usage.Total(), "cost_nano_usd", p.CostNanoUSD)
		if p.ResumedFrom != "" {
			f = append(f, "resumed_from", p.ResumedFrom)
		}
	}
	return f
}

func iterationFields(_ *wire, e *hook.Event) []any {
	return []any{"iteration", e.Payload.(*hook.Iteration).Number}
}

func planFields(_ *wire, e *hook.Event) []any {
	return []any{"steps", e.Payload.(*hook.Plan).Steps}
}

func modelFields(_ *wire, e *hook.Event) []any {
	p := e.Payload.(*hook.ModelCall)
	f := make([]any, 0, 24)
	f = append(f, "provider", p.Provider, "model", p.Model, "operation", p.Operation)
	if p.ResponseModel != "" && p.ResponseModel != p.Model {
		f = append(f, "response_model", p.ResponseModel)
	}
	if p.ResponseID != "" {
		f = append(f, "response_id", p.ResponseID)
	}
	if p.HasUsage {
		u := p.Usage
		f = append(f, "input_tokens", u.Input, "cache_read_tokens", u.CacheRead, "cache_write_tokens", u.CacheWrite,
			"output_tokens", u.Output, "reasoning_tokens", u.Reasoning)
	}
	if p.Priced {
		f = append(f, "cost_nano_usd", p.CostNanoUSD)
	}
	if p.Attempts > 1 {
		f = append(f, "attempts", p.Attempts)
	}
	if p.Partial {
		f = append(f, "partial", true)
	}
	return f
}

func toolFields(w *wire, e *hook.Event) []any {
	p := e.Payload.(*hook.Tool)
	f := []any{"tool", p.Name}
	if p.CallID != "" {
		f = append(f, "call_id", p.CallID)
	}
	for _, kv := range w.addContent(w.addContent(nil, genai.ToolArguments, p.Arguments), genai.ToolResult, p.Result) {
		name := "arguments"
		if kv.Key == genai.ToolResult {
			name = "result_text"
		}
		f = append(f, name, clip(kv.Value.AsString()))
	}
	return f
}

// clip keeps an audit entry or a log line to a size that both can hold: the
// whole text is on the span.
func clip(s string) string {
	const most = 4 << 10
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xC0 == 0x80 { // not in the middle of a character
		cut--
	}
	return s[:cut] + "…"
}

func memoryFields(_ *wire, e *hook.Event) []any {
	if p, ok := e.Payload.(*hook.MemoryLoad); ok {
		return []any{"store", p.Store, "records", p.Records}
	}
	p := e.Payload.(*hook.MemorySave)
	return []any{"store", p.Store, "records", p.Records}
}

func checkpointFields(_ *wire, e *hook.Event) []any {
	id, step, size := checkpoint(e)
	return []any{"checkpoint_id", id, "step", step, "size_bytes", size}
}

func permissionFields(w *wire, e *hook.Event) []any {
	p := e.Payload.(*hook.Permission)
	return []any{"action", p.Action, "decision", p.Decision, "by", p.By, "reason", w.redact.String(p.Reason)}
}

func interruptFields(w *wire, e *hook.Event) []any {
	p := e.Payload.(*hook.Interrupt)
	return []any{"mode", p.Mode, "source", p.Source, "reason", w.redact.String(p.Reason)}
}

func specialistFields(_ *wire, e *hook.Event) []any {
	p := e.Payload.(*hook.Specialist)
	return []any{"specialist", p.Agent, "pattern", p.Pattern}
}

func handoffFields(w *wire, e *hook.Event) []any {
	p := e.Payload.(*hook.Handoff)
	return []any{"from", p.From, "to", p.To, "reason", w.redact.String(p.Reason)}
}

func errorFields(_ *wire, e *hook.Event) []any {
	return []any{"where", e.Payload.(*hook.ErrorInfo).Where}
}

func guardFields(w *wire, e *hook.Event) []any {
	p := e.Payload.(*hook.Guard)
	return []any{"guard", p.Guard, "action", p.Action, "reason", w.redact.String(p.Reason)}
}
