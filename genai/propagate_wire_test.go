package genai_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/genai"
)

// TestOverHTTP: a span in the server of a real request is the child of the
// client's, for the same session and user.
func TestOverHTTP(t *testing.T) {
	tracer, rec := recorded()
	var session genai.Session
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx := genai.Extract(r.Context(), r.Header)
		session = genai.SessionFrom(ctx)
		_, span := tracer.Start(ctx, genai.Operation{Name: "serve", Kind: trace.SpanKindServer})
		genai.End(span, genai.Outcome{Status: "ok"})
	}))
	defer server.Close()

	want := genai.Session{ID: "chat 7; \"x\"", User: "ü,ß=%"}
	ctx, err := genai.WithSession(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := tracer.Start(ctx, genai.Operation{Name: "call", Kind: trace.SpanKindClient})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	genai.Inject(ctx, request.Header)
	answer, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Fatal(err)
	}
	genai.End(span, genai.Outcome{Status: "ok"})

	served := rec.Ended()[0]
	if p := served.Parent(); p.SpanID() != span.SpanContext().SpanID() || !p.IsRemote() || p.TraceID() != served.SpanContext().TraceID() {
		t.Errorf("the server's span has parent %v, want %v", p, span.SpanContext())
	}
	if session != want {
		t.Errorf("session = %+v, want %+v", session, want)
	}
}

// TestOverJSON: _meta survives the JSON that MCP is.
func TestOverJSON(t *testing.T) {
	ctx, err := genai.WithSession(remote(t), genai.Session{ID: "s", User: "\"<u>\""})
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(map[string]any{"_meta": genai.InjectMeta(ctx, nil)})
	if err != nil {
		t.Fatal(err)
	}
	var params struct {
		Meta map[string]any `json:"_meta"`
	}
	if err := json.Unmarshal(line, &params); err != nil {
		t.Fatal(err)
	}
	got := genai.ExtractMeta(context.Background(), params.Meta)
	if !trace.SpanContextFromContext(got).Equal(trace.SpanContextFromContext(ctx)) || genai.SessionFrom(got) != genai.SessionFrom(ctx) {
		t.Errorf("%s arrived as %v, %+v", line, trace.SpanContextFromContext(got), genai.SessionFrom(got))
	}
}

// FuzzWithSession: an id either arrives as it is or is refused at once.
func FuzzWithSession(f *testing.F) {
	f.Add("chat 7", "ü,=;%")
	f.Add("a\r\nb", "\xff\u202e")
	f.Add(" lead", "\"\\\u00a0")
	f.Fuzz(func(t *testing.T, id, user string) {
		want := genai.Session{ID: id, User: user}
		ctx, err := genai.WithSession(context.Background(), want)
		if err != nil {
			if !errors.Is(err, genai.ErrSession) || genai.SessionFrom(ctx) != (genai.Session{}) {
				t.Fatalf("WithSession(%q) = %v with %+v", want, err, genai.SessionFrom(ctx))
			}
			return
		}
		h := http.Header{}
		genai.Inject(ctx, h)
		if got := genai.SessionFrom(genai.Extract(context.Background(), h)); got != want {
			t.Fatalf("%+v arrived as %+v over %q", want, got, h)
		}
	})
}
