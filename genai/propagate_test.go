package genai_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/internal/runctx"
)

const (
	parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	state  = "vendor=1,other=2"
)

// remote returns a context with a span that came from elsewhere.
func remote(t testing.TB) context.Context {
	t.Helper()
	ctx := genai.Extract(context.Background(), http.Header{"Traceparent": {parent}, "Tracestate": {state}})
	if !trace.SpanContextFromContext(ctx).IsRemote() {
		t.Fatal("the span of a valid header is not there")
	}
	return ctx
}

func bagOf(t testing.TB, kvs ...string) baggage.Baggage {
	t.Helper()
	var members []baggage.Member
	for i := 0; i < len(kvs); i += 2 {
		m, err := baggage.NewMemberRaw(kvs[i], kvs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, m)
	}
	bag, err := baggage.New(members...)
	if err != nil {
		t.Fatal(err)
	}
	return bag
}

func TestInject(t *testing.T) {
	for _, tt := range []struct {
		name string
		ctx  func(*testing.T) context.Context
		have http.Header
		want http.Header
	}{
		{"nothing", func(*testing.T) context.Context { return context.Background() }, nil, http.Header{}},
		{
			"nothing keeps what is there", func(*testing.T) context.Context { return context.Background() },
			http.Header{"Traceparent": {"x"}, "Baggage": {"a=b"}}, http.Header{"Traceparent": {"x"}, "Baggage": {"a=b"}},
		},
		{
			"span", func(t *testing.T) context.Context { return remote(t) },
			nil, http.Header{"Traceparent": {parent}, "Tracestate": {state}},
		},
		{
			"a span without state removes a stale one",
			func(*testing.T) context.Context {
				return genai.Extract(context.Background(), http.Header{"Traceparent": {parent}})
			},
			http.Header{"Traceparent": {"x", "y"}, "Tracestate": {"stale=1"}}, http.Header{"Traceparent": {parent}},
		},
		{
			"session of the run",
			func(*testing.T) context.Context {
				return runctx.With(context.Background(), runctx.Run{SessionID: "s 1", UserID: "ü,=;%"})
			},
			nil, http.Header{"Baggage": {"session.id=s%201,user.id=%C3%BC%2C=%3B%25"}},
		},
		{
			"the run's session before the baggage's, other members after",
			func(t *testing.T) context.Context {
				ctx := baggage.ContextWithBaggage(context.Background(), bagOf(t, "z", "1", "a", "2", "session.id", "old", "user.id", "kept"))
				return runctx.With(ctx, runctx.Run{SessionID: "new"})
			},
			nil, http.Header{"Baggage": {"session.id=new,user.id=kept,a=2,z=1"}},
		},
		{
			"hostile session of a run",
			func(*testing.T) context.Context {
				return runctx.With(context.Background(), runctx.Run{SessionID: "a\r\nX-Evil: 1", UserID: strings.Repeat("u", 257)})
			},
			nil, http.Header{},
		},
		{
			"key that W3C does not allow",
			func(t *testing.T) context.Context {
				return baggage.ContextWithBaggage(context.Background(), bagOf(t, "a b", "1", "ok", "2"))
			},
			nil, http.Header{"Baggage": {"ok=2"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := tt.have
			if h == nil {
				h = http.Header{}
			}
			genai.Inject(tt.ctx(t), h)
			if diff := cmp.Diff(tt.want, h); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExtract(t *testing.T) {
	long := strings.Repeat("v", 5000)
	for _, tt := range []struct {
		name    string
		header  http.Header
		span    bool
		state   string
		session genai.Session
		members int
	}{
		{"nothing", http.Header{}, false, "", genai.Session{}, 0},
		{"span", http.Header{"Traceparent": {parent}}, true, "", genai.Session{}, 0},
		{"state in two headers", http.Header{"Traceparent": {parent}, "Tracestate": {"a=1", "b=2"}}, true, "a=1,b=2", genai.Session{}, 0},
		{"bad state leaves the span", http.Header{"Traceparent": {parent}, "Tracestate": {"=,="}}, true, "", genai.Session{}, 0},
		{"huge state leaves the span", http.Header{"Traceparent": {parent}, "Tracestate": {"a=1," + long, long}}, true, "", genai.Session{}, 0},
		{"two parents", http.Header{"Traceparent": {parent, parent}}, false, "", genai.Session{}, 0},
		{"zero ids", http.Header{"Traceparent": {"00-00000000000000000000000000000000-0000000000000000-01"}}, false, "", genai.Session{}, 0},
		{"upper case", http.Header{"Traceparent": {strings.ToUpper(parent)}}, false, "", genai.Session{}, 0},
		{"version ff", http.Header{"Traceparent": {"ff" + parent[2:]}}, false, "", genai.Session{}, 0},
		{"future version", http.Header{"Traceparent": {"01" + parent[2:] + "-more"}}, true, "", genai.Session{}, 0},
		{"endless future version", http.Header{"Traceparent": {"01" + parent[2:] + "-" + long}}, false, "", genai.Session{}, 0},
		{
			"session and user", http.Header{"Baggage": {"session.id=s%201,user.id=%C3%BC,x=1;p=2"}},
			false, "", genai.Session{ID: "s 1", User: "ü"}, 3,
		},
		{"baggage in two headers", http.Header{"Baggage": {"session.id=a", "user.id=b"}}, false, "", genai.Session{ID: "a", User: "b"}, 2},
		{"line break in a user", http.Header{"Baggage": {"session.id=a,user.id=b%0D%0Ac"}}, false, "", genai.Session{ID: "a"}, 1},
		{"direction override in a user", http.Header{"Baggage": {"user.id=a%E2%80%AEb"}}, false, "", genai.Session{}, 0},
		{"broken UTF-8 in a user", http.Header{"Baggage": {"user.id=%ff"}}, false, "", genai.Session{}, 0},
		{"user too long", http.Header{"Baggage": {"session.id=a,user.id=" + long[:257]}}, false, "", genai.Session{ID: "a"}, 1},
		{"user at the bound", http.Header{"Baggage": {"user.id=" + long[:256]}}, false, "", genai.Session{User: long[:256]}, 1},
		{"malformed", http.Header{"Baggage": {"session.id=a,="}}, false, "", genai.Session{}, 0},
		{"too long over two headers", http.Header{"Baggage": {"session.id=a,x=" + long, "y=" + long}}, false, "", genai.Session{}, 0},
		{"too many members", http.Header{"Baggage": {strings.Repeat("a=1,", 64) + many(65)}}, false, "", genai.Session{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := genai.Extract(t.Context(), tt.header)
			sc := trace.SpanContextFromContext(ctx)
			if sc.IsValid() != tt.span || sc.IsRemote() != tt.span || sc.TraceState().String() != tt.state {
				t.Errorf("span = %v remote %v state %q, want %v, %q", sc.IsValid(), sc.IsRemote(), sc.TraceState(), tt.span, tt.state)
			}
			if got := genai.SessionFrom(ctx); got != tt.session {
				t.Errorf("session = %+v, want %+v", got, tt.session)
			}
			if got := baggage.FromContext(ctx).Len(); got != tt.members {
				t.Errorf("%d members of baggage, want %d", got, tt.members)
			}
		})
	}
}

// many returns n members of baggage.
func many(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("k%d=v", i))
	}
	return strings.Join(list, ",")
}

// TestExtractKeeps: nothing that arrives leaves the context as it was.
func TestExtractKeeps(t *testing.T) {
	ctx := baggage.ContextWithBaggage(remote(t), bagOf(t, "user.id", "here"))
	for _, h := range []http.Header{nil, {"Traceparent": {"junk"}, "Baggage": {"junk"}}} {
		if got := genai.Extract(ctx, h); got != ctx {
			t.Errorf("Extract(%v) made another context", h)
		}
	}
}

// TestInjectBounds: what goes out is within W3C's bounds, the session in it.
func TestInjectBounds(t *testing.T) {
	for name, bag := range map[string]baggage.Baggage{
		"members": func() baggage.Baggage {
			b, err := baggage.Parse(many(64))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}(),
		"bytes": bagOf(t, "a", strings.Repeat("x", 4000), "b", strings.Repeat("x", 4000)),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := baggage.ContextWithBaggage(t.Context(), bag)
			ctx, err := genai.WithSession(ctx, genai.Session{ID: strings.Repeat("é", 128), User: "u"})
			if err != nil {
				t.Fatal(err)
			}
			h := http.Header{}
			genai.Inject(ctx, h)
			text := h.Get("baggage")
			if n := strings.Count(text, ",") + 1; n > 64 || len(text) > 8192 {
				t.Errorf("%d members in %d bytes", n, len(text))
			}
			if got := genai.SessionFrom(genai.Extract(context.Background(), h)); got.User != "u" || len(got.ID) != 256 {
				t.Errorf("the session did not arrive: %+v", got)
			}
		})
	}
}

func TestWithSession(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    genai.Session
		ok   bool
	}{
		{"both", genai.Session{ID: "s", User: "u"}, true},
		{"nothing", genai.Session{}, true},
		{"control character", genai.Session{User: "a\x00"}, false},
		{"too long", genai.Session{ID: strings.Repeat("s", genai.MaxSessionBytes+1)}, false},
		{"no UTF-8", genai.Session{ID: "\xff"}, false},
		{"replacement character", genai.Session{ID: "\uFFFD"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, err := genai.WithSession(t.Context(), tt.s)
			if tt.ok != (err == nil) || (!tt.ok && !errors.Is(err, genai.ErrSession)) {
				t.Fatalf("WithSession = %v, want ok %v", err, tt.ok)
			}
			want := tt.s
			if !tt.ok {
				want = genai.Session{}
			}
			if got := genai.SessionFrom(ctx); got != want {
				t.Errorf("SessionFrom = %+v, want %+v", got, want)
			}
		})
	}
	t.Run("empty fields keep what is there", func(t *testing.T) {
		ctx, err := genai.WithSession(t.Context(), genai.Session{ID: "s", User: "u"})
		if err != nil {
			t.Fatal(err)
		}
		if ctx, err = genai.WithSession(ctx, genai.Session{User: "v"}); err != nil {
			t.Fatal(err)
		}
		if got := genai.SessionFrom(ctx); got != (genai.Session{ID: "s", User: "v"}) {
			t.Errorf("SessionFrom = %+v", got)
		}
	})
}

