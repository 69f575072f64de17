// Package anchor keeps signed checkpoints of a ledger in a log collector: one
// log record each, sent over OTLP/HTTP.
//
//	l, err := audit.Open(dir, audit.Config{
//		Anchors: []audit.Anchor{&anchor.OTLP{URL: "https://collector.example.org:4318/v1/logs"}},
//	})
//
// A checkpoint is kept when the collector has answered that it took the record.
// What a ledger's operator can remove from the collector proves nothing: send it
// to one of somebody else.
package anchor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// EventName is the event name of the log records.
const EventName = "kaizen.audit.checkpoint"

// OTLP sends checkpoints to a log collector, as one log record each whose body
// is the signed note. URL must be set. It may be used from several goroutines.
type OTLP struct {
	// URL takes logs over OTLP/HTTP in JSON: http://127.0.0.1:4318/v1/logs.
	URL string
	// Header is sent with every request: credentials of the collector.
	Header http.Header
	// Service is the resource's service.name. If empty, "kaizen".
	Service string
	// Client makes the requests. If nil, [http.DefaultClient].
	Client *http.Client
}

var _ audit.Anchor = (*OTLP)(nil)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// Anchor implements [audit.Anchor]: it returns nil when the collector has taken
// the record. One that takes the request and rejects the record is an error.
func (a *OTLP) Anchor(ctx context.Context, c audit.Checkpoint) error {
	if err := a.send(ctx, c); err != nil {
		return fmt.Errorf("anchor: send checkpoint of %d entries to %s: %w", c.Size, a.URL, err)
	}
	return nil
}

func (a *OTLP) send(ctx context.Context, c audit.Checkpoint) error {
	body, err := json.Marshal(a.request(c, time.Now()))
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	maps.Copy(r.Header, a.Header)
	r.Header.Set("Content-Type", "application/json")
	client := a.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it answered %s: %.200s", resp.Status, bytes.TrimSpace(answer))
	}
	return rejected(answer)
}

// rejected is an error if the answer says that the record was not taken. An
// answer without a body, or of another form, says nothing of the kind.
func rejected(answer []byte) error {
	var got struct {
		PartialSuccess struct {
			Rejected json.RawMessage `json:"rejectedLogRecords"`
			Message  string          `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	if json.Unmarshal(answer, &got) != nil {
		return nil
	}
	n := strings.Trim(string(got.PartialSuccess.Rejected), `"`) // 64-bit numbers travel as text
	if n == "" || n == "0" || n == "null" {
		return nil
	}
	return fmt.Errorf("it rejected the record: %.200s", got.PartialSuccess.Message)
}

// The messages of OTLP that are needed, in their JSON form.
type (
	exportRequest struct {
		ResourceLogs []resourceLogs `json:"resourceLogs"`
	}
	resourceLogs struct {
		Resource  attributes  `json:"resource"`
		ScopeLogs []scopeLogs `json:"scopeLogs"`
	}
	scopeLogs struct {
		Scope      scope       `json:"scope"`
		LogRecords []logRecord `json:"logRecords"`
	}
	scope struct {
		Name string `json:"name"`
	}
	attributes struct {
		Attributes []attribute `json:"attributes"`
	}
	logRecord struct {
		TimeUnixNano         string      `json:"timeUnixNano"`
		ObservedTimeUnixNano string      `json:"observedTimeUnixNano"`
		SeverityNumber       int         `json:"severityNumber"`
		SeverityText         string      `json:"severityText"`
		EventName            string      `json:"eventName"`
		Body                 value       `json:"body"`
		Attributes           []attribute `json:"attributes"`
	}
	attribute struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		String string `json:"stringValue,omitempty"`
		Int    string `json:"intValue,omitempty"`
	}
)

func (a *OTLP) request(c audit.Checkpoint, now time.Time) exportRequest {
	const severityInfo = 9
	service := a.Service
	if service == "" {
		service = "kaizen"
	}
	origin, _, _ := strings.Cut(c.Note, "\n")
	at := strconv.FormatInt(now.UnixNano(), 10)
	record := logRecord{
		TimeUnixNano: at, ObservedTimeUnixNano: at, SeverityNumber: severityInfo, SeverityText: "INFO", EventName: EventName,
		Body: value{String: c.Note},
		Attributes: []attribute{
			{"kaizen.audit.origin", value{String: origin}},
			{"kaizen.audit.size", value{Int: strconv.FormatInt(c.Size, 10)}},
			{"kaizen.audit.root", value{String: base64.StdEncoding.EncodeToString(c.Root[:])}},
		},
	}
	return exportRequest{[]resourceLogs{{
		Resource:  attributes{[]attribute{{"service.name", value{String: service}}}},
		ScopeLogs: []scopeLogs{{scope{"github.com/kaizen-go/kaizen/audit"}, []logRecord{record}}},
	}}}
}

// Target says "otlp": what [Target] returns.
func (a *OTLP) Target() string { return "otlp" }
