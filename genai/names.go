// Package genai names spans and attributes as the OpenTelemetry GenAI
// conventions do, and starts and ends the spans of agent operations.
//
// The conventions left the core of OpenTelemetry's (its Go module has none
// since semconv 1.42) and their own repository has no release, so the names are
// constants of ours, of the newest text, under one schema URL.
package genai

import "go.opentelemetry.io/otel/attribute"

// SchemaURL names the version of the conventions that the names below follow.
const SchemaURL = "https://opentelemetry.io/schemas/gen-ai/1.42.0-dev"

// Attributes of the GenAI conventions.
const (
	OperationName    = attribute.Key("gen_ai.operation.name")
	ProviderName     = attribute.Key("gen_ai.provider.name")
	ConversationID   = attribute.Key("gen_ai.conversation.id")
	AgentID          = attribute.Key("gen_ai.agent.id")
	AgentName        = attribute.Key("gen_ai.agent.name")
	RequestModel     = attribute.Key("gen_ai.request.model")
	RequestStream    = attribute.Key("gen_ai.request.stream")
	RequestMaxTokens = attribute.Key("gen_ai.request.max_tokens")
	RequestTemp      = attribute.Key("gen_ai.request.temperature")
	ResponseModel    = attribute.Key("gen_ai.response.model")
	ResponseID       = attribute.Key("gen_ai.response.id")
	FinishReasons    = attribute.Key("gen_ai.response.finish_reasons")
	FirstChunk       = attribute.Key("gen_ai.response.time_to_first_chunk") // seconds
	InputTokens      = attribute.Key("gen_ai.usage.input_tokens")           // cache read and write included
	OutputTokens     = attribute.Key("gen_ai.usage.output_tokens")          // reasoning included
	CacheReadTokens  = attribute.Key("gen_ai.usage.cache_read.input_tokens")
	CacheWriteTokens = attribute.Key("gen_ai.usage.cache_write.input_tokens")
	ReasoningTokens  = attribute.Key("gen_ai.usage.reasoning.output_tokens")
	ToolName         = attribute.Key("gen_ai.tool.name")
	ToolCallID       = attribute.Key("gen_ai.tool.call.id")
	ToolDescription  = attribute.Key("gen_ai.tool.description")
	ToolType         = attribute.Key("gen_ai.tool.type")
	ToolArguments    = attribute.Key("gen_ai.tool.call.arguments")
	ToolResult       = attribute.Key("gen_ai.tool.call.result")
	InputMessages    = attribute.Key("gen_ai.input.messages")
	OutputMessages   = attribute.Key("gen_ai.output.messages")
	SystemInstr      = attribute.Key("gen_ai.system_instructions")
	MemoryStoreID    = attribute.Key("gen_ai.memory.store.id")
	MemoryRecords    = attribute.Key("gen_ai.memory.record.count")

	ErrorType     = attribute.Key("error.type")
	ServerAddress = attribute.Key("server.address")
	ServerPort    = attribute.Key("server.port")
	ResendCount   = attribute.Key("http.request.resend_count")
	UserID        = attribute.Key("user.id")
)

// Attributes of our own, for what no convention names.
const (
	Kind         = attribute.Key("kaizen.kind")
	Status       = attribute.Key("kaizen.status") // ok, error, denied, cancelled
	Pending      = attribute.Key("kaizen.pending")
	OpID         = attribute.Key("kaizen.op.id")
	RunID        = attribute.Key("kaizen.run.id")
	ParentRunID  = attribute.Key("kaizen.run.parent_id")
	StopReason   = attribute.Key("kaizen.run.stop_reason")
	ResumedFrom  = attribute.Key("kaizen.run.resumed_from")
	Iterations   = attribute.Key("kaizen.run.iterations")
	Iteration    = attribute.Key("kaizen.iteration")
	Attempts     = attribute.Key("kaizen.attempts")
	RetryAfter   = attribute.Key("kaizen.retry_after") // seconds that the server asked to wait
	Partial      = attribute.Key("kaizen.partial")
	ServiceTier  = attribute.Key("kaizen.service_tier")
	RequestID    = attribute.Key("kaizen.request.id")
	HTTPStatus   = attribute.Key("http.response.status_code")
	CostNanoUSD  = attribute.Key("kaizen.cost.nano_usd")
	CostUnpriced = attribute.Key("kaizen.cost.unpriced")
	CostTable    = attribute.Key("kaizen.cost.table")
	CostRule     = attribute.Key("kaizen.cost.rule")
	Action       = attribute.Key("kaizen.action")
	Decision     = attribute.Key("kaizen.decision")
	DecidedBy    = attribute.Key("kaizen.decided_by")
	Reason       = attribute.Key("kaizen.reason")
	Pattern      = attribute.Key("kaizen.pattern")
	From         = attribute.Key("kaizen.handoff.from")
	To           = attribute.Key("kaizen.handoff.to")
	PlanSteps    = attribute.Key("kaizen.plan.steps")
	CheckpointID = attribute.Key("kaizen.checkpoint.id")
	Step         = attribute.Key("kaizen.checkpoint.step")
	SizeBytes    = attribute.Key("kaizen.checkpoint.size_bytes")
	Mode         = attribute.Key("kaizen.interrupt.mode")
	Source       = attribute.Key("kaizen.interrupt.source")
	GuardName    = attribute.Key("kaizen.guard")
	Input        = attribute.Key("kaizen.run.input")
	Output       = attribute.Key("kaizen.run.output")

	// MetricsPushed, on a resource, says that its process pushes its own
	// kaizen_* metrics, so that nobody derives them from its spans again.
	MetricsPushed = attribute.Key("kaizen.metrics.pushed")
)

// AttemptEvent is the span event of an attempt of a model call: one of several
// that a client library made, with http.request.resend_count and, where it
// failed, why.
const AttemptEvent = "kaizen.attempt"

// Values of [OperationName].
const (
	InvokeAgent = "invoke_agent"
	Chat        = "chat"
	Embeddings  = "embeddings"
	// GenerateContent is Gemini's, TextCompletion that of models that complete a text.
	GenerateContent = "generate_content"
	TextCompletion  = "text_completion"
	ExecuteTool     = "execute_tool"
	PlanOp          = "plan"
	SearchMemory    = "search_memory"
	UpdateMemory    = "update_memory"
)
