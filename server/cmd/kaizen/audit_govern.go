package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
)

// heldAdvice is the next step for who is refused because of a hold.
const heldAdvice = "kaizen audit holds lists the holds, kaizen audit release ID ends one"

// receiptAnswer is what the API says of an entry that was written.
type receiptAnswer struct {
	Index      int64  `json:"index"`
	ID         string `json:"id"`
	LeafHash   string `json:"leaf_hash"`
	Size       int64  `json:"size"`
	Root       string `json:"root"`
	Checkpoint string `json:"checkpoint,omitempty"`
}

func receiptOf(r audit.Receipt) receiptAnswer {
	return receiptAnswer{
		Index: r.Index, ID: r.ID, LeafHash: hex.EncodeToString(r.LeafHash[:]),
		Size: r.Checkpoint.Size, Root: hex.EncodeToString(r.Checkpoint.Root[:]), Checkpoint: r.Checkpoint.Note,
	}
}

// erasureAnswer is the answer of POST /api/audit/erase.
type erasureAnswer struct {
	Found   bool           `json:"found"`
	Token   string         `json:"token,omitempty"`
	Entries int64          `json:"entries"`
	First   int64          `json:"first"`
	Last    int64          `json:"last"`
	Clear   int64          `json:"clear"`
	Time    *time.Time     `json:"time,omitempty"`
	Receipt *receiptAnswer `json:"receipt,omitempty"`
}

