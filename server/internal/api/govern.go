package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// governor is a ledger that can forget and hold. *audit.Ledger is one; a
// ledger that is only read is not.
type governor interface {
	Erase(ctx context.Context, x audit.Erasure) (audit.ErasureReceipt, error)
	Hold(ctx context.Context, h audit.Hold) (audit.Hold, audit.Receipt, error)
	Release(ctx context.Context, x audit.Release) (audit.Receipt, error)
}

// maxOrderBytes bounds the body of an erasure, a hold or a release.
const maxOrderBytes = 64 << 10

// readOrder decodes a small JSON object, strictly: a misspelt field must not
// make a hold wider.
func readOrder(r *http.Request, into any) error {
	body := http.MaxBytesReader(nil, r.Body, maxOrderBytes)
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = errors.New("something after the object")
		}
	}
	if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
		return &apiError{http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("body larger than %d bytes", maxOrderBytes)}
	}
	if err != nil {
		return badRequest("body is not the JSON object expected: %v", err)
	}
	return nil
}

func (a *api) governor() (governor, error) {
	if a.cfg.Ledger == nil {
		return nil, errNoLedger
	}
	g, ok := a.cfg.Ledger.(governor)
	if !ok {
		return nil, &apiError{http.StatusServiceUnavailable, codeUnavailable, "the audit ledger is open for reading only"}
	}
	return g, nil
}

func receiptOf(g audit.Receipt) receipt {
	return receipt{
		Index: g.Index, ID: g.ID, LeafHash: hex.EncodeToString(g.LeafHash[:]),
		Size: g.Checkpoint.Size, Root: hex.EncodeToString(g.Checkpoint.Root[:]), Checkpoint: g.Checkpoint.Note,
	}
}

// erasure is the answer of POST /api/audit/erase.
type erasure struct {
	// Found is false if nothing is encrypted for that subject.
	Found   bool   `json:"found"`
	Token   string `json:"token,omitempty"`
	Entries int64  `json:"entries"`
	First   int64  `json:"first"`
	Last    int64  `json:"last"`
	// Clear counts entries that name the user in clear, which stay.
	Clear   int64      `json:"clear"`
	Time    *time.Time `json:"time,omitempty"`
	Receipt *receipt   `json:"receipt,omitempty"`
}

func (a *api) erase(r *http.Request, _ params) (any, error) {
	g, err := a.governor()
	if err != nil {
		return nil, err
	}
	var order struct {
		Subject   string `json:"subject"`
		Reason    string `json:"reason"`
		Authority string `json:"authority"`
	}
	if err := readOrder(r, &order); err != nil {
		return nil, err
	}
	x, err := g.Erase(r.Context(), audit.Erasure{Subject: order.Subject, Reason: order.Reason, Authority: order.Authority})
	if err != nil {
		return nil, fmt.Errorf("api: erase: %w", err)
	}
	out := erasure{Found: x.Found, Token: x.Token, Entries: x.Entries, First: x.First, Last: x.Last, Clear: x.Clear}
	if x.Found {
		out.Time, out.Receipt = &x.Time, new(receiptOf(x.Receipt))
	}
	return out, nil
}

// hold is a legal hold, as it is placed and listed.
type hold struct {
	ID        string     `json:"id"`
	Agent     string     `json:"agent,omitempty"`
	User      string     `json:"user,omitempty"`
	Subject   string     `json:"subject,omitempty"`
	Session   string     `json:"session,omitempty"`
	Run       string     `json:"run,omitempty"`
	Trace     string     `json:"trace,omitempty"`
	Since     *time.Time `json:"since,omitempty"`
	Until     *time.Time `json:"until,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Authority string     `json:"authority,omitempty"`
	Placed    time.Time  `json:"placed"`
	Index     int64      `json:"index"`
}

func holdOf(h audit.Hold) hold {
	out := hold{
		ID: h.ID, Agent: h.AgentID, User: h.UserID, Subject: h.Subject, Session: h.SessionID, Run: h.RunID, Trace: h.TraceID,
		Reason: h.Reason, Authority: h.Authority, Placed: h.Placed, Index: h.Index,
	}
	if !h.Since.IsZero() {
		out.Since = &h.Since
	}
	if !h.Until.IsZero() {
		out.Until = &h.Until
	}
	return out
}

// placed is the answer of POST /api/audit/hold.
type placed struct {
	Hold    hold    `json:"hold"`
	Receipt receipt `json:"receipt"`
}

func (a *api) hold(r *http.Request, _ params) (any, error) {
	g, err := a.governor()
	if err != nil {
		return nil, err
	}
	var order struct {
		ID        string    `json:"id"`
		Agent     string    `json:"agent"`
		User      string    `json:"user"`
		Subject   string    `json:"subject"`
		Session   string    `json:"session"`
		Run       string    `json:"run"`
		Trace     string    `json:"trace"`
		Since     time.Time `json:"since"`
		Until     time.Time `json:"until"`
		All       bool      `json:"all"`
		Reason    string    `json:"reason"`
		Authority string    `json:"authority"`
	}
	if err := readOrder(r, &order); err != nil {
		return nil, err
	}
	h := audit.Hold{
		ID: order.ID, AgentID: order.Agent, UserID: order.User, Subject: order.Subject, SessionID: order.Session, RunID: order.Run,
		TraceID: order.Trace, Since: order.Since, Until: order.Until, Reason: order.Reason, Authority: order.Authority,
	}
	if bare := (audit.Hold{ID: h.ID, Reason: h.Reason, Authority: h.Authority}); (h == bare) != order.All {
		return nil, badRequest(`a hold selects something, or has "all": true`)
	}
	h, got, err := g.Hold(r.Context(), h)
	if err != nil {
		return nil, fmt.Errorf("api: hold: %w", err)
	}
	return placed{holdOf(h), receiptOf(got)}, nil
}

// released is the answer of POST /api/audit/release.
type released struct {
	Receipt receipt `json:"receipt"`
}

func (a *api) release(r *http.Request, _ params) (any, error) {
	g, err := a.governor()
	if err != nil {
		return nil, err
	}
	var order struct {
		ID        string `json:"id"`
		Reason    string `json:"reason"`
		Authority string `json:"authority"`
	}
	if err := readOrder(r, &order); err != nil {
		return nil, err
	}
	got, err := g.Release(r.Context(), audit.Release{ID: order.ID, Reason: order.Reason, Authority: order.Authority})
	if err != nil {
		return nil, fmt.Errorf("api: release: %w", err)
	}
	return released{receiptOf(got)}, nil
}

// holdList is the answer of GET /api/audit/holds.
type holdList struct {
	Holds []hold `json:"holds"`
}

func (a *api) holds(*http.Request, params) (any, error) {
	if a.cfg.Ledger == nil {
		return nil, errNoLedger
	}
	l, ok := a.cfg.Ledger.(interface{ Holds() []audit.Hold })
	if !ok {
		return nil, &apiError{http.StatusServiceUnavailable, codeUnavailable, "this audit ledger knows no holds"}
	}
	list := holdList{[]hold{}}
	for _, h := range l.Holds() {
		list.Holds = append(list.Holds, holdOf(h))
	}
	return list, nil
}
