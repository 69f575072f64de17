package agent

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
)

// Tool is something that an agent can do. The zero value is not usable: make
// one with [Func], or fill in all fields.
type Tool struct {
	Name, Description string
	// Schema describes the arguments: a JSON schema of type object. If nil, any
	// object is taken.
	Schema *jsonschema.Schema
	// Call carries the tool out. Its arguments have passed the schema. The error
	// is told to the model, which may try something else; it does not end the run.
	Call func(ctx context.Context, arguments json.RawMessage) (string, error)
}

// Func makes a tool of a Go function. The schema comes from the type In: its
// fields' json names and the text of their jsonschema tags. A result that is no
// string is given to the model as JSON. It fails if In has no JSON schema, or one
// that is not of type object.
//
//	type query struct {
//		City string `json:"city" jsonschema:"the city to look up"`
//	}
//	weather, err := agent.Func("weather", "Tells the weather in a city.",
//		func(ctx context.Context, q query) (string, error) { … })
func Func[In, Out any](name, description string, f func(context.Context, In) (Out, error)) (Tool, error) {
	schema, err := jsonschema.For[In](nil)
	if err != nil {
		return Tool{}, fmt.Errorf("agent: tool %s: schema of its arguments: %w", name, err)
	}
	if schema.Type != "object" {
		return Tool{}, fmt.Errorf("agent: tool %s: arguments are of type %q, want object", name, schema.Type)
	}
	call := func(ctx context.Context, arguments json.RawMessage) (string, error) {
		var in In
		if err := json.Unmarshal(arguments, &in); err != nil {
			return "", fmt.Errorf("arguments: %w", err)
		}
		out, err := f(ctx, in)
		if err != nil {
			return "", err
		}
		return text(out)
	}
	return Tool{Name: name, Description: description, Schema: schema, Call: call}, nil
}

func text(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("result: %w", err)
	}
	return string(b), nil
}

// boundTool is a Tool whose schema was resolved once, when its agent was made.
type boundTool struct {
	Tool
	spec     ToolSpec
	resolved *jsonschema.Resolved
}

func bind(t Tool) (*boundTool, error) {
	if t.Name == "" || t.Call == nil {
		return nil, fmt.Errorf("agent: tool %q: a name and a function are needed", t.Name)
	}
	if t.Schema == nil {
		t.Schema = &jsonschema.Schema{Type: "object"}
	}
	resolved, err := t.Schema.Resolve(nil)
	if err != nil {
		return nil, fmt.Errorf("agent: tool %s: schema: %w", t.Name, err)
	}
	raw, err := json.Marshal(t.Schema)
	if err != nil {
		return nil, fmt.Errorf("agent: tool %s: schema: %w", t.Name, err)
	}
	return &boundTool{t, ToolSpec{t.Name, t.Description, raw}, resolved}, nil
}

// validate checks arguments against the tool's schema.
func (t *boundTool) validate(arguments json.RawMessage) error {
	var v any
	if err := json.Unmarshal(arguments, &v); err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	if err := t.resolved.Validate(v); err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	return nil
}
