package redact

import (
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestString(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", "agent planner called search 3 times", "agent planner called search 3 times"},
		{"empty", "", ""},
		{"two of them", "password=hunter2 from ada@example.com", "password=[REDACTED:field] from [REDACTED:email]"},
		{"JSON stays JSON", `{"password": 12345, "n": 1}`, `{"password": "[REDACTED:field]", "n": 1}`},
		{"JSON in JSON", `{"a":"{\"token\":\"abcdefgh1\"}"}`, `{"a":"{\"token\":\"[REDACTED:field]\"}"}`},
		{"value with an escaped quote", `{"password":"a\"b","n":1}`, `{"password":"[REDACTED:field]","n":1}`},
		{"query string", "GET /cb?access_token=abcdefgh1&state=x", "GET /cb?access_token=[REDACTED:field]&state=x"},
		{"ampersand in a password", "password=a&b c", "password=[REDACTED:field] c"},
		{"DSN keeps its host", "postgres://u:p@ss@db/x", "postgres://u:[REDACTED:dsn]@db/x"},
		{"key at the end of a sentence", "rejected AKIAIOSFODNN7EXAMPLE.", "rejected [REDACTED:aws]."},
		{"prefix inside a word", "xsk-4fTq81kLmN0pQrS7uVwX2y", "xsk-4fTq81kLmN0pQrS7uVwX2y"},
		{"block cut off", "key -----BEGIN PRIVATE KEY-----\nMIIEabc", "key [REDACTED:private_key]"},
		{"loopback", "on 127.0.0.1 and ::1", "on 127.0.0.1 and ::1"},
		{"redacted already", "password=[REDACTED:field]", "password=[REDACTED:field]"},
		{"invalid UTF-8", "password=\xff\xfe x", "password=[REDACTED:field] x"},
	}
	r := New(Config{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.String(tt.in); got != tt.want {
				t.Errorf("String(%q)\n got %q\nwant %q", tt.in, got, tt.want)
			}
		})
	}
}

const drawn = "aB3dE6fG9hI2jK5lM8nO1pQ4rS7tU0vW3xYz" // as a vendor would

// TestSwitches checks for each detector that it alone finds its sample, and
// that the sample passes without it.
func TestSwitches(t *testing.T) {
	samples := [numDetectors]string{
		OpenAI: "sk-proj-4fTq81kLmN0pQrS7uVwX2y", Anthropic: "sk-ant-api03-4fTq81kLmN0pQrS7uVwX2y", AWS: "AKIAIOSFODNN7EXAMPLE",
		GitHub: "ghp_" + drawn, Slack: "xoxb-12345678901-abcDEF123456", Stripe: "sk_live_" + "4eC39HqLyjWDarjtT1",
		Google: "AIza" + "SyD4fTq81kLmN0pQrS7uVwX2yZ3aB4cD5eF", HuggingFace: "hf_" + drawn,
		Azure: "https://a.test/c?sig=" + drawn + "%2F%3D", APIKey: "gsk_" + drawn + drawn,
		Bearer: "bearer aB3dE6fG7hI8jK9l", PrivateKey: "-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----",
		JWT: "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", DSN: "redis://u:pw@cache", Field: "password=hunter2", Card: "4111 1111 1111 1111",
		SSN: "536-90-4399", IBAN: "DE89370400440532013000", Email: "ada@example.com", Phone: "+1 415 555 2671", IP: "203.0.113.7",
	}
	for d := range numDetectors {
		t.Run(d.String(), func(t *testing.T) {
			var others []Detector
			for _, o := range Detectors() {
				if o != d {
					others = append(others, o)
				}
			}
			alone := New(Config{Off: others})
			if got := alone.String(samples[d]); !strings.Contains(got, d.Marker()) {
				t.Errorf("%v alone: %q", d, got)
			}
			if got := alone.Count(); got[d] != 1 || len(got) != 1 {
				t.Errorf("Count() = %v", got)
			}
			if got := New(Config{Off: []Detector{d}}).String(samples[d]); strings.Contains(got, d.Marker()) {
				t.Errorf("%v switched off: %q", d, got)
			}
		})
	}
}

func TestFieldNames(t *testing.T) {
	r := New(Config{Fields: []string{"badge-number"}, KeepFields: []string{"session_token"}})
	for name, want := range map[string]bool{
		"password": true, "Password": true, "user_password": true, "passwordConfirm": true, "dbPassword": true, "DB-PASSWORD": true,
		"openai_api_key": true, "apiKey": true, "API_KEY_2": true, "x-api-key": true, "myApikey": true, "OPENAIAPIKEY": true,
		"client_secret": true, "accessToken": true, "authorization": true, "proxy-authorization": true, "privateKeyPem": true,
		"credit_card": true, "cardNumber": true, "cvv": true, "ssn": true, "social_security_number": true, "set-cookie": true,
		"staffBadgeNumber": true, "BADGE_NUMBER": true, "awsSecretAccessKey": true,
		"session_token": false, "sessionToken": false, "max_tokens": false, "input_tokens": false, "token_count": false, "tokenizer": false,
		"author": false, "authority": false, "secretary": false, "passwordless": false, "password_policy": false, "auth_method": false,
		"key": false, "keyboard": false, "primary_key": false, "name": false, "badge": false, "": false, "é": false, "id": false,
	} {
		if got := r.Field(name); got != want {
			t.Errorf("Field(%q) = %v, want %v", name, got, want)
		}
		if got := r.Field(name); got != want { // from the cache
			t.Errorf("Field(%q), asked again, = %v, want %v", name, got, want)
		}
	}
}

