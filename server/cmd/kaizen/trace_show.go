package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// span is a span as /api/traces/{id} describes it, as far as the tree shows it.
type span struct {
	SpanID        string    `json:"span_id"`
	ParentID      string    `json:"parent_span_id"`
	Name          string    `json:"name"`
	Kind          string    `json:"kind"`
	Start         time.Time `json:"start"`
	DurationMS    *float64  `json:"duration_ms"`
	Status        string    `json:"status"`
	StatusMessage string    `json:"status_message"`
	ErrorType     string    `json:"error_type"`
	Tokens        *tokens   `json:"tokens"`
	CostUSD       *float64  `json:"cost_usd"`
}

func newTraceShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show TRACE_ID",
		Short:   "Show one trace as a tree",
		Example: "  kaizen trace show 4bf92f3577b34da6a3ce929d0e0e4736",
		Args:    cobra.ExactArgs(1),
	}
	src := addSource(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the trace as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id := strings.ToLower(args[0])
		if !isTraceID(id) {
			return usage(fmt.Errorf("trace id %q is not 32 hexadecimal digits", args[0]), "kaizen trace list shows the ids")
		}
		return withClient(cmd, src, func(c *client) error {
			if asJSON {
				body, err := c.raw(cmd.Context(), "/api/traces/"+id, nil)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(body)))
				return err
			}
			var answer struct {
				Trace traceSummary `json:"trace"`
				Spans []span       `json:"spans"`
			}
			if err := c.get(cmd.Context(), "/api/traces/"+id, nil, &answer); err != nil {
				return err
			}
			return printTrace(cmd.OutOrStdout(), answer.Trace, answer.Spans)
		})
	}
	return cmd
}

func isTraceID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

// printTrace writes a line about the trace, then its spans as a tree.
func printTrace(w io.Writer, s traceSummary, spans []span) error {
	cells := s.cells()
	_, err := fmt.Fprintf(w, "trace %s  %s  %s\n%s, %s, %d spans, %d model calls, %d tool calls, %d tokens, %s, %d log records, %d audit entries\n\n",
		s.TraceID, clean(s.Name), s.Status, stamp(s.Start), ms(s.DurationMS), s.Spans, s.ModelCalls, s.ToolCalls,
		s.Tokens.total(), cells[len(cells)-1], s.LogRecords, s.AuditEntries)
	if err != nil {
		return err
	}
	t := newTable(w, "SPAN", "KIND", "STATUS", "DURATION", "TOKENS", "COST", "ERROR")
	for _, n := range tree(spans) {
		t.row(n.indent+n.span.Name, n.span.Kind, n.span.Status, ms(n.span.DurationMS), n.span.tokens(), n.span.cost(), n.span.problem())
	}
	return t.flush()
}

// treeLine is a span with the branches drawn before its name.
type treeLine struct {
	indent string
	span   span
}

// tree puts spans below their parents. A span whose parent is not among them
// stands at the top, and so does one that is its own ancestor: broken senders
// exist, and every span has to show once.
func tree(spans []span) []treeLine {
	present := make(map[string]bool, len(spans))
	for _, s := range spans {
		present[s.SpanID] = true
	}
	children := map[string][]span{}
	for _, s := range spans {
		parent := s.ParentID
		if !present[parent] || parent == s.SpanID {
			parent = ""
		}
		children[parent] = append(children[parent], s)
	}
	b := treeBuilder{children: children, seen: map[string]bool{}}
	b.below("", "", true)
	for _, s := range spans {
		if !b.seen[s.SpanID] { // part of a circle
			b.add(s, "", "", false)
		}
	}
	return b.lines
}

type treeBuilder struct {
	children map[string][]span
	seen     map[string]bool
	lines    []treeLine
}

// below adds the children of parent; stem is what stands before their branch.
func (b *treeBuilder) below(parent, stem string, top bool) {
	kids := b.children[parent]
	slices.SortStableFunc(kids, func(x, y span) int { return x.Start.Compare(y.Start) })
	for i, kid := range kids {
		switch {
		case top:
			b.add(kid, "", "", true)
		case i == len(kids)-1:
			b.add(kid, stem+"└─ ", stem+"   ", true)
		default:
			b.add(kid, stem+"├─ ", stem+"│  ", true)
		}
	}
}

// add adds s and what is below it. Each span is added once.
func (b *treeBuilder) add(s span, indent, stem string, deep bool) {
	if b.seen[s.SpanID] {
		return
	}
	b.seen[s.SpanID] = true
	b.lines = append(b.lines, treeLine{indent, s})
	if deep {
		b.below(s.SpanID, stem, false)
	}
}

func (s span) tokens() string {
	if s.Tokens == nil {
		return "-"
	}
	return count(s.Tokens.total())
}

func (s span) cost() string {
	if s.CostUSD == nil {
		return "-"
	}
	return usd(*s.CostUSD)
}

// problem is the first line of what went wrong.
func (s span) problem() string {
	text, _, _ := strings.Cut(s.StatusMessage, "\n")
	switch {
	case s.ErrorType == "":
		return text
	case text == "":
		return s.ErrorType
	}
	return s.ErrorType + ": " + text
}
