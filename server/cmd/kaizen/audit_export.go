package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/evidence"
	logtiles "github.com/kaizen-go/kaizen/server/internal/tlog"
)

func newAuditExport() *cobra.Command {
	var out string
	var kept []string
	var reveal, asJSON bool
	var rows int
	cmd := &cobra.Command{
		Use:   "export --out PLACE",
		Short: "Make an evidence pack of entries, for an auditor",
		Long: `export writes the entries that match all filters, a proof that each of them stands
in the ledger, the signed checkpoint that the proof leads to, older checkpoints
with consistency proofs, the public keys, the holds and erasures that touch the
entries, and a report to read and print. kaizen audit verify PLACE checks the pack
with nothing else at hand, and README.txt in it says how to do so without kaizen.

PLACE is a file that ends with .zip, or else a directory that is new or empty. It is
there when the pack is whole; nothing is left of one that could not be written.

People are tokens in the pack, and what concerns them is encrypted, as in the
ledger. --reveal adds what this machine has the keys for in plain text: such a pack
is out of reach of kaizen audit erase.`,
		Example: `  kaizen audit export --since 2026-01-01T00:00:00Z --until 2026-03-31T23:59:59Z --out q1.zip
  kaizen audit export --agent planner --out planner/
  kaizen audit verify q1.zip --key ledger.vkey`,
		Args: cobra.NoArgs,
	}
	src, filter := addSource(cmd), addEntryFilter(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "file (.zip) or directory to write")
	cmd.Flags().StringSliceVar(&kept, "checkpoints", nil, "file or directory of older checkpoints to add, with consistency proofs; may be repeated")
	cmd.Flags().BoolVar(&reveal, "reveal", false, "add what is encrypted in plain text")
	cmd.Flags().IntVar(&rows, "report-rows", 1000, "how many entries the report shows")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was written as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out == "" {
			return usage(errors.New("where to write is not given"), "name a file or directory with --out")
		}
		if rows < 1 || rows > 1_000_000 {
			return usage(fmt.Errorf("--report-rows %d is not from 1 to 1,000,000", rows), "")
		}
		now := time.Now()
		q, err := filter.query(now)
		if err != nil {
			return err
		}
		held, err := readKept(kept)
		if err != nil {
			return err
		}
		return withLedger(cmd.Context(), src, func(l ledger) error {
			cfg, err := evidenceOf(cmd.Context(), l, held)
			if err != nil {
				return err
			}
			cfg.Query, cfg.Reveal, cfg.Rows, cfg.Created, cfg.Tool = q, reveal, rows, now, "kaizen "+readBuildInfo().Version
			progress := startProgress(cmd.ErrOrStderr(), "wrote")
			cfg.Progress = progress.show
			s, err := writePack(cmd.Context(), out, cfg)
			progress.end()
			if err != nil {
				return err
			}
			return printPack(cmd.OutOrStdout(), out, cfg, s, asJSON)
		})
	}
	return cmd
}

func printPack(w io.Writer, out string, cfg evidence.Config, s evidence.Summary, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{
			"out": out, "entries": s.Entries, "own": s.Own, "first": s.First, "last": s.Last, "size": s.Size, "files": s.Files,
			"earlier": s.Earlier, "key": cfg.Key,
		})
	}
	_, err := fmt.Fprintf(w, "%s: %d entries of %d, and %d of the ledger's own about them; %d files\n"+
		"check it: kaizen audit verify %s --key FILE, with the key %s\n", clean(out), s.Entries, s.Size, s.Own, s.Files, clean(out), clean(cfg.Key))
	return err
}

// evidenceOf gathers what a pack has beside entries.
func evidenceOf(ctx context.Context, l ledger, held []audit.Remembered) (cfg evidence.Config, err error) {
	log, err := openLog(ctx, l)
	if err != nil {
		return cfg, err
	}
	if cfg.Checkpoint, err = log.checkpoint(ctx); err != nil {
		return cfg, err
	}
	// What witnesses added is of no use without their keys, and the pack's own
	// form has one signature.
	cfg.Source = packSource{l, log}
	cfg.Key = log.keys[0]
	cfg.Origin, _, _ = strings.Cut(cfg.Checkpoint.Note, "\n")
	keys := []string{cfg.Key}
	notes := held
	if d, ok := l.(dirLedger); ok {
		if keys, err = d.r.VerifierKeys(); err != nil {
			return cfg, failed(err)
		}
		if cfg.Rotations, err = optional(filepath.Join(d.dir, "keys.jsonl")); err != nil {
			return cfg, err
		}
		history, err := readHistory(filepath.Join(d.dir, "checkpoints.jsonl"))
		if err != nil {
			return cfg, err
		}
		notes = append(sample(history, maxEarlier), notes...)
	}
	cfg.OlderKeys = keys[1:]
	cfg.Earlier, err = earlierOf(ctx, log, cfg.Checkpoint, keys, notes)
	return cfg, err
}

