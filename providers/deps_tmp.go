package providers

import (
	_ "github.com/cloudwego/eino/callbacks"
	_ "github.com/cloudwego/eino/components/model"
	_ "github.com/cloudwego/eino/compose"
	_ "github.com/cloudwego/eino/schema"
	_ "github.com/cloudwego/eino/utils/callbacks"
	_ "github.com/modelcontextprotocol/go-sdk/mcp"
	_ "github.com/ollama/ollama/api"
	_ "github.com/tmc/langchaingo/agents"
	_ "github.com/tmc/langchaingo/callbacks"
	_ "github.com/tmc/langchaingo/llms/openai"
	_ "github.com/tmc/langchaingo/tools"
	_ "go.opentelemetry.io/otel"
	_ "go.opentelemetry.io/otel/trace"
)
