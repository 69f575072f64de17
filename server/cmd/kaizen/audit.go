package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server"
)

func newAudit() *cobra.Command {
	return group("audit", "Read and check the audit ledger",
		`audit reads the ledger of what agents did, and checks that it is what was signed.
It can also forget a person, and hold what must not be forgotten.
Reading and checking need no server: --data names a data directory or a
ledger's own directory, also one that a server or an agent is writing to.`,
		newAuditVerify(), newAuditQuery(), newAuditProve(), newAuditCheck(), newAuditTail(),
		newAuditErase(), newAuditHold(), newAuditRelease(), newAuditHolds(),
		newAuditConsistency(), newAuditTiles(), newAuditCompare(), newAuditAcceptRestore(),
		newAuditRotateKey(), newAuditCopy(), newAuditMove(),
		newAuditRetention(), newAuditSeal(), newAuditArchive(), newAuditSegments(), newAuditExport())
}

// ledger is what the subcommands read: a directory, or a server's API.
type ledger interface {
	// query yields the entries that q selects, in its order.
	query(ctx context.Context, q audit.Query) iter.Seq2[entry, error]
	count(ctx context.Context, q audit.Query) (int64, error)
	// group counts the entries for each value of a field, the top largest.
	group(ctx context.Context, q audit.Query, by string, top int) ([]groupCount, error)
	// proof returns the proof file of one entry.
	proof(ctx context.Context, index int64) ([]byte, error)
	// size returns the number of entries, as of now.
	size(ctx context.Context) (int64, error)
	close() error
}

// entry is an entry with the JSON that it came as.
type entry struct {
	audit.Entry
	json []byte
}

// openLedger opens the ledger of src. A server that holds the directory is
// asked, since it knows the entries of this moment; if it does not answer, or
// wants a key that is not at hand, the files are read.
func openLedger(ctx context.Context, src *source) (ledger, error) {
	src.settle()
	if src.server != "" {
		c, err := newClient(src.server)
		if err != nil {
			return nil, err
		}
		return apiLedger{c}, nil
	}
	if !src.chosen {
		if err := src.checkDir(); err != nil {
			return nil, err
		}
	}
	if l, ok := heldLedger(ctx, src.data); ok {
		return l, nil
	}
	dir, err := ledgerDir(src.data)
	if err != nil {
		return nil, err
	}
	r, err := openReader(dir)
	if err != nil {
		return nil, err
	}
	return dirLedger{r, dir}, nil
}

// heldLedger returns the ledger of the server that holds dir, if it answers.
func heldLedger(ctx context.Context, dir string) (ledger, bool) {
	holder, held, err := server.FindHolder(dir)
	if err != nil || !held || holder.UI == "" {
		return nil, false
	}
	c, err := newClient(holder.UI)
	if err != nil {
		return nil, false
	}
	l := apiLedger{c}
	if _, err := l.size(ctx); err != nil {
		return nil, false
	}
	return l, true
}

// openReader opens the ledger in dir, telling a damaged one (1) from one that
// cannot be opened (3).
func openReader(dir string) (*audit.Reader, error) {
	r, err := audit.OpenReader(dir)
	if err == nil {
		return r, nil
	}
	if _, ok := errors.AsType[*audit.TamperError](err); ok {
		return nil, failed(err)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, environment(err, "there is no ledger in "+dir+": name a data directory, or a ledger's own")
	}
	return nil, environment(err, "")
}

// dirLedger reads files.
type dirLedger struct {
	r   *audit.Reader
	dir string
}

func (l dirLedger) query(ctx context.Context, q audit.Query) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		for e, err := range l.r.Query(ctx, q) {
			if err != nil {
				yield(entry{}, failed(err))
				return
			}
			text, err := entryJSON(e)
			if err != nil {
				yield(entry{}, failed(fmt.Errorf("entry %d: %w", e.Index, err)))
				return
			}
			if !yield(entry{e, text}, nil) {
				return
			}
		}
	}
}

// entryJSON is an entry as it prints: the stored line with the index in front,
// letter by letter, where nothing of it is encrypted.
func entryJSON(e audit.Entry) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(e)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func (l dirLedger) count(ctx context.Context, q audit.Query) (int64, error) {
	n, err := l.r.Count(ctx, q)
	if err != nil {
		return 0, failed(err)
	}
	return n, nil
}

// groupCount is how many entries have one value of a field.
type groupCount struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// groupFields are what --by may name.
var groupFields = map[string]audit.Field{
	"agent": audit.ByAgent, "user": audit.ByUser, "subject": audit.BySubject, "action": audit.ByAction, "result": audit.ByResult,
}

func (l dirLedger) group(ctx context.Context, q audit.Query, by string, top int) ([]groupCount, error) {
	counts, err := l.r.Group(ctx, q, groupFields[by], top)
	if err != nil {
		return nil, failed(err)
	}
	out := make([]groupCount, len(counts))
	for i, c := range counts {
		out[i] = groupCount{c.Value, c.Count}
	}
	return out, nil
}

func (l dirLedger) proof(_ context.Context, index int64) ([]byte, error) {
	p, err := l.r.Proof(index)
	if err != nil {
		return nil, failed(err)
	}
	return p.Marshal(), nil
}

func (l dirLedger) size(ctx context.Context) (int64, error) {
	if err := l.r.Refresh(ctx); err != nil {
		return 0, failed(err)
	}
	return l.r.Size(), nil
}

