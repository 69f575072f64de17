package api

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/shard"
	"github.com/kaizen-go/kaizen/server/internal/normalise"
	"github.com/kaizen-go/kaizen/server/internal/query"
)

// schema is the part of JSON Schema that openapi.json uses.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       any               `json:"type"` // a word or a list of words
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Items      *schema           `json:"items"`
	AnyOf      []schema          `json:"anyOf"`
}

type openAPIDoc struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name string `json:"name"`
			In   string `json:"in"`
		} `json:"parameters"`
		Responses map[string]struct {
			Content map[string]struct {
				Schema schema `json:"schema"`
			} `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

// elsewhere are operations under /api that other handlers of the server answer.
var elsewhere = []route{{"POST", "/api/audit/checkpoints", nil, nil, shard.Recorded{}}}

// TestOpenAPI checks that each route, parameter and field is described, and
// that nothing else is.
func TestOpenAPI(t *testing.T) {
	var doc openAPIDoc
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	described := 0
	for _, methods := range doc.Paths {
		described += len(methods)
	}
	all := append(routes(), elsewhere...)
	if n := len(all); described != n {
		t.Errorf("%d operations are described, %d served", described, n)
	}
	for _, rt := range all {
		op, ok := doc.Paths[rt.pattern][strings.ToLower(rt.method)]
		if !ok {
			t.Errorf("%s %s is not described", rt.method, rt.pattern)
			continue
		}
		var params []string
		for _, p := range op.Parameters {
			if p.In == "query" {
				params = append(params, p.Name)
			}
		}
		if !slices.Equal(slices.Sorted(slices.Values(params)), slices.Sorted(slices.Values(rt.params))) {
			t.Errorf("%s %s: parameters %v are described, %v taken", rt.method, rt.pattern, params, rt.params)
		}
		if rt.answer != nil {
			doc.check(t, rt.pattern, op.Responses["200"].Content["application/json"].Schema, reflect.TypeOf(rt.answer))
		}
	}
}

// A submission travels with the fields that are described, and no others.
func TestOpenAPISubmission(t *testing.T) {
	var doc openAPIDoc
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(shard.Submission{Key: "k", Note: "n", From: 1, Consistency: [][32]byte{{1}}})
	if err != nil {
		t.Fatal(err)
	}
	var sent map[string]any
	if err := json.Unmarshal(b, &sent); err != nil {
		t.Fatal(err)
	}
	described := doc.Components.Schemas["Submission"]
	got, want := slices.Sorted(maps.Keys(sent)), slices.Sorted(maps.Keys(described.Properties))
	if !slices.Equal(got, want) || !slices.Equal(slices.Sorted(slices.Values(described.Required)), want) {
		t.Errorf("fields %v are sent, %v described, %v required", got, want, described.Required)
	}
}

// check compares a schema with the type that is encoded.
func (d *openAPIDoc) check(t *testing.T, at string, s schema, typ reflect.Type) {
	t.Helper()
	if s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	if len(s.AnyOf) > 0 {
		d.check(t, at, s.AnyOf[0], typ)
		return
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch typ {
	case reflect.TypeFor[query.Time](), reflect.TypeFor[time.Time]():
		d.wantType(t, at, s, "string")
		return
	case reflect.TypeFor[query.USD]():
		d.wantType(t, at, s, "number")
		return
	case reflect.TypeFor[audit.Entry]():
		d.checkEntry(t, at, s)
		return
	case reflect.TypeFor[normalise.Part]():
		d.wantType(t, at, s, "object")
		return
	}
	switch typ.Kind() {
	case reflect.Slice:
		d.wantType(t, at, s, "array")
		if s.Items == nil {
			t.Errorf("%s: items are not described", at)
			return
		}
		d.check(t, at+"[]", *s.Items, typ.Elem())
	case reflect.Struct:
		d.checkStruct(t, at, s, typ)
	case reflect.Map:
		d.wantType(t, at, s, "object")
	case reflect.String:
		d.wantType(t, at, s, "string")
	case reflect.Bool:
		d.wantType(t, at, s, "boolean")
	case reflect.Int, reflect.Int64:
		d.wantType(t, at, s, "integer")
	case reflect.Float64:
		d.wantType(t, at, s, "number")
	}
}

func (d *openAPIDoc) wantType(t *testing.T, at string, s schema, want string) {
	t.Helper()
	if list, ok := s.Type.([]any); ok && len(list) == 2 && list[0] == want && list[1] == "null" {
		return
	}
	if s.Type != want {
		t.Errorf("%s: described as %v, encoded as %s", at, s.Type, want)
	}
}

func (d *openAPIDoc) checkStruct(t *testing.T, at string, s schema, typ reflect.Type) {
	t.Helper()
	left := make(map[string]bool, len(s.Properties))
	for name := range s.Properties {
		left[name] = true
	}
	for i := range typ.NumField() {
		name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if !left[name] {
			t.Errorf("%s.%s is not described", at, name)
			continue
		}
		delete(left, name)
		if optional := options == "omitempty"; optional == slices.Contains(s.Required, name) {
			t.Errorf("%s.%s: left out when empty: %v, described as required: %v", at, name, optional, !optional)
		}
		d.check(t, at+"."+name, s.Properties[name], typ.Field(i).Type)
	}
	for name := range left {
		t.Errorf("%s.%s is described and not answered", at, name)
	}
}

// checkEntry compares the description of an entry with one that has all.
func (d *openAPIDoc) checkEntry(t *testing.T, at string, s schema) {
	t.Helper()
	b, err := json.Marshal(audit.Entry{
		ID: "01JD0000000000000000000001", Time: t0, AgentID: "a", Action: "b", Result: audit.Success, UserID: "u", Subject: "u", SessionID: "s",
		RunID: "r", TraceID: traceHex(1), SpanID: spanHex(1), Parent: "01JD0000000000000000000001", Severity: "low",
		Details: map[string]any{"k": 1}, Metadata: map[string]any{"k": 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	var e map[string]any
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	for name := range e {
		if _, ok := s.Properties[name]; !ok {
			t.Errorf("%s.%s is not described", at, name)
		}
	}
	if len(e) != len(s.Properties) {
		t.Errorf("%s: %d fields are described, %d answered", at, len(s.Properties), len(e))
	}
}