// holdAnswer is a hold as the API has it; without placed and index it is the
// body of POST /api/audit/hold.
type holdAnswer struct {
	ID        string     `json:"id,omitempty"`
	Agent     string     `json:"agent,omitempty"`
	User      string     `json:"user,omitempty"`
	Subject   string     `json:"subject,omitempty"`
	Session   string     `json:"session,omitempty"`
	Run       string     `json:"run,omitempty"`
	Trace     string     `json:"trace,omitempty"`
	Since     *time.Time `json:"since,omitempty"`
	Until     *time.Time `json:"until,omitempty"`
	All       bool       `json:"all,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Authority string     `json:"authority,omitempty"`
	Placed    *time.Time `json:"placed,omitempty"`
	Index     *int64     `json:"index,omitempty"`
}

func holdOf(h audit.Hold) holdAnswer {
	out := holdAnswer{
		ID: h.ID, Agent: h.AgentID, User: h.UserID, Subject: h.Subject, Session: h.SessionID, Run: h.RunID, Trace: h.TraceID,
		Reason: h.Reason, Authority: h.Authority, Placed: &h.Placed, Index: &h.Index,
	}
	if !h.Since.IsZero() {
		out.Since = &h.Since
	}
	if !h.Until.IsZero() {
		out.Until = &h.Until
	}
	return out
}

func (h *holdAnswer) hold() audit.Hold {
	out := audit.Hold{
		ID: h.ID, AgentID: h.Agent, UserID: h.User, Subject: h.Subject, SessionID: h.Session, RunID: h.Run, TraceID: h.Trace,
		Reason: h.Reason, Authority: h.Authority,
	}
	if h.Since != nil {
		out.Since = *h.Since
	}
	if h.Until != nil {
		out.Until = *h.Until
	}
	return out
}

// selects says what the hold is on.
func (h *holdAnswer) selects() string {
	var parts []string
	for _, f := range []struct{ name, value string }{
		{"agent", h.Agent}, {"user", h.User}, {"subject", h.Subject}, {"session", h.Session}, {"run", h.Run}, {"trace", h.Trace},
	} {
		if f.value != "" {
			parts = append(parts, f.name+" "+f.value)
		}
	}
	if h.Since != nil {
		parts = append(parts, "since "+h.Since.Format(time.RFC3339))
	}
	if h.Until != nil {
		parts = append(parts, "until "+h.Until.Format(time.RFC3339))
	}
	if len(parts) == 0 {
		return "everything"
	}
	return strings.Join(parts, ", ")
}

// governed is a ledger that can be told to forget, to hold, and what to keep.
type governed interface {
	erase(ctx context.Context, x audit.Erasure) (erasureAnswer, error)
	hold(ctx context.Context, h holdAnswer) (holdAnswer, receiptAnswer, error)
	release(ctx context.Context, x audit.Release) (receiptAnswer, error)
	// prune removes what limits do not keep; zero limits are the configured ones.
	prune(ctx context.Context, limits audit.Retention, dryRun bool) (pruneAnswer, error)
	seal(ctx context.Context) ([]segmentAnswer, error)
	// archive copies sealed segments to a place; "" is the configured one.
	archive(ctx context.Context, to string) (archiveAnswer, error)
	close() error
}

// withGoverned runs do on the ledger of src: through the server that has it,
// or on the files, for which nobody else may have them.
func withGoverned(ctx context.Context, src *source, stderr io.Writer, do func(governed) error) error {
	g, err := openGoverned(ctx, src, stderr)
	if err != nil {
		return err
	}
	err = do(g)
	if closeErr := g.close(); closeErr != nil {
		err = errors.Join(err, environment(closeErr, ""))
	}
	return err
}

func openGoverned(ctx context.Context, src *source, stderr io.Writer) (governed, error) {
	src.settle()
	if src.server != "" {
		c, err := newClient(src.server)
		if err != nil {
			return nil, err
		}
		return apiGoverned{c}, nil
	}
	if !src.chosen {
		if err := src.checkDir(); err != nil {
			return nil, err
		}
	}
	if l, ok := heldLedger(ctx, src.data); ok {
		return apiGoverned{l.(apiLedger).c}, nil
	}
	dir, err := ledgerDir(src.data)
	if err != nil {
		return nil, err
	}
	return openGovernedDir(dir, startProgress(stderr, ""))
}

func openGovernedDir(dir string, show *progress) (governed, error) {
	l, err := audit.Open(dir, audit.Config{
		Logger:   slog.New(slog.NewTextHandler(show.w, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Progress: show.work,
	})
	if err != nil {
		show.end()
	}
	if _, bad := errors.AsType[*audit.TamperError](err); bad {
		return nil, failed(err)
	}
	if err != nil {
		_, advice := classify(err)
		return nil, environment(err, advice)
	}
	return dirGoverned{l, show}, nil
}

// dirGoverned works on files. Each method shows how far it is until it returns.
type dirGoverned struct {
	l    *audit.Ledger
	show *progress
}

func (g dirGoverned) close() error {
	g.show.end()
	return g.l.Close()
}

func (g dirGoverned) erase(ctx context.Context, x audit.Erasure) (erasureAnswer, error) {
	defer g.show.end()
	r, err := g.l.Erase(ctx, x)
	out := erasureAnswer{Found: r.Found, Token: r.Token, Entries: r.Entries, First: r.First, Last: r.Last, Clear: r.Clear}
	if r.Found {
		out.Time, out.Receipt = &r.Time, new(receiptOf(r.Receipt))
	}
	return out, refused(err)
}

func (g dirGoverned) hold(ctx context.Context, h holdAnswer) (holdAnswer, receiptAnswer, error) {
	defer g.show.end()
	placed, r, err := g.l.Hold(ctx, h.hold())
	return holdOf(placed), receiptOf(r), refused(err)
}

func (g dirGoverned) release(ctx context.Context, x audit.Release) (receiptAnswer, error) {
	defer g.show.end()
	r, err := g.l.Release(ctx, x)
	return receiptOf(r), refused(err)
}

// refused gives an error of the ledger its exit code.
func refused(err error) error {
	if err == nil {
		return nil
	}
	if _, held := errors.AsType[*audit.HeldError](err); held {
		return &exitError{exitFailed, heldAdvice, err}
	}
	if _, bad := errors.AsType[*audit.EntryError](err); bad {
		return usage(err, "")
	}
	if noRoom(err) {
		return environment(err, "")
	}
	return failed(err)
}

// apiGoverned asks a server.
type apiGoverned struct{ c *client }

func (g apiGoverned) close() error { return g.c.close() }

// orderBody is an erasure or a release as the API wants it.
type orderBody struct {
	Subject   string `json:"subject,omitempty"`
	ID        string `json:"id,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Authority string `json:"authority,omitempty"`
}

func (g apiGoverned) erase(ctx context.Context, x audit.Erasure) (out erasureAnswer, err error) {
	err = g.c.post(ctx, "/api/audit/erase", orderBody{Subject: x.Subject, Reason: x.Reason, Authority: x.Authority}, &out)
	return out, err
}

