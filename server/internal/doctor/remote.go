package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswerBytes bounds what is read of an answer.
const maxAnswerBytes = 1 << 20

// get asks url, with the key if it is the server's, and returns status, header
// and body.
func (e *examination) get(ctx context.Context, rawURL string) (*http.Response, []byte, error) {
	return e.send(ctx, http.MethodGet, rawURL, "", nil)
}

func (e *examination) send(ctx context.Context, method, rawURL, contentType string, body io.Reader) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, rawURL, body)
	if err != nil {
		return nil, nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if e.Key != "" && (under(rawURL, e.Server) || under(rawURL, e.OTLP)) {
		req.Header.Set("Authorization", "Bearer "+e.Key)
	}
	resp, err := e.Client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL is in the message already
		}
		return nil, nil, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	return resp, b, errors.Join(err, resp.Body.Close())
}

func under(rawURL, base string) bool {
	return base != "" && strings.HasPrefix(rawURL, strings.TrimSuffix(base, "/")+"/")
}

func at(base, path string) string { return strings.TrimSuffix(base, "/") + path }

func lookAtServer(ctx context.Context, e *examination) (State, string, string) {
	if e.Server == "" {
		return Skipped, "no server was named, and none holds the data directory", "start it with kaizen serve, or name it with --server URL"
	}
	resp, body, err := e.get(ctx, at(e.Server, "/readyz"))
	if err != nil {
		return Failed, fmt.Sprintf("%s: %v", e.Server, err), "is it running, and is the address right? kaizen serve"
	}
	e.running = true
	if resp.StatusCode != http.StatusOK {
		return Failed, fmt.Sprintf("%s is not ready: %s", e.Server, oneLine(body)), "its log says more; after a failed sync it must be restarted: docs/runbooks"
	}
	resp, body, err = e.get(ctx, at(e.Server, "/api/stats"))
	switch {
	case err != nil:
		return Failed, fmt.Sprintf("%s: %v", e.Server, err), ""
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return Failed, e.Server + " does not take this key", "set KAIZEN_API_KEY to a key of that server"
	case resp.StatusCode != http.StatusOK:
		return Failed, fmt.Sprintf("%s: %s: %s", e.Server, resp.Status, oneLine(body)), ""
	}
	return OK, e.Server + " is ready", ""
}

func oneLine(b []byte) string {
	const most = 300
	s := strings.Join(strings.Fields(string(b)), " ")
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}

func lookAtVersion(ctx context.Context, e *examination) (State, string, string) {
	if !e.running {
		return OK, "kaizen " + e.Version, ""
	}
	_, body, err := e.get(ctx, at(e.Server, "/prometheus/api/v1/status/buildinfo"))
	if err != nil {
		return Warning, err.Error(), ""
	}
	// What is called version there is that of the engine, for clients that ask
	// what PromQL it speaks.
	var answer struct{ Data struct{ Revision string } }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Data.Revision == "" {
		return Warning, "the server does not say its version: " + oneLine(body), ""
	}
	if answer.Data.Revision != e.Version {
		return Warning, fmt.Sprintf("the server is %s, this command %s", answer.Data.Revision, e.Version), "use the command of the server's version for its data directory"
	}
	return OK, "kaizen " + e.Version + ", here and there", ""
}

// lookAtClock compares this clock with the server's, which is known to a second.
func lookAtClock(ctx context.Context, e *examination) (State, string, string) {
	if !e.running {
		if y := e.Now().Year(); y < 2025 || y > 2100 {
			return Failed, fmt.Sprintf("this machine's clock says the year %d", y), "set it: timedatectl"
		}
		return OK, "plausible (no server to compare with)", ""
	}
	before := e.Now()
	resp, _, err := e.get(ctx, at(e.Server, "/healthz"))
	if err != nil {
		return Warning, err.Error(), ""
	}
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return Warning, "the server does not say its time", ""
	}
	took := e.Now().Sub(before)
	skew := theirs.Sub(before.Add(took / 2)).Abs()
	if skew > maxSkew+took {
		return Failed, fmt.Sprintf("this clock and the server's differ by %s", skew.Round(time.Second)), "set both by NTP: timedatectl set-ntp true"
	}
	return OK, "this clock and the server's agree", ""
}

