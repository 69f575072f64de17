package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/s3"
)

// segmentAnswer is a sealed segment as the API has it.
type segmentAnswer struct {
	Base    int64     `json:"base"`
	Entries int64     `json:"entries"`
	Bytes   int64     `json:"bytes"`
	Stored  int64     `json:"stored"`
	Oldest  time.Time `json:"oldest"`
	Newest  time.Time `json:"newest"`
	Pruned  bool      `json:"pruned"`
	Reason  string    `json:"reason,omitempty"`
	Held    string    `json:"held,omitempty"`
}

func segmentsOf(list []audit.SegmentInfo) []segmentAnswer {
	out := make([]segmentAnswer, len(list))
	for i, s := range list {
		out[i] = segmentAnswer(s)
	}
	return out
}

// pruneAnswer is the answer of POST /api/audit/retention.
type pruneAnswer struct {
	DryRun  bool            `json:"dry_run"`
	Removed []segmentAnswer `json:"removed"`
	Held    []segmentAnswer `json:"held"`
	Entries int64           `json:"entries"`
	Stored  int64           `json:"stored"`
}

// archiveAnswer is the answer of POST /api/audit/archive.
type archiveAnswer struct {
	Segments int   `json:"segments"`
	Bytes    int64 `json:"bytes"`
	Entries  int64 `json:"entries"`
}

func newAuditRetention() *cobra.Command {
	var dryRun, asJSON bool
	var maxAge string
	var maxBytes int64
	cmd := &cobra.Command{
		Use:   "retention",
		Short: "Remove the segments that need not be kept, or say which these are",
		Long: `retention removes the lines and the index of whole sealed segments that are older
than --max-age, or the oldest ones until the ledger's files take no more than
--max-bytes. The hashes of their entries stay, so every proof goes on to hold, and
an entry of the ledger says what was removed and why. What a hold is on stays.
The newest segment always stays: kaizen audit seal ends it.

Without --max-age and --max-bytes the limits are those of the server that holds
the data directory, or of KAIZEN_AUDIT_MAX_AGE and KAIZEN_AUDIT_MAX_BYTES. With
--dry-run nothing is changed.`,
		Example: `  kaizen audit retention --dry-run
  kaizen audit retention --max-age 365d --dry-run --json`,
		Args: cobra.NoArgs,
	}
	src := addSource(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing, and say what would be removed")
	cmd.Flags().StringVar(&maxAge, "max-age", "", "remove what is older, such as 8760h or 365d")
	cmd.Flags().Int64Var(&maxBytes, "max-bytes", 0, "remove the oldest until the files take no more")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		limits := audit.Retention{MaxBytes: maxBytes}
		if maxBytes < 0 {
			return usage(fmt.Errorf("--max-bytes %d is below zero", maxBytes), "")
		}
		if maxAge != "" {
			age, err := parseAgo(maxAge)
			if err != nil || age <= 0 {
				return usage(fmt.Errorf("--max-age %q is no duration above zero", maxAge), "write it like 8760h or 365d")
			}
			limits.MaxAge = age
		}
		return withGoverned(cmd.Context(), src, cmd.ErrOrStderr(), func(g governed) error {
			p, err := g.prune(cmd.Context(), limits, dryRun)
			if err != nil {
				return err
			}
			return printPrune(cmd.OutOrStdout(), p, asJSON)
		})
	}
	return cmd
}

// configuredRetention is what the environment says for a ledger whose files
// this process works on.
func configuredRetention() (audit.Retention, error) {
	var r audit.Retention
	if text := os.Getenv("KAIZEN_AUDIT_MAX_AGE"); text != "" {
		age, err := parseAgo(text)
		if err != nil {
			return r, usage(fmt.Errorf("KAIZEN_AUDIT_MAX_AGE %q is no duration", text), "write it like 8760h")
		}
		r.MaxAge = age
	}
	if text := os.Getenv("KAIZEN_AUDIT_MAX_BYTES"); text != "" {
		if _, err := fmt.Sscan(text, &r.MaxBytes); err != nil || r.MaxBytes < 0 {
			return r, usage(fmt.Errorf("KAIZEN_AUDIT_MAX_BYTES %q is no number", text), "")
		}
	}
	return r, nil
}