func TestMeta(t *testing.T) {
	ctx, err := genai.WithSession(remote(t), genai.Session{ID: "s"})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]any{"progressToken": 7, "tracestate": "stale=1", "traceparent": 12}
	before := maps.Clone(have)
	got := genai.InjectMeta(ctx, have)
	want := map[string]any{"progressToken": 7, "traceparent": parent, "tracestate": state, "baggage": "session.id=s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("_meta (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, have); diff != "" {
		t.Errorf("the caller's map changed:\n%s", diff)
	}
	back := genai.ExtractMeta(t.Context(), got)
	if !trace.SpanContextFromContext(back).Equal(trace.SpanContextFromContext(ctx)) || genai.SessionFrom(back).ID != "s" {
		t.Errorf("what arrived is not what was sent: %v", trace.SpanContextFromContext(back))
	}

	t.Run("nil", func(t *testing.T) {
		if got := genai.InjectMeta(context.Background(), nil); got != nil {
			t.Errorf("InjectMeta without a span = %v, want nil", got)
		}
		if got := genai.InjectMeta(ctx, nil); got["traceparent"] != parent {
			t.Errorf("InjectMeta(nil) = %v", got)
		}
		if got := genai.ExtractMeta(ctx, nil); got != ctx {
			t.Errorf("ExtractMeta(nil) made another context")
		}
	})
	t.Run("wrong types", func(t *testing.T) {
		for _, v := range []any{nil, 1, 1.5, true, []any{parent}, map[string]any{"traceparent": parent}, []byte(parent)} {
			meta := map[string]any{"traceparent": v, "tracestate": v, "baggage": v}
			if got := genai.ExtractMeta(ctx, meta); got != ctx {
				t.Errorf("ExtractMeta of %T made another context", v)
			}
		}
	})
}