type account struct {
	Name     string
	Password string
	Pin      int `json:"cvv"`
	Notes    []string
	Extra    map[string]any
	Next     *account
	When     time.Time
	Any      any
	hidden   string
}

func TestValue(t *testing.T) {
	when := time.Unix(0, 0).UTC()
	in := map[string]any{
		"n": 1, "token": 512, "password": "hunter2", "api_key": []byte("abc"), "card": "4111 1111 1111 1111",
		"list":            []any{"ada@example.com", 2, map[string]string{"secret": "x", "ok": "y"}},
		"strings":         []string{"call +1 415 555 2671", "ok"},
		"bob@example.com": true, "carol@example.com": false,
		"account": &account{
			Name: "ada@example.com", Password: "hunter2", Pin: 123, Notes: []string{"ssn 536-90-4399"}, When: when,
			Extra: map[string]any{"accessToken": "abcdefgh"}, Next: &account{Name: "bob"}, Any: "ada@example.com", hidden: "x",
		},
		"err":   errors.New("dial redis://u:pw@cache"),
		"typed": map[int][]string{1: {"ada@example.com"}},
		"big":   big.NewInt(42),
		"nil":   nil,
	}
	before := deepText(in)
	got := New(Config{}).Value(in).(map[string]any)
	if after := deepText(in); after != before {
		t.Errorf("Value changed its input:\n%s\n%s", before, after)
	}
	if err, ok := got["err"].(error); !ok || err.Error() != "dial redis://u:[REDACTED:dsn]@cache" {
		t.Errorf("err = %v", got["err"])
	}
	delete(got, "err")
	if len(got) != 13 || got["[REDACTED:email]"] == nil || got["[REDACTED:email]#2"] == nil {
		t.Errorf("keys that became markers: %v", got)
	}
	delete(got, "[REDACTED:email]")
	delete(got, "[REDACTED:email]#2")
	want := map[string]any{
		"n": 1, "token": 512, "password": "[REDACTED:field]", "api_key": "[REDACTED:field]", "card": "[REDACTED:card]",
		"list":    []any{"[REDACTED:email]", 2, map[string]string{"secret": "[REDACTED:field]", "ok": "y"}},
		"strings": []string{"call [REDACTED:phone]", "ok"},
		"account": &account{
			Name: "[REDACTED:email]", Password: "[REDACTED:field]", Notes: []string{"ssn [REDACTED:ssn]"}, When: when,
			Extra: map[string]any{"accessToken": "[REDACTED:field]"}, Next: &account{Name: "bob"}, Any: "[REDACTED:email]",
		},
		"typed": map[int][]string{1: {"[REDACTED:email]"}},
		"big":   big.NewInt(42),
		"nil":   nil,
	}
	equalBig := cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(account{}), equalBig); diff != "" {
		t.Errorf("Value (-want +got):\n%s", diff)
	}
}

type broken struct{ V string }

func (broken) MarshalJSON() ([]byte, error) { panic("no") }

type ring struct{ Next *ring }

func TestValueSurvives(t *testing.T) {
	r := New(Config{})
	loop := &ring{}
	loop.Next = loop
	self := map[string]any{}
	self["self"] = self
	var nilMap map[string]string
	var nilErr *account
	for name, v := range map[string]any{
		"panics": broken{"x"}, "ring": loop, "map in itself": self, "nil map": nilMap, "nil pointer": nilErr,
		"func": func() {}, "chan": make(chan int), "complex": 1i, "array": [2]string{"a", "ada@example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			if out := r.Value(v); strings.Contains(deepText(out), "ada@") {
				t.Errorf("Value(%v) = %v", v, out)
			}
		})
	}
}

// lazy stands for a value that says what it is when asked.
type lazy struct{}

func (lazy) LogValue() slog.Value {
	return slog.GroupValue(slog.String("user", "ada@example.com"), slog.String("token", "abcdefgh1"))
}

