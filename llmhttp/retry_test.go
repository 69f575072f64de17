package llmhttp

import (
	"net/http"
	"strings"
	"testing"
)

// TestFingerprint: attempts of one call share it, other calls do not.
func TestFingerprint(t *testing.T) {
	type request struct{ url, body, header, value string }
	one := request{"https://api.openai.com/v1/chat/completions", `{"model":"m","messages":[1]}`, "X-Stainless-Retry-Count", "0"}
	tests := []struct {
		name string
		a, b request
		same bool
	}{
		{"a retry", one, request{one.url, one.body, one.header, "1"}, true},
		{"another body", one, request{one.url, `{"model":"m","messages":[2]}`, one.header, "1"}, false},
		{"another path", one, request{"https://api.openai.com/v2/chat/completions", one.body, one.header, "1"}, false},
		{"another host", one, request{"https://example.org/v1/chat/completions", one.body, one.header, "1"}, false},
		{"named by the library", request{one.url, one.body, "Amz-Sdk-Invocation-Id", "a"}, request{one.url, one.body, "Amz-Sdk-Invocation-Id", "a"}, true},
		{"the same question, named otherwise", request{one.url, one.body, "Idempotency-Key", "a"}, request{one.url, one.body, "Idempotency-Key", "b"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rec recorder
			var base sentBody
			rt := Transport(&base, &rec, Config{})
			for i, r := range []request{tt.a, tt.b} {
				req, err := http.NewRequestWithContext(t.Context(), "POST", r.url, strings.NewReader(r.body))
				if err != nil {
					t.Fatal(err)
				}
				if i == 1 {
					req.GetBody = nil // read ahead another way
				}
				req.Header.Set(r.header, r.value)
				if _, err := rt.RoundTrip(req); err != nil {
					t.Fatal(err)
				}
			}
			if a, b := rec.calls[0].Fingerprint, rec.calls[1].Fingerprint; (a == b) != tt.same || a == 0 {
				t.Errorf("fingerprints %x and %x, want the same: %t", a, b, tt.same)
			}
		})
	}
}

func TestRetryable(t *testing.T) {
	tests := []struct {
		status int
		said   string // X-Should-Retry
		want   bool
	}{
		{200, "", false}, {200, "true", false}, {400, "", false}, {400, "true", true}, {408, "", true}, {409, "", true},
		{429, "", true}, {429, "false", false}, {500, "", true}, {529, "", true}, {503, "no word", true},
	}
	for _, tt := range tests {
		resp := &http.Response{StatusCode: tt.status, Header: http.Header{"X-Should-Retry": {tt.said}}}
		if got := retryable(resp); got != tt.want {
			t.Errorf("retryable(%d, %q) = %t, want %t", tt.status, tt.said, got, tt.want)
		}
	}
}
