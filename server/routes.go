package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// uiRoutes is everything the page's port answers. OTLP is among it, so that a
// program needs only one address.
func (s *Server) uiRoutes() http.Handler {
	mux := http.NewServeMux()
	guarded := func(pattern string, h http.Handler) { mux.Handle(pattern, s.guard.Wrap(h)) }
	public := func(pattern string, h http.Handler) { mux.Handle(pattern, s.guard.WrapPublic(h)) }

	guarded("/api/", s.parts.api)
	guarded("POST /api/audit/checkpoints", s.parts.shards)
	guarded("GET /api/backup", http.HandlerFunc(s.handleBackup))
	guarded("/log/", http.StripPrefix("/log/", s.parts.log))
	guarded("/prometheus/", s.parts.metrics.Handler())
	guarded("/jaeger/", s.parts.jaeger)
	guarded("/loki/", s.parts.loki)
	guarded("GET /metrics", promhttp.HandlerFor(s.parts.gatherer(), promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		Registry:          s.parts.registry,
	}))
	guarded("GET /metrics/agents", s.parts.metrics.Federation(scrapeLabels))
	s.otlpInto(guarded)
	guarded("GET /readyz", http.HandlerFunc(s.health.ready))
	public("GET /healthz", http.HandlerFunc(s.health.live))
	public("/", s.parts.ui) // static assets; what they show comes from /api/
	return plainHeaders(mux)
}

// otlpRoutes is what the OTLP port answers.
func (s *Server) otlpRoutes() http.Handler {
	mux := http.NewServeMux()
	guarded := func(pattern string, h http.Handler) { mux.Handle(pattern, s.guard.Wrap(h)) }
	s.otlpInto(guarded)
	guarded("POST /api/audit", s.parts.api)
	mux.Handle("GET /healthz", s.guard.WrapPublic(http.HandlerFunc(s.health.live)))
	return plainHeaders(mux)
}

// otlpInto adds the paths that take telemetry.
func (s *Server) otlpInto(handle func(string, http.Handler)) {
	h := s.parts.ingest.Handler()
	for _, path := range []string{"/v1/traces", "/v1/metrics", "/v1/logs", "/api/public/otel/v1/traces"} {
		handle(path, h)
	}
}

// plainHeaders tells browsers to take the answers for what they say they are.
func plainHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
