package kaizen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/anchor"
	"github.com/kaizen-go/kaizen/internal/runctx"
	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/otlp"
	"github.com/kaizen-go/kaizen/redact"
)

// auditQueue bounds the entries that wait for the local ledger. It holds what a
// busy agent does in about a second.
const auditQueue = 4096

// ErrNoLedger says that there is neither a local ledger nor a server to append to.
var ErrNoLedger = errors.New("no audit ledger: set AuditDir or Server")

// Auditor is the way to the audit ledger: one in a directory of this process,
// or the server's. Ids of the run and span in the context are filled in, and
// details are redacted.
type Auditor struct {
	redact  *redact.Redactor
	metrics *metrics.Metrics
	service string // who acted, outside of any run
	durable bool

	// One of the two is set, or neither.
	ledger *audit.Ledger
	remote *remoteLedger

	queue   chan queued
	flushes chan chan struct{}
	posts   chan struct{} // one for each promise that is on its way to the server
	cancel  chan struct{} // closed when those have to give up
	stop    chan struct{}
	stopped sync.WaitGroup
	closing sync.RWMutex // held by whoever queues a promise
	closed  bool         // guarded by closing
	dropped atomic.Int64
	failure atomic.Pointer[error]
}

// remoteLedger appends to the ledger of a server.
type remoteLedger struct {
	url    string
	key    string
	client *http.Client
	lines  *otlp.Lines
}

// newAuditor returns the way to the ledger of o, or else to its server's.
func newAuditor(o *Observer, r *redact.Redactor) (*Auditor, error) {
	a := &Auditor{redact: r, metrics: o.metrics, service: o.cfg.ServiceName, durable: o.cfg.DurableAudit, ledger: o.ledger}
	switch {
	case o.cfg.Off&Audit != 0:
	case o.ledger != nil:
		a.queue = make(chan queued, auditQueue)
		a.flushes, a.stop = make(chan chan struct{}), make(chan struct{})
		a.stopped.Go(a.work)
	case o.cfg.Server != "":
		url := o.cfg.Server + "/api/audit"
		client := o.cfg.HTTPClient
		if client == nil {
			client = &http.Client{Timeout: 30 * time.Second}
		}
		a.posts, a.cancel = make(chan struct{}, maxPosts), make(chan struct{})
		a.remote = &remoteLedger{url: url, key: o.cfg.APIKey, client: client, lines: o.exporter.NewLines(url)}
	case a.durable:
		return nil, fmt.Errorf("kaizen: start audit: durable audit was asked for: %w", ErrNoLedger)
	}
	return a, nil
}

// ledgerConfig makes what is about a user forgettable: its entries are encrypted
// under a key of the user's own, but for what is not about a person.
func ledgerConfig(cfg Config, m *metrics.Metrics) audit.Config {
	return audit.Config{
		Logger: cfg.Logger, UsersAreSubjects: true, ClearDetails: audit.TechnicalDetails(),
		Anchors: anchor.Count(cfg.AuditAnchors, func(target, result string) { m.Count(metrics.AuditAnchors, target, result) }),
		Witness: anchor.CountWitness(cfg.AuditWitness, func(result string) { m.Count(metrics.AuditWitnessings, result) }),
	}
}

// Ledger returns the ledger in a directory of this process, or nil.
func (a *Auditor) Ledger() *audit.Ledger { return a.ledger }

// Record appends an entry and returns once it is durable, with the receipt that
// proves it. The error is [ErrNoLedger] without a ledger, an [*audit.EntryError]
// for a bad entry, or that of the ledger or the way to it.
func (a *Auditor) Record(ctx context.Context, e audit.Entry) (audit.Receipt, error) {
	e = a.complete(ctx, e)
	switch {
	case a.ledger != nil:
		return a.append(ctx, e)
	case a.remote != nil:
		return a.remote.append(ctx, e)
	}
	return audit.Receipt{}, fmt.Errorf("kaizen: audit %s: %w", e.Action, ErrNoLedger)
}

// Note queues an entry and returns at once. It is durable some milliseconds
// later; what is lost to a full queue or a failed ledger is counted in
// [Observer.Health], and the gap is itself an entry of the ledger. Without a
// ledger it does nothing.
func (a *Auditor) Note(ctx context.Context, e audit.Entry) {
	if a.active() {
		a.enqueue(a.complete(ctx, e))
	}
}