func (g dirGoverned) prune(ctx context.Context, limits audit.Retention, dryRun bool) (pruneAnswer, error) {
	defer g.show.end()
	if limits == (audit.Retention{}) {
		var err error
		if limits, err = configuredRetention(); err != nil {
			return pruneAnswer{}, err
		}
	}
	if limits == (audit.Retention{}) {
		return pruneAnswer{}, usage(errors.New("no retention is configured"), "name --max-age or --max-bytes, or set KAIZEN_AUDIT_MAX_AGE")
	}
	p, err := g.l.Prune(ctx, audit.PruneOptions{DryRun: dryRun, Retention: limits})
	return pruneAnswer{dryRun, segmentsOf(p.Removed), segmentsOf(p.Held), p.Entries, p.Stored}, refused(err)
}

func (g apiGoverned) prune(ctx context.Context, limits audit.Retention, dryRun bool) (out pruneAnswer, err error) {
	order := map[string]any{"dry_run": dryRun}
	if limits.MaxAge > 0 {
		order["max_age"] = limits.MaxAge.String()
	}
	if limits.MaxBytes > 0 {
		order["max_bytes"] = limits.MaxBytes
	}
	err = g.c.post(ctx, "/api/audit/retention", order, &out)
	return out, err
}

func printPrune(w io.Writer, p pruneAnswer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(p)
	}
	if len(p.Removed)+len(p.Held) > 0 {
		t := newTable(w, "ENTRIES", "FROM", "TO", "STORED", "BECAUSE OF", "")
		for _, s := range p.Removed {
			what := "removed"
			if p.DryRun {
				what = "would be removed"
			}
			t.row(entryRange(s), stamp(s.Oldest), stamp(s.Newest), bytesText(s.Stored), s.Reason, what)
		}
		for _, s := range p.Held {
			t.row(entryRange(s), stamp(s.Oldest), stamp(s.Newest), bytesText(s.Stored), s.Reason, "kept: "+s.Held)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	verb := "removed"
	if p.DryRun {
		verb = "would remove"
	}
	_, err := fmt.Fprintf(w, "%s %d segments with %d entries, %s; held: %d\n", verb, len(p.Removed), p.Entries, bytesText(p.Stored), len(p.Held))
	return err
}

func entryRange(s segmentAnswer) string { return fmt.Sprintf("%d-%d", s.Base, s.Base+s.Entries-1) }

// bytesText is a size for a reader.
func bytesText(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func newAuditSeal() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "seal",
		Short: "Compress and index the entries that are not yet",
		Long: `seal ends the newest segment and compresses it. Segments are sealed by themselves
when they are full or a day old; sealing by hand is for who wants to archive or
remove entries now. Entries, hashes and proofs stay as they are.`,
		Example: "  kaizen audit seal",
		Args:    cobra.NoArgs,
	}
	src := addSource(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the segments as one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withGoverned(cmd.Context(), src, cmd.ErrOrStderr(), func(g governed) error {
			list, err := g.seal(cmd.Context())
			if err != nil {
				return err
			}
			return printSegments(cmd.OutOrStdout(), list, asJSON)
		})
	}
	return cmd
}

func (g dirGoverned) seal(ctx context.Context) ([]segmentAnswer, error) {
	defer g.show.end()
	if err := g.l.Seal(ctx); err != nil {
		return nil, refused(err)
	}
	return segmentsOf(g.l.Segments()), nil
}

func (g apiGoverned) seal(ctx context.Context) ([]segmentAnswer, error) {
	var out struct {
		Segments []segmentAnswer `json:"segments"`
	}
	err := g.c.post(ctx, "/api/audit/seal", struct{}{}, &out)
	return out.Segments, err
}