func TestAttr(t *testing.T) {
	r := New(Config{})
	tests := []struct {
		name string
		in   slog.Attr
		want string
	}{
		{"clean", slog.String("tool", "search"), "tool=search"},
		{"by name", slog.String("api_key", "abc"), "api_key=[REDACTED:field]"},
		{"by content", slog.String("to", "ada@example.com"), "to=[REDACTED:email]"},
		{"number under a strong name", slog.Int("password", 1234), "password=[REDACTED:field]"},
		{"count", slog.Int("token", 512), "token=512"},
		{"group", slog.Group("g", slog.String("password", "x"), slog.Int("n", 1)), "g=[password=[REDACTED:field] n=1]"},
		{"group under a telling name", slog.Group("credentials", slog.String("u", "x")), "credentials=[REDACTED:field]"},
		{"LogValuer", slog.Any("who", lazy{}), "who=[user=[REDACTED:email] token=[REDACTED:field]]"},
		{"any", slog.Any("m", map[string]string{"secret": "x"}), "m=map[secret:[REDACTED:field]]"},
		{"any under a telling name", slog.Any("secret", []int{1}), "secret=[REDACTED:field]"},
		{"error", slog.Any("err", errors.New("bad password=hunter2")), "err=bad password=[REDACTED:field]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.Attr(tt.in).String(); got != tt.want {
				t.Errorf("Attr = %s, want %s", got, tt.want)
			}
		})
	}
}

// TestNamesAreRemembered under many seeds: verdicts must not push each other
// out while there is room.
func TestNamesAreRemembered(t *testing.T) {
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprintf("field_%d_name", i))
	}
	for range 50 {
		n := new(names)
		n.init(nil, nil)
		judgeAll := func() {
			for _, name := range all {
				if n.kind(name) != harmless {
					t.Errorf("kind(%s) is not harmless", name)
				}
			}
		}
		if allocs := testing.AllocsPerRun(3, judgeAll); allocs != 0 {
			t.Fatalf("%v allocations for names that are known", allocs)
		}
	}
	full := new(names)
	full.init(nil, nil)
	for i := range 3 * cacheSize { // more than are remembered
		if full.kind(fmt.Sprintf("field_%d_name", i)) != harmless || full.kind(fmt.Sprintf("api_key_%d", i)) != strong {
			t.Fatalf("wrong verdict at %d", i)
		}
	}
}

func TestCleanTextCostsNothing(t *testing.T) {
	r := New(Config{})
	text := "agent planner called tool search and got 17 results in 1.2 s at 2026-01-02T10:20:30Z"
	if got := testing.AllocsPerRun(100, func() { r.String(text) }); got != 0 {
		t.Errorf("String of a clean text: %v allocations", got)
	}
	attr := slog.String("tool", "search")
	if got := testing.AllocsPerRun(100, func() { r.Attr(attr) }); got != 0 {
		t.Errorf("Attr of a clean attribute: %v allocations", got)
	}
}

// TestLargeHostileTexts feeds each detector a megabyte of the worst there is
// for it. There is no clock: quadratic work would not end before go test does.
func TestLargeHostileTexts(t *testing.T) {
	r := New(Config{})
	for _, part := range []string{
		"eyJ-", "eyJaaaaaaaaaaaaaaaa.", "sk-", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "@", "a@b.", "password=", `"password":"`, `\"token\":\"`,
		"://", "://a:b@", "1-", "1.2.3.", "4111 ", "+1 ", "(415) ", ":", "::", "a:b:", "AKIA", "DE89 ", "bearer ", "4", "a", "&a=", "token=a&", "123-45-",
	} {
		text := strings.Repeat(part, 1<<20/len(part))
		r.String(text)
	}
}

// shallow keeps fmt from following a map into itself.
func shallow(v any) any {
	if m, ok := v.(map[string]any); ok && m["self"] != nil {
		return len(m)
	}
	return v
}

func deepText(v any) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", shallow(v))
	if m, ok := v.(map[string]any); ok {
		if a, ok := m["account"].(*account); ok {
			b.WriteString(a.Name + a.Password + a.Notes[0])
		}
	}
	return b.String()
}

// TestNamesShareAPlace: names whose quick hash is the same keep verdicts of
// their own, also when they are asked for in turn.
func TestNamesShareAPlace(t *testing.T) {
	r := New(Config{})
	places := make(map[uint32][]string)
	for i := range 5000 {
		name := fmt.Sprintf("field%d_count", i)
		if i%2 == 0 {
			name = fmt.Sprintf("x%d_api_key", i)
		}
		places[nearHash(name)%nearSize] = append(places[nearHash(name)%nearSize], name)
	}
	mixed := 0
	for _, names := range places {
		kinds := make(map[bool]bool)
		for range 2 {
			for _, name := range names {
				want := strings.HasSuffix(name, "key")
				if got := r.Field(name); got != want {
					t.Fatalf("Field(%s) = %v, want %v", name, got, want)
				}
				kinds[want] = true
			}
		}
		if len(kinds) == 2 {
			mixed++
		}
	}
	if mixed == 0 {
		t.Error("no two names of different kinds share a place: the test shows nothing")
	}
}