// lookAtExporter sends an empty batch where programs here send theirs.
func lookAtExporter(ctx context.Context, e *examination) (State, string, string) {
	if e.OTLP == "" {
		return Skipped, "no OTLP endpoint is set", ""
	}
	resp, body, err := e.send(ctx, http.MethodPost, at(e.OTLP, "/v1/traces"), "application/json", strings.NewReader(`{"resourceSpans":[]}`))
	switch {
	case err != nil:
		return Failed, fmt.Sprintf("%s: %v", e.OTLP, err), "set OTEL_EXPORTER_OTLP_ENDPOINT to the server's OTLP address (http://127.0.0.1:4318)"
	case resp.StatusCode == http.StatusUnauthorized:
		return Failed, e.OTLP + " does not take this key", "set KAIZEN_API_KEY, or OTEL_EXPORTER_OTLP_HEADERS"
	case resp.StatusCode != http.StatusOK:
		return Failed, fmt.Sprintf("%s: %s: %s", e.OTLP, resp.Status, oneLine(body)), ""
	}
	return OK, e.OTLP + " takes telemetry", ""
}

// lookAtTelemetry asks whether anything was dropped in the last hour.
func lookAtTelemetry(ctx context.Context, e *examination) (State, string, string) {
	if !e.running {
		return Skipped, "no server", ""
	}
	q := url.Values{"query": {`sum by (signal, reason) (increase(kaizen_telemetry_dropped_total[1h])) > 0`}}
	_, body, err := e.get(ctx, at(e.Server, "/prometheus/api/v1/query?")+q.Encode())
	if err != nil {
		return Warning, err.Error(), ""
	}
	var answer struct {
		Status string
		Data   struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return Warning, "the server does not answer a query: " + oneLine(body), ""
	}
	if len(answer.Data.Result) == 0 {
		return OK, "nothing was dropped in the last hour", ""
	}
	var lost []string
	for _, r := range answer.Data.Result {
		lost = append(lost, fmt.Sprintf("%s: %v (%s)", r.Metric["signal"], r.Value[1], r.Metric["reason"]))
	}
	return Warning, "dropped in the last hour: " + strings.Join(lost, ", "), "docs/runbooks says what each reason means"
}

func lookAtPrometheus(ctx context.Context, e *examination) (State, string, string) {
	if e.Prometheus == "" {
		return Skipped, "no address was named", ""
	}
	_, body, err := e.get(ctx, at(e.Prometheus, "/api/v1/targets?state=active"))
	if err != nil {
		return Failed, fmt.Sprintf("%s: %v", e.Prometheus, err), "is it running? docs/operations.md"
	}
	var answer struct {
		Data struct {
			ActiveTargets []struct {
				ScrapePool, ScrapeURL, Health, LastError string
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Failed, e.Prometheus + " does not answer like Prometheus: " + oneLine(body), ""
	}
	var down []string
	kaizen := 0
	for _, t := range answer.Data.ActiveTargets {
		if strings.Contains(t.ScrapePool, "kaizen") {
			kaizen++
		}
		if t.Health == "down" {
			down = append(down, t.ScrapeURL+": "+t.LastError)
		}
	}
	switch {
	case len(down) > 0:
		return Failed, "cannot scrape " + strings.Join(down, "; "), "credentials and address are in deploy/prometheus/prometheus.yml"
	case kaizen == 0:
		return Warning, e.Prometheus + " scrapes no kaizen", "give it the scrape jobs of deploy/prometheus/prometheus.yml"
	}
	return OK, fmt.Sprintf("%s scrapes %d targets, %d of them kaizen's", e.Prometheus, len(answer.Data.ActiveTargets), kaizen), ""
}

// lookAtAlertmanager and the others ask each program's own health address.
func lookAtAlertmanager(ctx context.Context, e *examination) (State, string, string) {
	return e.healthy(ctx, e.Alertmanager, "/-/ready")
}

func lookAtGrafana(ctx context.Context, e *examination) (State, string, string) {
	return e.healthy(ctx, e.Grafana, "/api/health")
}

func lookAtJaeger(ctx context.Context, e *examination) (State, string, string) {
	return e.healthy(ctx, e.Jaeger, "/api/services")
}

func lookAtElasticsearch(ctx context.Context, e *examination) (State, string, string) {
	state, text, advice := e.healthy(ctx, e.Elasticsearch, "/_cluster/health")
	if state == OK && strings.Contains(text, `"status":"red"`) {
		return Failed, text, "some of its data cannot be read: its own log says why"
	}
	return state, text, advice
}

func (e *examination) healthy(ctx context.Context, base, path string) (State, string, string) {
	if base == "" {
		return Skipped, "no address was named", ""
	}
	resp, body, err := e.get(ctx, at(base, path))
	switch {
	case err != nil:
		return Failed, fmt.Sprintf("%s: %v", base, err), "is it running, and is the address right?"
	case resp.StatusCode == http.StatusUnauthorized:
		return Warning, base + " answers, and wants credentials (put them in the address: https://user:password@host)", ""
	case resp.StatusCode != http.StatusOK:
		return Failed, fmt.Sprintf("%s: %s", base, resp.Status), ""
	}
	return OK, base + ": " + oneLine(body), ""
}