// maxEarlier is how many checkpoints of the ledger's history go into a pack.
const maxEarlier = 32

// sample takes the first, the last and evenly spread ones of a list.
func sample(list []audit.Remembered, most int) []audit.Remembered {
	if len(list) <= most {
		return list
	}
	out := make([]audit.Remembered, most)
	for i := range out {
		out[i] = list[i*(len(list)-1)/(most-1)]
	}
	return out
}

// optional reads a file that need not be there.
func optional(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, environment(err, "")
	}
	return b, nil
}

// readHistory reads the checkpoints that the ledger published. The last line may
// be cut off.
func readHistory(path string) ([]audit.Remembered, error) {
	b, err := optional(path)
	if err != nil {
		return nil, err
	}
	var out []audit.Remembered
	for line := range bytes.Lines(b) {
		var h struct{ Note string }
		if json.Unmarshal(line, &h) != nil || h.Note == "" {
			if bytes.HasSuffix(line, []byte("\n")) {
				return nil, failed(fmt.Errorf("%s: line %d is no checkpoint", path, len(out)+1))
			}
			break
		}
		out = append(out, audit.Remembered{Note: h.Note, Source: fmt.Sprintf("%s:%d", path, len(out)+1)})
	}
	return out, nil
}

// earlierOf makes the consistency proofs, one for each size.
func earlierOf(ctx context.Context, log tileLog, head audit.Checkpoint, keys []string, notes []audit.Remembered) ([]evidence.Earlier, error) {
	seen := map[int64]bool{head.Size: true}
	var out []evidence.Earlier
	for _, n := range notes {
		c, err := audit.ParseCheckpoint([]byte(n.Note), keys...)
		if err != nil {
			return nil, failed(fmt.Errorf("%s: %w", n.Source, err))
		}
		if c.Size > head.Size {
			return nil, failed(fmt.Errorf("%s: rollback: it covers %d entries, and the ledger has %d", n.Source, c.Size, head.Size))
		}
		if seen[c.Size] {
			continue
		}
		seen[c.Size] = true
		p, err := log.prove(ctx, c, head)
		if err != nil {
			return nil, err
		}
		if _, _, err := p.Check(keys...); err != nil {
			return nil, failed(fmt.Errorf("%s: fork: not of this ledger's history: %w", n.Source, err))
		}
		out = append(out, evidence.Earlier{Size: c.Size, Note: n.Note, Proof: p.Marshal()})
	}
	slices.SortFunc(out, func(a, b evidence.Earlier) int { return int(a.Size - b.Size) })
	return out, nil
}

// packSource is an open ledger, as a pack reads it.
type packSource struct {
	l   ledger
	log tileLog
}

func (s packSource) Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for e, err := range s.l.query(ctx, q) {
			if !yield(e.Entry, err) {
				return
			}
		}
	}
}

func (s packSource) Count(ctx context.Context, q audit.Query) (int64, error) {
	return s.l.count(ctx, q)
}

func (s packSource) Tile(ctx context.Context, level int, index int64, width int) ([]byte, error) {
	return s.log.file(ctx, logtiles.Path(level, index, width))
}

// writePack writes a zip file or a directory, which appears when it is whole.
func writePack(ctx context.Context, out string, cfg evidence.Config) (evidence.Summary, error) {
	if strings.HasSuffix(out, ".zip") {
		return writeZip(ctx, out, cfg)
	}
	names, err := os.ReadDir(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return evidence.Summary{}, environment(err, "")
	}
	if len(names) > 0 {
		return evidence.Summary{}, environment(fmt.Errorf("%s is not empty", out), "name a new directory, or a file that ends with .zip")
	}
	if err == nil {
		return fillDir(ctx, out, cfg)
	}
	out = filepath.Clean(out)
	if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
		return evidence.Summary{}, environment(err, "")
	}
	beside, err := os.MkdirTemp(filepath.Dir(out), filepath.Base(out)+".*.tmp")
	if err != nil {
		return evidence.Summary{}, environment(fmt.Errorf("write pack: %w", err), "")
	}
	s, err := fillDir(ctx, beside, cfg)
	if err == nil {
		err = unwritten(os.Rename(beside, out))
	}
	if err != nil {
		return s, errors.Join(err, os.RemoveAll(beside))
	}
	return s, nil
}