// active reports whether there is a ledger to append to.
func (a *Auditor) active() bool { return a.ledger != nil || a.remote != nil }

// note takes the entry of an event: its ids are there already.
func (a *Auditor) note(ctx context.Context, e audit.Entry) {
	e = a.finish(e)
	if !a.durable {
		a.enqueue(e)
		return
	}
	// Whoever stops waiting for the agent does not unmake what it did.
	ctx = context.WithoutCancel(ctx)
	var err error
	if a.ledger != nil {
		_, err = a.append(ctx, e)
	} else {
		_, err = a.remote.append(ctx, e)
	}
	if err != nil {
		a.lost(1, err)
	}
}

// complete adds what the context knows of the entry.
func (a *Auditor) complete(ctx context.Context, e audit.Entry) audit.Entry {
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	if run, ok := runctx.From(ctx); ok {
		fill(&e.AgentID, run.AgentID)
		fill(&e.RunID, run.RunID)
		fill(&e.SessionID, run.SessionID)
		fill(&e.UserID, run.UserID)
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		fill(&e.TraceID, sc.TraceID().String())
		fill(&e.SpanID, sc.SpanID().String())
	}
	return a.finish(e)
}

// finish gives the entry its id, time and redacted details.
func (a *Auditor) finish(e audit.Entry) audit.Entry {
	if e.AgentID == "" {
		e.AgentID = a.service
	}
	if e.ID == "" {
		e.ID = ulid.Make().String()
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC()
	e.Details = a.redacted(e.Details)
	e.Metadata = a.redacted(e.Metadata)
	return e
}

func (a *Auditor) redacted(m map[string]any) map[string]any {
	if len(m) == 0 {
		return m
	}
	clean, ok := a.redact.Value(m).(map[string]any)
	if !ok {
		return map[string]any{"error": "details could not be redacted"}
	}
	return clean
}

func (a *Auditor) enqueue(e audit.Entry) {
	if a.remote != nil {
		// The server refuses a whole batch for one bad entry, so none may leave.
		if err := audit.Appendable(e); err != nil {
			a.lost(1, err)
			return
		}
		line, err := json.Marshal(e)
		if err != nil {
			a.lost(1, err)
			return
		}
		a.remote.lines.Emit(line)
		return
	}
	select {
	case a.queue <- queued{entry: e}:
	default:
		a.lost(1, errQueueFull)
	}
}

// append appends one entry to the local ledger and counts it.
func (a *Auditor) append(ctx context.Context, e audit.Entry) (audit.Receipt, error) {
	start := time.Now()
	r, err := a.ledger.Append(ctx, e)
	a.counted(start, err, e)
	return r, err
}

func (a *Auditor) counted(start time.Time, err error, entries ...audit.Entry) {
	if err != nil {
		a.metrics.Add(metrics.AuditAppendFailures, float64(len(entries)), metrics.Exemplar{})
		return
	}
	a.metrics.ObserveDuration(metrics.AuditAppendDuration, time.Since(start), metrics.Exemplar{})
	for _, e := range entries {
		a.metrics.Count(metrics.AuditEntries, e.Action, string(e.Result), e.Severity)
	}
}

func (a *Auditor) lost(n int64, err error) {
	a.dropped.Add(n)
	a.failure.Store(&err)
	a.metrics.Add(metrics.TelemetryDropped, float64(n), metrics.Exemplar{}, "audit", "queue")
}

func (a *Auditor) health() (int64, error) {
	if p := a.failure.Load(); p != nil {
		return a.dropped.Load(), *p
	}
	return a.dropped.Load(), nil
}

// work appends queued entries in groups until stop is closed and the queue is
// empty. It owns nothing but the reported count of drops.
func (a *Auditor) work() {
	var reported int64
	for {
		select {
		case e := <-a.queue:
			a.appendGroup(e)
		case done := <-a.flushes:
			a.drain()
			close(done)
		case <-a.stop:
			a.drain()
			return
		}
		if n := a.dropped.Load(); n > reported && a.appendGap(n-reported) {
			reported = n
		}
	}
}

func (a *Auditor) drain() {
	for {
		select {
		case e := <-a.queue:
			a.appendGroup(e)
		default:
			return
		}
	}
}

// appendGroup appends first and what else waits, in one call of the ledger. If
// an entry is refused the others are not lost with it.
func (a *Auditor) appendGroup(first queued) {
	group := []queued{first}
	for len(group) < 256 && len(a.queue) > 0 {
		group = append(group, <-a.queue)
	}
	entries := make([]audit.Entry, len(group))
	for i, q := range group {
		entries[i] = q.entry
	}
	start := time.Now()
	receipts, err := a.ledger.AppendBatch(context.Background(), entries)
	var bad *audit.EntryError
	if len(group) > 1 && errors.As(err, &bad) {
		for _, q := range group {
			r, err := a.append(context.Background(), q.entry)
			q.promise.resolve(r, err)
			if err != nil {
				a.lost(1, err)
			}
		}
		return
	}
	a.counted(start, err, entries...)
	for i, q := range group {
		var r audit.Receipt
		if err == nil {
			r = receipts[i]
		}
		q.promise.resolve(r, err)
	}
	if err != nil {
		a.lost(int64(len(group)), err)
	}
}

// appendGap leaves a trace of entries that are missing.
func (a *Auditor) appendGap(n int64) bool {
	_, err := a.append(context.Background(), audit.Entry{
		ID: ulid.Make().String(), Time: time.Now().UTC(), AgentID: "kaizen", Action: "audit_gap",
		Result: audit.Failure, Severity: "critical", Details: map[string]any{"entries_lost": n},
	})
	return err == nil
}

func (a *Auditor) flush(ctx context.Context) error {
	if a.ledger == nil {
		return nil // the exporter flushes the way to the server
	}
	done := make(chan struct{})
	select {
	case a.flushes <- done:
	case <-a.stop:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kaizen: flush audit: %w", context.Cause(ctx))
	}
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("kaizen: flush audit: %w", context.Cause(ctx))
	}
	return a.ledger.Flush(ctx)
}