func (l dirLedger) close() error { return l.r.Close() }

// apiLedger asks a server.
type apiLedger struct{ c *client }

// apiQuery spells q as parameters of /api/audit.
func apiQuery(q audit.Query) url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"agent": q.AgentID, "user": q.UserID, "subject": q.Subject, "action": q.Action, "result": string(q.Result),
		"session": q.SessionID, "run": q.RunID, "trace": q.TraceID, "span": q.SpanID,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		v.Set("until", q.Until.Add(1).Format(time.RFC3339Nano)) // which the API leaves out
	}
	if q.Stored {
		v.Set("form", "stored")
	}
	return v
}

func (l apiLedger) query(ctx context.Context, q audit.Query) iter.Seq2[entry, error] {
	v := apiQuery(q)
	if q.Descending {
		v.Set("order", "desc")
	}
	return func(yield func(entry, error) bool) {
		err := l.c.list(ctx, "/api/audit", "entries", v, q.Limit, func(raw json.RawMessage) error {
			e := entry{json: raw}
			if err := json.Unmarshal(raw, &e.Entry); err != nil {
				return failed(fmt.Errorf("an entry of the answer: %w", err))
			}
			if !yield(e, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(entry{}, err)
		}
	}
}

// errStop ends a listing whose reader has enough.
var errStop = errors.New("enough")

func (l apiLedger) count(ctx context.Context, q audit.Query) (int64, error) {
	v := apiQuery(q)
	v.Set("count", "true")
	var answer struct {
		Count int64 `json:"count"`
	}
	err := l.c.get(ctx, "/api/audit", v, &answer)
	return answer.Count, err
}

func (l apiLedger) group(ctx context.Context, q audit.Query, by string, top int) ([]groupCount, error) {
	v := apiQuery(q)
	v.Set("by", by)
	v.Set("top", strconv.Itoa(top))
	var answer struct {
		Groups []groupCount `json:"groups"`
	}
	err := l.c.get(ctx, "/api/audit", v, &answer)
	return answer.Groups, err
}

func (l apiLedger) proof(ctx context.Context, index int64) ([]byte, error) {
	return l.c.raw(ctx, "/api/audit/proof/"+strconv.FormatInt(index, 10), nil)
}

func (l apiLedger) size(ctx context.Context) (int64, error) {
	var head remoteHead
	err := l.c.get(ctx, "/api/audit/checkpoint", nil, &head)
	return head.Size, err
}

func (l apiLedger) close() error { return l.c.close() }

// entryFilter is the flags that select entries.
type entryFilter struct {
	agent, user, subject, action, result, session, run, trace, span string

	period period
}

func addEntryFilter(cmd *cobra.Command) *entryFilter {
	f := &entryFilter{}
	for _, def := range []struct {
		value      *string
		name, help string
	}{
		{&f.agent, "agent", "of this agent"},
		{&f.user, "user", "of this user"},
		{&f.subject, "subject", "with personal data of this subject (a name, or the token of an erased one)"},
		{&f.action, "action", "with this action"},
		{&f.result, "result", "with this result: success, failure or denied"},
		{&f.session, "session", "of this session"},
		{&f.run, "run", "of this run"},
		{&f.trace, "trace", "of this trace: 32 hexadecimal digits"},
		{&f.span, "span", "of this span: 16 hexadecimal digits"},
		{&f.period.since, "since", "not before this time (RFC 3339, or a duration ago such as 24h)"},
		{&f.period.until, "until", "not after this time"},
	} {
		cmd.Flags().StringVar(def.value, def.name, "", def.help)
	}
	return f
}

func (f *entryFilter) query(now time.Time) (audit.Query, error) {
	results := []string{"", string(audit.Success), string(audit.Failure), string(audit.Denied)}
	if !slices.Contains(results, f.result) {
		return audit.Query{}, usage(fmt.Errorf("--result %q is not success, failure or denied", f.result), "")
	}
	q := audit.Query{
		AgentID: f.agent, UserID: f.user, Subject: f.subject, Action: f.action, Result: audit.Result(f.result),
		SessionID: f.session, RunID: f.run,
	}
	var err error
	if q.TraceID, err = hexID("trace", f.trace, 32); err != nil {
		return audit.Query{}, err
	}
	if q.SpanID, err = hexID("span", f.span, 16); err != nil {
		return audit.Query{}, err
	}
	if q.Since, q.Until, err = f.period.times(now); err != nil {
		return audit.Query{}, err
	}
	return q, nil
}

// hexID is the id that a flag names, as entries spell it. No entry has one that
// is not of so many digits, or zero.
func hexID(flag, text string, digits int) (string, error) {
	if text == "" {
		return "", nil
	}
	if b, err := hex.DecodeString(text); err != nil || len(text) != digits || bytes.Count(b, []byte{0}) == len(b) {
		return "", usage(fmt.Errorf("--%s %q is not %d hexadecimal digits, or all zeros", flag, text, digits), "")
	}
	return strings.ToLower(text), nil
}

// withLedger opens the ledger of src, runs do and closes it.
func withLedger(ctx context.Context, src *source, do func(ledger) error) error {
	l, err := openLedger(ctx, src)
	if err != nil {
		return err
	}
	err = do(l)
	if closeErr := l.close(); err == nil && closeErr != nil {
		return environment(closeErr, "")
	}
	return err
}
