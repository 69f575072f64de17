package kaizen

import (
	"context"
	"sync"

	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// This file says how the span of each kind of event is named and what it
// carries at its start and its end. Names and attributes are the GenAI
// conventions'; ours begin with "kaizen.".

// rooms are used for one span after the other.
var rooms = sync.Pool{New: func() any { return new(genai.Room) }}

// room returns room for a start or an end; nil if the provider of spans might
// keep what stands in it.
func (w *wire) room() *genai.Room {
	if !w.tracer.Copies() {
		return nil
	}
	return rooms.Get().(*genai.Room)
}

// reuse puts room back in which kvs stand.
func (w *wire) reuse(room *genai.Room, kvs []attribute.KeyValue) {
	if room != nil {
		room.Forget(kvs)
		rooms.Put(room)
	}
}

// spanKind is the value of kaizen.kind, where memory and checkpoints are one each.
func spanKind(k hook.Kind) string {
	switch k {
	case hook.KindMemoryLoad, hook.KindMemorySave:
		return "memory"
	case hook.KindCheckpointSave, hook.KindCheckpointLoad:
		return "checkpoint"
	}
	return k.String()
}

func runSpan(w *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	op := genai.Operation{Name: w.names.of(genai.InvokeAgent, e.Run.AgentName)}
	op.Attributes = append(kvs, genai.OperationName.String(genai.InvokeAgent))
	op.Attributes = w.addContent(op.Attributes, genai.Input, e.Payload.(*hook.RunInfo).Input)
	return op
}

func runResult(w *wire, e *hook.Event, kvs []attribute.KeyValue) []attribute.KeyValue {
	p := e.Payload.(*hook.RunInfo)
	kvs = append(kvs, genai.Iterations.Int(p.Iterations))
	if p.StopReason != "" {
		kvs = append(kvs, genai.StopReason.String(p.StopReason))
	}
	if p.ResumedFrom != "" {
		kvs = append(kvs, genai.ResumedFrom.String(p.ResumedFrom))
	}
	return w.addContent(kvs, genai.Output, p.Output)
}

func iterationSpan(_ *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	return genai.Operation{Name: "iteration", Attributes: append(kvs,
		genai.Iteration.Int(e.Payload.(*hook.Iteration).Number))}
}

func planSpan(_ *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	return genai.Operation{
		Name:       genai.SpanName(genai.PlanOp, e.Run.AgentName),
		Attributes: append(kvs, genai.OperationName.String(genai.PlanOp)),
	}
}

func planResult(_ *wire, e *hook.Event, kvs []attribute.KeyValue) []attribute.KeyValue {
	return append(kvs, genai.PlanSteps.Int(e.Payload.(*hook.Plan).Steps))
}

func modelSpan(w *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	p := e.Payload.(*hook.ModelCall)
	kvs = append(kvs,
		genai.OperationName.String(p.Operation),
		genai.ProviderName.String(p.Provider),
		genai.RequestModel.String(p.Model))
	if p.Stream {
		kvs = append(kvs, genai.RequestStream.Bool(true))
	}
	if p.MaxTokens > 0 {
		kvs = append(kvs, genai.RequestMaxTokens.Int(p.MaxTokens))
	}
	if p.Temperature != nil {
		kvs = append(kvs, genai.RequestTemp.Float64(*p.Temperature))
	}
	return genai.Operation{Name: w.names.of(p.Operation, p.Model), Kind: trace.SpanKindClient, Attributes: kvs}
}

func modelResult(w *wire, e *hook.Event, kvs []attribute.KeyValue) []attribute.KeyValue {
	p := e.Payload.(*hook.ModelCall)
	for _, s := range [...]struct {
		key   attribute.Key
		value string
	}{
		{genai.ResponseModel, p.ResponseModel}, {genai.ResponseID, p.ResponseID}, {genai.RequestID, p.RequestID},
		{genai.ServiceTier, p.ServiceTier}, {genai.ServerAddress, p.ServerAddress},
	} {
		if s.value != "" {
			kvs = append(kvs, s.key.String(s.value))
		}
	}
	if p.ServerPort != 0 {
		kvs = append(kvs, genai.ServerPort.Int(p.ServerPort))
	}
	if len(p.FinishReasons) > 0 {
		kvs = append(kvs, genai.FinishReasons.StringSlice(p.FinishReasons))
	}
	if p.FirstChunk > 0 {
		kvs = append(kvs, genai.FirstChunk.Float64(p.FirstChunk.Seconds()))
	}
	if p.HTTPStatus != 0 {
		kvs = append(kvs, genai.HTTPStatus.Int(p.HTTPStatus))
	}
	if p.Attempts > 1 {
		kvs = append(kvs, genai.Attempts.Int(p.Attempts), genai.ResendCount.Int(p.Attempts-1))
	}
	if p.Partial {
		kvs = append(kvs, genai.Partial.Bool(true))
	}
	kvs = appendUsage(kvs, p)
	kvs = appendCost(kvs, p, e.Status)
	kvs = w.addContent(kvs, genai.SystemInstr, string(p.System))
	kvs = w.addContent(kvs, genai.InputMessages, string(p.Input))
	return w.addContent(kvs, genai.OutputMessages, string(p.Output))
}

// attempt notes on the span of a call that one of several attempts has failed.
func (w *wire) attempt(ctx context.Context, h *heldCall) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	kvs := make([]attribute.KeyValue, 0, 4)
	kvs = append(kvs, genai.ResendCount.Int(h.attempt))
	if h.failed.StatusCode != 0 {
		kvs = append(kvs, genai.HTTPStatus.Int(h.failed.StatusCode))
	}
	if h.failed.ErrorType != "" {
		kvs = append(kvs, genai.ErrorType.String(h.failed.ErrorType))
	}
	if h.failed.RetryAfter > 0 {
		kvs = append(kvs, genai.RetryAfter.Float64(h.failed.RetryAfter.Seconds()))
	}
	span.AddEvent(genai.AttemptEvent, trace.WithTimestamp(h.at), trace.WithAttributes(kvs...))
}