// fillDir writes a pack into an empty directory, which is empty again if that
// fails: it may be one that cannot be replaced by another.
func fillDir(ctx context.Context, dir string, cfg evidence.Config) (evidence.Summary, error) {
	sink := &dirSink{dir: dir}
	s, err := evidence.Write(ctx, sink, cfg)
	if err = errors.Join(err, sink.finish()); err == nil {
		return s, nil
	}
	err = unwritten(err)
	names, listErr := os.ReadDir(dir)
	err = errors.Join(err, listErr)
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name.Name())))
	}
	return s, err
}

func writeZip(ctx context.Context, out string, cfg evidence.Config) (s evidence.Summary, err error) {
	if _, err := os.Lstat(out); err == nil {
		return s, environment(fmt.Errorf("%s exists", out), "name a new file")
	}
	f, err := os.CreateTemp(filepath.Dir(out), filepath.Base(out)+".*.tmp") // for the owner alone
	if err != nil {
		return s, environment(fmt.Errorf("write pack: %w", err), "")
	}
	z := &zipSink{w: zip.NewWriter(f), at: cfg.Created}
	s, err = evidence.Write(ctx, z, cfg)
	if err == nil {
		err = z.w.Close()
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), out)
	}
	if err != nil {
		return s, errors.Join(unwritten(err), os.Remove(f.Name()))
	}
	return s, nil
}

// zipSink writes the files of a pack into a zip file.
type zipSink struct {
	w  *zip.Writer
	at time.Time
}

func (z *zipSink) Create(name string) (io.Writer, error) {
	return z.w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: z.at.UTC()})
}

// dirSink writes them into a directory.
type dirSink struct {
	dir  string
	file *os.File
}

func (d *dirSink) Create(name string) (io.Writer, error) {
	if err := d.finish(); err != nil {
		return nil, err
	}
	path := filepath.Join(d.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	d.file = f
	return f, err
}

func (d *dirSink) finish() error {
	f := d.file
	if d.file = nil; f == nil {
		return nil
	}
	return errors.Join(f.Sync(), f.Close())
}

// openPack opens an evidence pack. False if what is there is none.
func openPack(path string) (pack fs.FS, close func() error, ok bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, false, nil // for whoever looks for a ledger there
	}
	if info.IsDir() {
		b, err := os.ReadFile(filepath.Join(path, "manifest.json"))
		if err != nil || !bytes.Contains(b[:min(len(b), 64)], []byte(`"kaizen-evidence"`)) {
			return nil, nil, false, nil
		}
		return os.DirFS(path), func() error { return nil }, true, nil
	}
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, nil, true, failed(fmt.Errorf("%s is no evidence pack: %w", path, err))
	}
	names := map[string]bool{}
	for _, f := range z.File {
		if names[f.Name] {
			return nil, nil, true, errors.Join(failed(fmt.Errorf("%s has the file %s twice", path, clean(f.Name))), z.Close())
		}
		names[f.Name] = true
	}
	return z, z.Close, true, nil
}

// verifyPack checks a pack and prints the verdict.
func verifyPack(cmd *cobra.Command, pack fs.FS, cfg audit.VerifyConfig, asJSON bool) error {
	check := evidence.VerifyConfig{Key: cfg.Key, Checkpoints: cfg.Checkpoints}
	if len(cfg.Checkpoint) > 0 {
		check.Checkpoints = append(check.Checkpoints, audit.Remembered{Note: string(cfg.Checkpoint), Source: "earlier checkpoint"})
	}
	progress := startProgress(cmd.ErrOrStderr(), "checked")
	check.Progress = progress.show
	r, err := evidence.Verify(cmd.Context(), pack, check)
	progress.end()
	if t, ok := errors.AsType[*audit.TamperError](err); ok {
		return errors.Join(verdict{Tampered: t}.print(cmd.OutOrStdout(), asJSON), failed(err))
	}
	if err != nil {
		return failed(err)
	}
	if asJSON {
		return encodeJSON(cmd.OutOrStdout(), map[string]any{
			"intact": true, "pack": true, "origin": r.Origin, "key": r.Key, "entries": r.Entries, "own": r.Own, "first": r.First, "last": r.Last,
			"size": r.Size, "root": fmt.Sprintf("%x", r.Checkpoint.Root), "complete": r.Complete, "earlier": r.Earlier, "uncompared": r.Uncompared,
		})
	}
	what := "a selection: what was left out cannot be seen"
	if r.Complete {
		what = "all that the checkpoint covers"
	}
	if cfg.Key == "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "the key is the one that the pack names: name the ledger's public key with --key FILE, from elsewhere")
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "intact: %d entries of %s, proven under a checkpoint of %d, signed by %s\n%s\n", r.Entries+r.Own, clean(r.Origin), r.Size, clean(r.Key), what)
	if err == nil && r.Uncompared > 0 {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d of your checkpoints have no proof in the pack: ask for one made with --checkpoints\n", r.Uncompared)
	}
	return err
}