func (g apiGoverned) hold(ctx context.Context, h holdAnswer) (holdAnswer, receiptAnswer, error) {
	var out struct {
		Hold    holdAnswer    `json:"hold"`
		Receipt receiptAnswer `json:"receipt"`
	}
	err := g.c.post(ctx, "/api/audit/hold", h, &out)
	return out.Hold, out.Receipt, err
}

func (g apiGoverned) release(ctx context.Context, x audit.Release) (receiptAnswer, error) {
	var out struct {
		Receipt receiptAnswer `json:"receipt"`
	}
	err := g.c.post(ctx, "/api/audit/release", orderBody{ID: x.ID, Reason: x.Reason, Authority: x.Authority}, &out)
	return out.Receipt, err
}

// addWhy gives cmd the flags that say why and on whose order.
func addWhy(cmd *cobra.Command) (reason, authority *string) {
	reason = cmd.Flags().String("reason", "", "why; it stays in the ledger in clear, so name nobody")
	authority = cmd.Flags().String("authority", "", "on whose order")
	return reason, authority
}

func newAuditErase() *cobra.Command {
	var subject string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "erase --subject NAME",
		Short: "Forget a person: destroy the keys of their entries",
		Long: `erase makes what the ledger holds encrypted for a subject unreadable for good, in
this ledger and in every copy of it, by destroying the subject's keys. Entries,
hashes and proofs stay; the fields print as {"erased": true}. A signed receipt
is added to the ledger, which names the subject by a random token alone.

It cannot be undone. Copies of the key directory made before must be destroyed
too: docs/erasure.md says what is erased and what is not. Erasing again does
nothing. A subject on which a hold is cannot be erased (exit code 1).

Without --server it asks the server that holds the data directory, or works on
the files if none does. With --subject - the name is the first line of standard
input, so that it does not end up in the shell's history.`,
		Example: `  kaizen audit erase --subject u-17 --reason "request 2026-031" --authority "DPO"
  kaizen audit erase --subject - --server https://kaizen.example.org < name.txt`,
		Args: cobra.NoArgs,
	}
	src := addSource(cmd)
	reason, authority := addWhy(cmd)
	cmd.Flags().StringVar(&subject, "subject", "", "whom: the subject or user of the entries, or a token; - reads it from standard input")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the receipt as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		who, err := readSubject(cmd.InOrStdin(), subject)
		if err != nil {
			return err
		}
		return withGoverned(cmd.Context(), src, cmd.ErrOrStderr(), func(g governed) error {
			x, err := g.erase(cmd.Context(), audit.Erasure{Subject: who, Reason: *reason, Authority: *authority})
			if err != nil {
				return err
			}
			return printErasure(cmd, x, asJSON)
		})
	}
	return cmd
}

func readSubject(in io.Reader, flag string) (string, error) {
	if flag == "-" {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", environment(fmt.Errorf("read the subject: %w", err), "")
		}
		flag = strings.TrimRight(line, "\r\n")
	}
	if flag == "" {
		return "", usage(errors.New("whom to erase is not given"), "name the subject with --subject")
	}
	return flag, nil
}

func printErasure(cmd *cobra.Command, x erasureAnswer, asJSON bool) error {
	if x.Clear > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "kaizen: %d entries without a subject name this user in clear, and stay as they are: they go with retention\n", x.Clear)
	}
	out := cmd.OutOrStdout()
	if asJSON {
		return json.NewEncoder(out).Encode(x)
	}
	if !x.Found {
		_, err := fmt.Fprintln(out, "nothing is encrypted for that subject: it was erased before, or never seen")
		return err
	}
	covers := "no entries"
	if x.Entries > 0 {
		covers = fmt.Sprintf("%d entries from %d to %d", x.Entries, x.First, x.Last)
	}
	receipt := receiptAnswer{Index: -1}
	if x.Receipt != nil {
		receipt = *x.Receipt
	}
	_, err := fmt.Fprintf(out, "erased: %s, now of %s\nreceipt: entry %d (%s)\n", covers, clean(x.Token), receipt.Index, clean(receipt.ID))
	return err
}

