package llmhttp

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRequestContent(t *testing.T) {
	tests := []struct{ name, url, body, input, system, tools string }{
		{"chat", "https://api.openai.com/v1/chat/completions", `{"model":"m","tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"messages":[
			{"role":"developer","content":"be brief"},
			{"role":"user","content":[{"type":"text","text":"what is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"image_url","image_url":{"url":"https://example.org/a.png"}},{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}},{"type":"file","file":{"file_id":"f1"}}]},
			{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"c2","type":"function","function":{"name":"g","arguments":"{bad"}}]},
			{"role":"tool","tool_call_id":"c1","content":"4"}]}`,
			`[{"role":"user","parts":[{"type":"text","content":"what is it?"},{"type":"blob","modality":"image","mime_type":"image/png"},{"type":"uri","modality":"image","uri":"https://example.org/a.png"},{"type":"blob","modality":"audio","mime_type":"wav"},{"type":"file","file_id":"f1"}]},` +
				`{"role":"assistant","parts":[{"type":"tool_call","id":"c1","name":"f","arguments":{"a":1}},{"type":"tool_call","id":"c2","name":"g","arguments":"{bad"}]},` +
				`{"role":"tool","parts":[{"type":"tool_call_response","id":"c1","response":"4"}]}]`,
			`[{"type":"text","content":"be brief"}]`,
			`[{"type":"function","name":"f","description":"d","parameters":{"type":"object"}}]`},
		{"responses", "https://api.openai.com/v1/responses", `{"model":"m","instructions":"be brief","tools":[{"type":"function","name":"f","parameters":{}}],"input":[
			{"role":"user","content":[{"type":"input_text","text":"hi"},{"type":"input_image","image_url":"https://example.org/a.png"}]},{"role":"system","content":"now"},
			{"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]},{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":"4"},{"type":"web_search_call","id":"ws"}]}`,
			`[{"role":"user","parts":[{"type":"text","content":"hi"},{"type":"uri","modality":"image","uri":"https://example.org/a.png"}]},{"role":"assistant","parts":[{"type":"reasoning","content":"hm"}]},` +
				`{"role":"assistant","parts":[{"type":"tool_call","id":"c1","name":"f","arguments":{}}]},{"role":"tool","parts":[{"type":"tool_call_response","id":"c1","response":"4"}]},{"role":"assistant","parts":[{"type":"web_search_call","id":"ws"}]}]`,
			`[{"type":"text","content":"be brief"},{"type":"text","content":"now"}]`,
			`[{"type":"function","name":"f","parameters":{}}]`},
		{"responses with a text", "https://api.openai.com/v1/responses", `{"model":"m","input":"hi"}`, `[{"role":"user","parts":[{"type":"text","content":"hi"}]}]`, `[]`, `null`},
		{"embeddings", "https://api.openai.com/v1/embeddings", `{"model":"m","input":["a","b",[1,2]]}`, `[{"role":"user","parts":[{"type":"text","content":"a"}]},{"role":"user","parts":[{"type":"text","content":"b"}]}]`, `null`, `null`},
		{"anthropic", "https://api.anthropic.com/v1/messages", `{"model":"m","max_tokens":1,"system":[{"type":"text","text":"be brief"}],"tools":[{"name":"f","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web_search"}],"messages":[
			{"role":"user","content":"hi"},
			{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"t1","name":"f","input":{"a":1}},{"type":"server_tool_use","id":"t2","name":"web_search","input":{}}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"4"}]},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},{"type":"document","source":{"type":"url","url":"https://example.org/d.pdf"}},{"type":"document","source":{"type":"file","file_id":"f2"}}]}]}`,
			`[{"role":"user","parts":[{"type":"text","content":"hi"}]},{"role":"assistant","parts":[{"type":"reasoning","content":"hm"},{"type":"tool_call","id":"t1","name":"f","arguments":{"a":1}},{"type":"server_tool_call","id":"t2","name":"web_search","arguments":{}}]},` +
				`{"role":"user","parts":[{"type":"tool_call_response","id":"t1","response":[{"type":"text","text":"4"}]},{"type":"blob","modality":"image","mime_type":"image/png"},{"type":"uri","modality":"document","uri":"https://example.org/d.pdf"},{"type":"file","modality":"document","file_id":"f2"}]}]`,
			`[{"type":"text","content":"be brief"}]`,
			`[{"type":"function","name":"f","parameters":{"type":"object"}},{"type":"web_search_20250305","name":"web_search"}]`},
		{"ollama chat", "http://127.0.0.1:11434/api/chat", `{"model":"m","tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"messages":[
			{"role":"system","content":"be brief"},{"role":"user","content":"what is it?","images":["AAAA"]},
			{"role":"assistant","content":"","thinking":"hm","tool_calls":[{"id":"c1","function":{"name":"f","arguments":{"a":1}}}]},{"role":"tool","tool_call_id":"c1","tool_name":"f","content":"4"}]}`,
			`[{"role":"user","parts":[{"type":"text","content":"what is it?"},{"type":"blob","modality":"image"}]},` +
				`{"role":"assistant","parts":[{"type":"reasoning","content":"hm"},{"type":"tool_call","id":"c1","name":"f","arguments":{"a":1}}]},` +
				`{"role":"tool","parts":[{"type":"tool_call_response","id":"c1","name":"f","response":"4"}]}]`,
			`[{"type":"text","content":"be brief"}]`,
			`[{"type":"function","name":"f","description":"d","parameters":{"type":"object"}}]`},
		{"ollama generate", "http://127.0.0.1:11434/api/generate", `{"model":"m","prompt":"hi","system":"be brief","images":["AAAA"]}`,
			`[{"role":"user","parts":[{"type":"text","content":"hi"},{"type":"blob","modality":"image"}]}]`, `[{"type":"text","content":"be brief"}]`, `null`},
		{"bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse", `{"system":[{"text":"be brief"},{"cachePoint":{"type":"default"}}],"toolConfig":{"tools":[{"toolSpec":{"name":"f","description":"d","inputSchema":{"json":{"type":"object"}}}},{"cachePoint":{"type":"default"}}]},"messages":[
			{"role":"user","content":[{"text":"hi"},{"image":{"format":"png","source":{"bytes":"AAAA"}}},{"document":{"format":"pdf","name":"d","source":{"s3Location":{"uri":"s3://b/d.pdf"}}}}]},
			{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"hm","signature":"s"}}},{"toolUse":{"toolUseId":"t1","name":"f","input":{"a":1}}}]},
			{"role":"user","content":[{"toolResult":{"toolUseId":"t1","content":[{"text":"4"}]}},{"cachePoint":{"type":"default"}}]}]}`,
			`[{"role":"user","parts":[{"type":"text","content":"hi"},{"type":"blob","modality":"image","mime_type":"png"},{"type":"uri","modality":"document","mime_type":"pdf","uri":"s3://b/d.pdf"}]},` +
				`{"role":"assistant","parts":[{"type":"reasoning","content":"hm"},{"type":"tool_call","id":"t1","name":"f","arguments":{"a":1}}]},` +
				`{"role":"user","parts":[{"type":"tool_call_response","id":"t1","response":[{"text":"4"}]},{"type":"cachePoint"}]}]`,
			`[{"type":"text","content":"be brief"}]`,
			`[{"type":"function","name":"f","description":"d","parameters":{"type":"object"}}]`},
		{"gemini", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent", `{"systemInstruction":{"parts":[{"text":"be brief"}]},"tools":[{"functionDeclarations":[{"name":"f","description":"d","parametersJsonSchema":{"type":"object"}}]},{"googleSearch":{}}],"contents":[
			{"parts":[{"text":"hi"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}},{"file_data":{"mime_type":"application/pdf","file_uri":"gs://b/d.pdf"}}]},
			{"role":"model","parts":[{"text":"hm","thought":true},{"functionCall":{"id":"c1","name":"f","args":{"a":1}}},{"executableCode":{"language":"PYTHON","code":"1"}},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"1"}}]},
			{"role":"user","parts":[{"functionResponse":{"id":"c1","name":"f","response":{"result":4}}},{"newThing":{}}]}]}`,
			`[{"role":"user","parts":[{"type":"text","content":"hi"},{"type":"blob","modality":"image","mime_type":"image/png"},{"type":"uri","modality":"document","mime_type":"application/pdf","uri":"gs://b/d.pdf"}]},` +
				`{"role":"assistant","parts":[{"type":"reasoning","content":"hm"},{"type":"tool_call","id":"c1","name":"f","arguments":{"a":1}},{"type":"server_tool_call","name":"code_execution","arguments":{"language":"PYTHON","code":"1"}},{"type":"code_execution_result","content":"1"}]},` +
				`{"role":"user","parts":[{"type":"tool_call_response","id":"c1","name":"f","response":{"result":4}},{"type":"newThing"}]}]`,
			`[{"type":"text","content":"be brief"}]`,
			`[{"type":"function","name":"f","description":"d","parameters":{"type":"object"}},{"type":"googleSearch","name":"googleSearch"}]`},
		{"gemini embeddings", "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents", `{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]}}]}`,
			`[{"role":"user","parts":[{"type":"text","content":"a"}]},{"role":"user","parts":[{"type":"text","content":"b"}]}]`, `null`, `null`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rec recorder
			var base sentBody
			for _, rewindable := range []bool{true, false} {
				req, err := http.NewRequestWithContext(t.Context(), "POST", tt.url, strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				if !rewindable {
					req.GetBody = nil
				}
				if _, err := Transport(&base, &rec, Config{Content: true}).RoundTrip(req); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(rec.calls[0], rec.calls[1]); diff != "" {
				t.Fatalf("with and without GetBody:\n%s", diff)
			}
			c := rec.calls[0]
			for _, p := range []struct {
				what, want string
				got        any
			}{{"input", tt.input, c.Input}, {"system", tt.system, c.System}, {"tools", tt.tools, c.Tools}} {
				got, err := json.Marshal(p.got)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(p.want, string(got)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", p.what, diff)
				}
			}
			if c.Truncated {
				t.Error("Truncated is set")
			}
		})
	}
}

func TestContentIsBounded(t *testing.T) {
	body := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("x", 2000) + `"}]}`
	answer := `{"choices":[{"message":{"content":"` + strings.Repeat("ä", 800) + `"},"finish_reason":"stop"}]}`
	for _, rewindable := range []bool{true, false} {
		var rec recorder
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://api.openai.com/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if !rewindable {
			req.GetBody = nil
		}
		base := answering(func() *http.Response {
			return response(200, map[string]string{"Content-Type": jsonType}, []byte(answer))
		})
		resp, err := Transport(base, &rec, Config{Content: true, MaxContentBytes: 1001}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		if c := rec.calls[0]; !c.Truncated || c.Input != nil || c.Model != "m" {
			t.Errorf("rewindable %v: call = %+v", rewindable, c)
		}
		r := rec.one(t)
		if !r.Truncated || len(r.Output) != 1 || r.Output[0].Parts[0].Content != strings.Repeat("ä", 500) {
			t.Errorf("rewindable %v: %d parts, truncated %v", rewindable, len(r.Output), r.Truncated)
		}
	}
}
