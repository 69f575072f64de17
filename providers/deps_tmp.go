package providers

import (
	_ "github.com/anthropics/anthropic-sdk-go"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/kaizen-go/kaizen"
	_ "github.com/openai/openai-go/v3"
)