// appendUsage puts the disjoint buckets back together as the conventions
// count: input includes the cache, output includes reasoning.
func appendUsage(kvs []attribute.KeyValue, p *hook.ModelCall) []attribute.KeyValue {
	if !p.HasUsage {
		return kvs
	}
	u := p.Usage
	return append(kvs,
		genai.InputTokens.Int64(u.Input+u.CacheRead+u.CacheWrite),
		genai.OutputTokens.Int64(u.Output+u.Reasoning),
		genai.CacheReadTokens.Int64(u.CacheRead),
		genai.CacheWriteTokens.Int64(u.CacheWrite),
		genai.ReasoningTokens.Int64(u.Reasoning))
}

func appendCost(kvs []attribute.KeyValue, p *hook.ModelCall, status hook.Status) []attribute.KeyValue {
	if p.Priced {
		return append(kvs,
			genai.CostNanoUSD.Int64(p.CostNanoUSD), genai.CostTable.String(p.PriceTable), genai.CostRule.String(p.PriceRule))
	}
	if unpriced(p, status) {
		return append(kvs, genai.CostUnpriced.Bool(true))
	}
	return kvs
}

func toolSpan(w *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	p := e.Payload.(*hook.Tool)
	kvs = append(kvs, genai.OperationName.String(genai.ExecuteTool), genai.ToolName.String(p.Name))
	if p.CallID != "" {
		kvs = append(kvs, genai.ToolCallID.String(p.CallID))
	}
	if p.Description != "" {
		kvs = append(kvs, genai.ToolDescription.String(p.Description))
	}
	if p.Type != "" {
		kvs = append(kvs, genai.ToolType.String(p.Type))
	}
	kvs = w.addContent(kvs, genai.ToolArguments, p.Arguments)
	return genai.Operation{Name: w.names.of(genai.ExecuteTool, p.Name), Attributes: kvs}
}

func toolResult(w *wire, e *hook.Event, kvs []attribute.KeyValue) []attribute.KeyValue {
	return w.addContent(kvs, genai.ToolResult, e.Payload.(*hook.Tool).Result)
}

func memoryLoadSpan(_ *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	return memorySpan(kvs, genai.SearchMemory, "load", e.Payload.(*hook.MemoryLoad).Store)
}

