package normalise

import (
	"strings"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

var ownKinds = map[string]record.Kind{
	"run": record.KindRun, "iteration": record.KindIteration, "plan": record.KindPlan,
	"model": record.KindModel, "embedding": record.KindEmbedding, "tool": record.KindTool,
	"memory": record.KindMemory, "retrieval": record.KindRetrieval, "checkpoint": record.KindCheckpoint,
	"permission": record.KindPermission, "interrupt": record.KindInterrupt, "specialist": record.KindSpecialist,
	"handoff": record.KindHandoff, "other": record.KindOther,
}

// Operations of the GenAI conventions, all generations.
var operationKinds = map[string]record.Kind{
	"invoke_agent": record.KindRun, "invoke_workflow": record.KindRun,
	"chat": record.KindModel, "generate_content": record.KindModel, "text_completion": record.KindModel,
	"completion": record.KindModel, "messages": record.KindModel, "responses": record.KindModel,
	"embeddings": record.KindEmbedding, "embedding": record.KindEmbedding,
	"execute_tool": record.KindTool, "plan": record.KindPlan, "retrieval": record.KindRetrieval,
	"search_memory": record.KindMemory, "create_memory": record.KindMemory, "update_memory": record.KindMemory,
	"upsert_memory": record.KindMemory, "delete_memory": record.KindMemory,
	"create_memory_store": record.KindMemory, "delete_memory_store": record.KindMemory,
	"handoff": record.KindHandoff, "create_agent": record.KindOther, "fetch_response": record.KindOther,
}

// openinference.span.kind.
var openInferenceKinds = map[string]record.Kind{
	"LLM": record.KindModel, "EMBEDDING": record.KindEmbedding, "TOOL": record.KindTool,
	"AGENT": record.KindRun, "RETRIEVER": record.KindRetrieval, "RERANKER": record.KindRetrieval,
	"CHAIN": record.KindOther, "GUARDRAIL": record.KindOther, "EVALUATOR": record.KindOther, "PROMPT": record.KindOther,
}

// traceloop.span.kind, llm.request.type, langfuse.observation.type and
// genkit's subtype share a vocabulary near enough.
var otherKinds = map[string]record.Kind{
	"agent": record.KindRun, "workflow": record.KindRun, "flow": record.KindRun,
	"chat": record.KindModel, "completion": record.KindModel, "generation": record.KindModel, "model": record.KindModel,
	"embedding": record.KindEmbedding, "embedder": record.KindEmbedding,
	"tool": record.KindTool, "retriever": record.KindRetrieval, "rerank": record.KindRetrieval,
	"task": record.KindOther, "span": record.KindOther, "event": record.KindOther, "chain": record.KindOther,
	"guardrail": record.KindOther, "evaluator": record.KindOther,
}

// ai.operationId of the Vercel AI SDK. The outer spans repeat the sum of their
// calls, so they are runs, which carry no usage.
var vercelKinds = map[string]record.Kind{
	"ai.generateText.doGenerate": record.KindModel, "ai.streamText.doStream": record.KindModel,
	"ai.generateObject.doGenerate": record.KindModel, "ai.streamObject.doStream": record.KindModel,
	"ai.generateText": record.KindRun, "ai.streamText": record.KindRun,
	"ai.generateObject": record.KindRun, "ai.streamObject": record.KindRun,
	"ai.embed.doEmbed": record.KindEmbedding, "ai.embedMany.doEmbed": record.KindEmbedding,
	"ai.embed": record.KindOther, "ai.embedMany": record.KindOther, "ai.toolCall": record.KindTool,
}

// Spans of Claude Code, by name.
var claudeCodeKinds = map[string]record.Kind{
	"claude_code.interaction": record.KindRun, "claude_code.llm_request": record.KindModel, "claude_code.tool": record.KindTool,
}

// kindOf classes a span: what it says of itself in our words first, then in
// those of the conventions.
func kindOf(a attrs, name string) record.Kind {
	for _, try := range []struct {
		table map[string]record.Kind
		word  string
	}{
		{ownKinds, a.str("kaizen.kind")},
		{operationKinds, a.str("gen_ai.operation.name")},
		{openInferenceKinds, strings.ToUpper(a.str("openinference.span.kind"))},
		{otherKinds, a.str("traceloop.span.kind")},
		{otherKinds, a.str("llm.request.type")},
		{vercelKinds, a.str("ai.operationId")},
		{otherKinds, strings.ToLower(a.str("langfuse.observation.type"))},
		{otherKinds, a.str("genkit:metadata:subtype")},
		{claudeCodeKinds, name},
	} {
		if k, ok := try.table[try.word]; ok {
			return k
		}
	}
	if a.str("mcp.method.name") == "tools/call" {
		return record.KindTool
	}
	// The first writers of the conventions named a model and no operation.
	if a.str("gen_ai.request.model") != "" && a.str("gen_ai.system", "gen_ai.provider.name") != "" && !a.has("gen_ai.operation.name") {
		return record.KindModel
	}
	return record.KindOther
}

// operationOf returns the operation in the words of the conventions, also for
// senders that use others.
func operationOf(a attrs, kind record.Kind) string {
	if op := a.str("gen_ai.operation.name"); op != "" {
		return intern(op)
	}
	switch kind {
	case record.KindRun:
		return "invoke_agent"
	case record.KindModel:
		if t := a.str("llm.request.type"); t == "completion" {
			return "text_completion"
		}
		return "chat"
	case record.KindEmbedding:
		return "embeddings"
	case record.KindTool:
		return "execute_tool"
	case record.KindPlan:
		return "plan"
	case record.KindRetrieval:
		return "retrieval"
	}
	return ""
}

// Names that providers went by, and what the conventions call them now.
var providers = map[string]string{
	"az.ai.openai": "azure.ai.openai", "azure": "azure.ai.openai", "azure_openai": "azure.ai.openai",
	"azure-openai": "azure.ai.openai", "azure.openai": "azure.ai.openai", "az.ai.inference": "azure.ai.inference",
	"bedrock": "aws.bedrock", "aws_bedrock": "aws.bedrock", "amazon-bedrock": "aws.bedrock", "aws": "aws.bedrock",
	"vertex_ai": "gcp.vertex_ai", "vertexai": "gcp.vertex_ai", "google-vertex": "gcp.vertex_ai", "google.vertex": "gcp.vertex_ai",
	"gemini": "gcp.gemini", "google": "gcp.gemini", "google-generative-ai": "gcp.gemini", "google.generative-ai": "gcp.gemini",
	"googleai": "gcp.gemini", "google_genai": "gcp.gen_ai",
	"mistral": "mistral_ai", "mistralai": "mistral_ai", "xai": "x_ai", "moonshot": "moonshot_ai", "watsonx": "ibm.watsonx.ai",
}

func providerOf(a attrs) string {
	p := strings.ToLower(a.str("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"))
	if p == "" {
		return ""
	}
	if q, ok := providers[p]; ok {
		return q
	}
	// The Vercel AI SDK names the API too: anthropic.messages, openai.chat.
	if head, _, ok := strings.Cut(p, "."); ok {
		switch head {
		case "openai", "anthropic", "groq", "cohere", "deepseek", "perplexity":
			return head
		case "mistral", "xai", "google-vertex", "amazon-bedrock", "azure-openai":
			return providers[head]
		}
	}
	return intern(p)
}
