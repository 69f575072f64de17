package ollama_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/providers/ollama"
)

func TestAddress(t *testing.T) {
	for _, tt := range [...]struct {
		name, base, env string
		ok              bool
	}{
		{"default", "", "", true},
		{"a host of the environment", "", "127.0.0.1:11434", true},
		{"a URL of the environment", "", "https://models.example", true},
		{"the configuration wins", "http://127.0.0.1:1", "http://\x7f", true},
		{"no URL", "http://\x7f", "", false},
		{"no host", "http://", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("OLLAMA_HOST", tt.env)
			if m, err := ollama.New(ollama.Config{Model: "m", BaseURL: tt.base}); (err == nil) != tt.ok {
				t.Errorf("New = %v, %v, want ok %v", m, err, tt.ok)
			}
		})
	}
}

// TestCallsWithoutIDs: servers before ids have none; two calls of one tool are
// told apart all the same.
func TestCallsWithoutIDs(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		call := `{"function":{"name":"look","arguments":{}}}`
		if _, err := w.Write([]byte(`{"model":"m","message":{"role":"assistant","tool_calls":[` + call + `,` + call + `]},"done":true}`)); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	m, err := ollama.New(ollama.Config{Model: "m", BaseURL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := m.Generate(t.Context(), agent.Request{Messages: []agent.Message{{Role: agent.User, Text: "hi"}}})
	if err != nil || len(resp.Message.ToolCalls) != 2 {
		t.Fatalf("Generate = %+v, %v", resp, err)
	}
	a, b := resp.Message.ToolCalls[0], resp.Message.ToolCalls[1]
	if a.ID == "" || a.ID == b.ID || string(a.Arguments) != "{}" {
		t.Errorf("calls %+v and %+v", a, b)
	}
	if resp.HasUsage {
		t.Error("a usage that was not told")
	}
}

// TestCutOff: Ollama's client takes a connection that breaks for the end of the
// answer; the model does not.
func TestCutOff(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write([]byte(`{"model":"m","message":{"role":"assistant","content":"half"},"done":false}` + "\n")); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	m, err := ollama.New(ollama.Config{Model: "m", BaseURL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Generate(t.Context(), agent.Request{Messages: []agent.Message{{Role: agent.User, Text: "hi"}}}); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("Generate = %v, want that it is cut off", err)
	}
}