func newAuditSegments() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "segments",
		Short:   "List the sealed segments, and those that retention removed",
		Example: "  kaizen audit segments --json",
		Args:    cobra.NoArgs,
	}
	src := addSource(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd.Context(), src, func(l ledger) error {
			var list []segmentAnswer
			switch l := l.(type) {
			case dirLedger:
				list = segmentsOf(l.r.Segments())
			case apiLedger:
				var answer struct {
					Segments []segmentAnswer `json:"segments"`
				}
				if err := l.c.get(cmd.Context(), "/api/audit/segments", nil, &answer); err != nil {
					return err
				}
				list = answer.Segments
			}
			return printSegments(cmd.OutOrStdout(), list, asJSON)
		})
	}
	return cmd
}

func printSegments(w io.Writer, list []segmentAnswer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		for _, s := range list {
			if err := enc.Encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no segment is sealed")
		return err
	}
	t := newTable(w, "ENTRIES", "FROM", "TO", "LINES", "STORED", "")
	for _, s := range list {
		state := "sealed"
		if s.Pruned {
			state = "removed; its hashes stay"
		}
		t.row(entryRange(s), stamp(s.Oldest), stamp(s.Newest), bytesText(s.Bytes), bytesText(s.Stored), state)
	}
	return t.flush()
}

func newAuditArchive() *cobra.Command {
	var to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "archive [--to PLACE]",
		Short: "Copy the sealed segments to another place, as a ledger of its own",
		Long: `archive copies the sealed segments that the archive does not have yet, and what
makes them a ledger there that kaizen audit verify and query take. It keeps what
retention removes here; of what retention had removed before it has the hashes.
The archive of another ledger, or of more than this one has, is left alone. PLACE is
a directory, or s3://ENDPOINT/BUCKET/PREFIX with credentials from AWS_* variables or
files (s3+http:// without TLS). A copy holds no keys of people, so erasing covers it.
What is not sealed yet is not copied: kaizen audit seal ends the newest segment.

Without --to the server that holds the data directory copies to the archive that
it was told of (--audit-archive).`,
		Example: "  kaizen audit archive --to /mnt/archive/audit\n  kaizen audit archive --server http://127.0.0.1:7070",
		Args:    cobra.NoArgs,
	}
	src := addSource(cmd)
	cmd.Flags().StringVar(&to, "to", "", "directory or s3://ENDPOINT/BUCKET/PREFIX")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withGoverned(cmd.Context(), src, cmd.ErrOrStderr(), func(g governed) error {
			a, err := g.archive(cmd.Context(), to)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(a)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "copied %d segments, %s; the archive has the first %d entries\n", a.Segments, bytesText(a.Bytes), a.Entries)
			return err
		})
	}
	return cmd
}

func (g dirGoverned) archive(ctx context.Context, to string) (archiveAnswer, error) {
	defer g.show.end()
	if to == "" {
		to = os.Getenv("KAIZEN_AUDIT_ARCHIVE")
	}
	if to == "" {
		return archiveAnswer{}, usage(errors.New("no archive is configured"), "name one with --to, or set KAIZEN_AUDIT_ARCHIVE")
	}
	target := audit.ArchiveDir(to)
	if strings.HasPrefix(to, "s3://") || strings.HasPrefix(to, "s3+http://") {
		cfg, err := bucketAt(to)
		if err != nil {
			return archiveAnswer{}, usage(err, "")
		}
		cfg.Logger = slog.New(slog.DiscardHandler)
		if target, err = s3.OpenArchive(ctx, cfg); err != nil {
			return archiveAnswer{}, environment(err, "")
		}
	}
	a, err := g.l.Archive(ctx, target)
	return archiveAnswer{a.Segments, a.Bytes, a.Entries}, refused(err)
}

func (g apiGoverned) archive(ctx context.Context, to string) (out archiveAnswer, err error) {
	if to != "" {
		return out, usage(errors.New("a server copies to the archive that it was told of alone"),
			"leave --to out, or stop the server and name its directory with --data")
	}
	err = g.c.post(ctx, "/api/audit/archive", struct{}{}, &out)
	return out, err
}