func newAuditHold() *cobra.Command {
	var h holdAnswer
	var when period
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "hold [ID]",
		Short: "Place a legal hold: nothing that it is on is removed or erased",
		Long: `hold keeps entries from retention, and their subjects from erasure, until it is
released. It is on the entries that match all flags, present and future; a hold
on everything needs --all. Placing it is itself an entry of the ledger. Without
ID one is made up.`,
		Example: `  kaizen audit hold case-17 --agent planner --since 2026-01-01T00:00:00Z --reason "case 17" --authority counsel
  kaizen audit hold --user u-17`,
		Args: cobra.MaximumNArgs(1),
	}
	src := addSource(cmd)
	reason, authority := addWhy(cmd)
	for _, def := range []struct {
		value      *string
		name, help string
	}{
		{&h.Agent, "agent", "of this agent"}, {&h.User, "user", "of this user"},
		{&h.Subject, "subject", "with personal data of this subject"}, {&h.Session, "session", "of this session"},
		{&h.Run, "run", "of this run"}, {&h.Trace, "trace", "of this trace: 32 hexadecimal digits"},
		{&when.since, "since", "not before this time (RFC 3339, or a duration ago such as 24h)"}, {&when.until, "until", "not after this time"},
	} {
		cmd.Flags().StringVar(def.value, def.name, "", def.help)
	}
	cmd.Flags().BoolVar(&h.All, "all", false, "on everything")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the hold as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			h.ID = args[0]
		}
		h.Reason, h.Authority = *reason, *authority
		now := time.Now()
		since, until, err := when.times(now)
		if err != nil {
			return err
		}
		if h.Trace, err = hexID("trace", h.Trace, 32); err != nil {
			return err
		}
		if !since.IsZero() {
			h.Since = &since
		}
		if !until.IsZero() {
			h.Until = &until
		}
		if (h.selects() == "everything") != h.All {
			return usage(errors.New("a hold is on what its flags select, or with --all on everything"), "name at least one of --agent, --user, --subject, --session, --run, --trace, --since, --until")
		}
		return withGoverned(cmd.Context(), src, cmd.ErrOrStderr(), func(g governed) error {
			placed, receipt, err := g.hold(cmd.Context(), h)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"hold": placed, "receipt": receipt})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "held: %s, by hold %s (entry %d)\n", clean(placed.selects()), clean(placed.ID), receipt.Index)
			return err
		})
	}
	return cmd
}

func newAuditRelease() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "release ID",
		Short:   "End a legal hold",
		Long:    `release ends a hold. That is itself an entry of the ledger.`,
		Example: `  kaizen audit release case-17 --reason settled --authority counsel`,
		Args:    cobra.ExactArgs(1),
	}
	src := addSource(cmd)
	reason, authority := addWhy(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the receipt as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withGoverned(cmd.Context(), src, cmd.ErrOrStderr(), func(g governed) error {
			receipt, err := g.release(cmd.Context(), audit.Release{ID: args[0], Reason: *reason, Authority: *authority})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"receipt": receipt})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "released: hold %s (entry %d)\n", clean(args[0]), receipt.Index)
			return err
		})
	}
	return cmd
}

func newAuditHolds() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "holds",
		Short:   "List the active legal holds",
		Example: `  kaizen audit holds --json`,
		Args:    cobra.NoArgs,
	}
	src := addSource(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd.Context(), src, func(l ledger) error {
			list, err := holdsOf(cmd.Context(), l)
			if err != nil {
				return err
			}
			return printHolds(cmd.OutOrStdout(), list, asJSON)
		})
	}
	return cmd
}

func holdsOf(ctx context.Context, l ledger) ([]holdAnswer, error) {
	var list []holdAnswer
	switch l := l.(type) {
	case apiLedger:
		var answer struct {
			Holds []holdAnswer `json:"holds"`
		}
		err := l.c.get(ctx, "/api/audit/holds", nil, &answer)
		return answer.Holds, err
	case dirLedger:
		for _, h := range l.r.Holds() {
			list = append(list, holdOf(h))
		}
	}
	return list, nil
}

func printHolds(w io.Writer, list []holdAnswer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		for _, h := range list {
			if err := enc.Encode(h); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no hold is active")
		return err
	}
	for _, h := range list {
		line := fmt.Sprintf("%s: on %s", h.ID, h.selects())
		if h.Placed != nil && h.Index != nil {
			line += fmt.Sprintf("; placed %s, entry %d", h.Placed.Format(time.RFC3339), *h.Index)
		}
		for _, f := range []struct{ name, value string }{{"reason", h.Reason}, {"authority", h.Authority}} {
			if f.value != "" {
				line += "; " + f.name + " " + f.value
			}
		}
		if _, err := fmt.Fprintln(w, clean(line)); err != nil {
			return err
		}
	}
	return nil
}