func (a *Auditor) close(ctx context.Context) error {
	a.closing.Lock()
	a.closed = true // every promise is kept or broken: none may be queued behind the last look
	a.closing.Unlock()
	if a.stop != nil {
		close(a.stop)
	}
	if a.cancel != nil {
		stop := context.AfterFunc(ctx, func() { close(a.cancel) })
		defer stop()
	}
	a.stopped.Wait()
	return nil
}

// append posts one entry and waits for the server's receipt.
func (r *remoteLedger) append(ctx context.Context, e audit.Entry) (audit.Receipt, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return audit.Receipt{}, fmt.Errorf("kaizen: audit %s: %w", e.Action, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return audit.Receipt{}, fmt.Errorf("kaizen: audit %s: %w", e.Action, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if r.key != "" {
		req.Header.Set("Authorization", "Bearer "+r.key)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return audit.Receipt{}, fmt.Errorf("kaizen: audit %s: %w", e.Action, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return audit.Receipt{}, fmt.Errorf("kaizen: audit %s: %w", e.Action, err)
	}
	if resp.StatusCode != http.StatusOK {
		return audit.Receipt{}, fmt.Errorf("kaizen: audit %s: server answered %s: %s", e.Action, resp.Status, bytes.TrimSpace(answer))
	}
	return decodeReceipt(answer)
}

// decodeReceipt reads the server's answer to an append of one entry.
func decodeReceipt(b []byte) (audit.Receipt, error) {
	var answer struct {
		Receipts []struct {
			Index      int64   `json:"index"`
			ID         string  `json:"id"`
			LeafHash   hexHash `json:"leaf_hash"`
			Size       int64   `json:"size"`
			Root       hexHash `json:"root"`
			Checkpoint string  `json:"checkpoint"`
			Duplicate  bool    `json:"duplicate"`
		} `json:"receipts"`
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return audit.Receipt{}, fmt.Errorf("kaizen: audit: receipt: %w", err)
	}
	if len(answer.Receipts) != 1 {
		return audit.Receipt{}, fmt.Errorf("kaizen: audit: %d receipts for one entry", len(answer.Receipts))
	}
	r := answer.Receipts[0]
	return audit.Receipt{
		Index: r.Index, ID: r.ID, LeafHash: r.LeafHash, Duplicate: r.Duplicate,
		Checkpoint: audit.Checkpoint{Size: r.Size, Root: r.Root, Note: r.Checkpoint},
	}, nil
}