func memorySaveSpan(_ *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	p := e.Payload.(*hook.MemorySave)
	op := memorySpan(kvs, genai.UpdateMemory, "save", p.Store)
	op.Attributes = append(op.Attributes, genai.MemoryRecords.Int(p.Records))
	return op
}

func memorySpan(kvs []attribute.KeyValue, operation, action, store string) genai.Operation {
	return genai.Operation{Name: operation, Kind: trace.SpanKindClient, Attributes: append(kvs,
		genai.OperationName.String(operation), genai.MemoryStoreID.String(store), genai.Action.String(action))}
}

func memoryLoadResult(_ *wire, e *hook.Event, kvs []attribute.KeyValue) []attribute.KeyValue {
	return append(kvs, genai.MemoryRecords.Int(e.Payload.(*hook.MemoryLoad).Records))
}

func checkpointSaveSpan(_ *wire, _ *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	return genai.Operation{Name: "checkpoint save", Attributes: append(kvs, genai.Action.String("save"))}
}

func checkpointLoadSpan(_ *wire, _ *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	return genai.Operation{Name: "checkpoint load", Attributes: append(kvs, genai.Action.String("load"))}
}

func checkpointResult(_ *wire, e *hook.Event, kvs []attribute.KeyValue) []attribute.KeyValue {
	id, step, size := checkpoint(e)
	return append(kvs, genai.CheckpointID.String(id), genai.Step.Int(step), genai.SizeBytes.Int64(size))
}

func checkpoint(e *hook.Event) (id string, step int, size int64) {
	if p, ok := e.Payload.(*hook.CheckpointSave); ok {
		return p.CheckpointID, p.Step, p.SizeBytes
	}
	p := e.Payload.(*hook.CheckpointLoad)
	return p.CheckpointID, p.Step, p.SizeBytes
}

func permissionSpan(_ *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	p := e.Payload.(*hook.Permission)
	return genai.Operation{Name: "permission check", Attributes: append(kvs, genai.Action.String(p.Action))}
}

func permissionResult(w *wire, e *hook.Event, kvs []attribute.KeyValue) []attribute.KeyValue {
	p := e.Payload.(*hook.Permission)
	return append(kvs,
		genai.Decision.String(p.Decision), genai.DecidedBy.String(p.By), genai.Reason.String(w.redact.String(p.Reason)))
}

func interruptSpan(w *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	p := e.Payload.(*hook.Interrupt)
	return genai.Operation{Name: "interrupt", Attributes: append(kvs,
		genai.Mode.String(p.Mode), genai.Source.String(p.Source), genai.Reason.String(w.redact.String(p.Reason)))}
}

func specialistSpan(_ *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	p := e.Payload.(*hook.Specialist)
	return genai.Operation{Name: genai.SpanName("specialist", p.Agent), Attributes: append(kvs,
		genai.To.String(p.Agent), genai.Pattern.String(p.Pattern))}
}

func handoffSpan(w *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	p := e.Payload.(*hook.Handoff)
	return genai.Operation{Name: genai.SpanName("handoff", p.To), Attributes: append(kvs,
		genai.From.String(p.From), genai.To.String(p.To), genai.Reason.String(w.redact.String(p.Reason)))}
}

func errorSpan(_ *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	return genai.Operation{Name: genai.SpanName("error", e.Payload.(*hook.ErrorInfo).Where), Attributes: kvs}
}

func guardSpan(w *wire, e *hook.Event, kvs []attribute.KeyValue) genai.Operation {
	p := e.Payload.(*hook.Guard)
	return genai.Operation{Name: genai.SpanName("guard", p.Guard), Attributes: append(kvs,
		genai.GuardName.String(p.Guard), genai.Action.String(p.Action), genai.Reason.String(w.redact.String(p.Reason)))}
}

// addContent adds what people and models said, as far as that may be recorded.
func (w *wire) addContent(kvs []attribute.KeyValue, key attribute.Key, text string) []attribute.KeyValue {
	if text == "" || w.content == ContentOff {
		return kvs
	}
	if w.content == ContentRedacted {
		text = w.redact.String(text)
	}
	return append(kvs, key.String(text))
}