// checkArrived holds what must be so after any input: what was understood
// travels on unchanged, and is within bounds.
func checkArrived(t *testing.T, ctx context.Context) {
	t.Helper()
	meta := genai.InjectMeta(ctx, nil)
	again := genai.ExtractMeta(context.Background(), meta)
	if a, b := trace.SpanContextFromContext(ctx), trace.SpanContextFromContext(again); !a.Equal(b) {
		t.Fatalf("span %v travelled on as %v", a, b)
	}
	if a, b := baggage.FromContext(ctx), baggage.FromContext(again); a.Len() != b.Len() {
		t.Fatalf("baggage %q travelled on as %q", a, b)
	}
	for _, m := range baggage.FromContext(ctx).Members() {
		if got := baggage.FromContext(again).Member(m.Key()); got.Value() != m.Value() {
			t.Fatalf("%q: %q travelled on as %q", m.Key(), m.Value(), got.Value())
		}
	}
	if a, b := genai.SessionFrom(ctx), genai.SessionFrom(again); a != b {
		t.Fatalf("session %+v travelled on as %+v", a, b)
	}
	s := genai.SessionFrom(ctx)
	for _, id := range []string{s.ID, s.User} {
		if len(id) > genai.MaxSessionBytes || strings.ContainsAny(id, "\r\n\x00\x1b") {
			t.Fatalf("id %q got through", id)
		}
	}
	h := http.Header{}
	genai.Inject(ctx, h)
	for name, values := range h {
		if len(values) != 1 || len(values[0]) > 16<<10 || strings.ContainsAny(values[0], "\r\n\x00") || values[0] != meta[strings.ToLower(name)] {
			t.Fatalf("header %s: %q, in _meta %q", name, values, meta[strings.ToLower(name)])
		}
	}
}

func seed(f *testing.F) {
	f.Add(parent, state, "session.id=s%201,user.id=%C3%BC,k=v;p=1;q")
	f.Add("01"+parent[2:]+"-x", "a@b=1", "user.id=%0A")
	f.Add("00-", "=", ",=")
	f.Add("", "", "session.id=a,session.id=%ff,user.id="+strings.Repeat("x", 300))
	f.Add(parent, strings.Repeat("a=b,", 40), many(70))
}

func FuzzExtract(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, p, s, b string) {
		checkArrived(t, genai.Extract(context.Background(), http.Header{
			"Traceparent": {p}, "Tracestate": strings.SplitN(s, ";", 3), "Baggage": strings.SplitN(b, "\n", 3),
		}))
	})
}

func FuzzExtractMeta(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, p, s, b string) {
		meta := map[string]any{"traceparent": p, "tracestate": s, "baggage": b, "n": 1}
		before := maps.Clone(meta)
		ctx := genai.ExtractMeta(context.Background(), meta)
		checkArrived(t, ctx)
		genai.InjectMeta(ctx, meta)
		if diff := cmp.Diff(before, meta); diff != "" {
			t.Fatalf("the caller's map changed:\n%s", diff)
		}
	})
}
