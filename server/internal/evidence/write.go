package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// Sink takes the files of a pack, one after the other.
type Sink interface {
	// Create begins a file; the one before is whole then.
	Create(name string) (io.Writer, error)
}

// Write makes a pack. It reads the entries twice if something is revealed.
// Errors are those of the source and of the sink, after which the pack is not
// whole.
func Write(ctx context.Context, sink Sink, cfg Config) (Summary, error) {
	if cfg.Rows == 0 {
		cfg.Rows = defaultRows
	}
	q := cfg.Query
	q.Limit, q.Descending, q.After, q.Stored = 0, false, 0, true
	w := &packer{cfg: cfg, q: q, sink: sink, tally: newTally(cfg.Rows)}
	spool, err := os.CreateTemp("", "kaizen-evidence-*")
	if err != nil {
		return Summary{}, fmt.Errorf("evidence: %w", err)
	}
	defer func() { _ = os.Remove(spool.Name()) }()
	s, err := w.write(ctx, spool)
	return s, errors.Join(err, spool.Close())
}

// packer makes one pack.
type packer struct {
	cfg   Config
	q     audit.Query
	sink  Sink
	own   []audit.Entry
	tally *tally
	m     manifest

	current *sumWriter // the file that is being written
}

// sumWriter counts and hashes what passes through.
type sumWriter struct {
	name string
	w    io.Writer
	n    int64
	sum  hash.Hash
}

func (s *sumWriter) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.n += int64(n)
	s.sum.Write(b[:n])
	return n, err
}

// create begins a file that the manifest names.
func (w *packer) create(name string) (io.Writer, error) {
	w.finish()
	out, err := w.sink.Create(name)
	if err != nil {
		return nil, fmt.Errorf("evidence: create %s: %w", name, err)
	}
	w.current = &sumWriter{name: name, w: out, sum: sha256.New()}
	return w.current, nil
}

func (w *packer) finish() {
	if c := w.current; c != nil {
		w.m.Files = append(w.m.Files, file{c.name, c.n, hex.EncodeToString(c.sum.Sum(nil))})
	}
	w.current = nil
}

func (w *packer) put(name string, content []byte) error {
	out, err := w.create(name)
	if err == nil {
		_, err = out.Write(content)
	}
	return err
}

func (w *packer) write(ctx context.Context, spool *os.File) (Summary, error) {
	cfg := &w.cfg
	var err error
	if w.own, err = ownEntries(ctx, cfg.Source, w.q, cfg.Checkpoint.Size); err != nil {
		return Summary{}, err
	}
	w.m = manifest{
		Format: formatName, Version: formatVersion, Origin: cfg.Origin, Key: cfg.Key, Size: cfg.Checkpoint.Size,
		Root: hex.EncodeToString(cfg.Checkpoint.Root[:]), Created: cfg.Created.UTC().Format(time.RFC3339), Tool: cfg.Tool,
		Filter: filterOf(cfg.Query, cfg.Reveal), Own: []int64{}, Revealed: cfg.Reveal, Rows: cfg.Rows,
	}
	for _, step := range []func() error{
		func() error { return w.put(readmeName, []byte(readme)) },
		func() error { return w.lines(ctx, spool) },
		func() error { return w.readable(ctx) },
		func() error { return w.proof(spool) },
		w.signed,
		w.report,
	} {
		if err := step(); err != nil {
			return Summary{}, err
		}
	}
	w.finish()
	b, err := w.m.encode()
	if err != nil {
		return Summary{}, err
	}
	out, err := w.sink.Create(manifestName)
	if err == nil {
		_, err = out.Write(b)
	}
	t := w.tally
	return Summary{t.entries, t.own, t.first, t.last, w.m.Size, len(w.m.Files) + 1, len(cfg.Earlier)}, err
}

func (m *manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

// lines writes the entries, and to the spool their proof.
func (w *packer) lines(ctx context.Context, spool io.Writer) error {
	out, err := w.create(entriesName)
	if err != nil {
		return err
	}
	total, err := w.cfg.Source.Count(ctx, w.q)
	if err != nil {
		return fmt.Errorf("evidence: count: %w", err)
	}
	proof, err := newProofWriter(spool, w.cfg.Source, w.cfg.Checkpoint.Size)
	if err != nil {
		return err
	}
	var buf []byte
	for it, err := range items(ctx, w.cfg.Source, w.q, w.cfg.Checkpoint.Size, w.own) {
		if err != nil {
			return err
		}
		if buf, err = audit.EncodeLine(buf[:0], it.Entry); err != nil {
			return fmt.Errorf("evidence: entry %d: %w", it.Index, err)
		}
		leaf := tlog.RecordHash(buf)
		if _, err := fmt.Fprintf(out, "{\"index\":%d,%s\n", it.Index, buf[1:]); err != nil {
			return err
		}
		if err := proof.entry(ctx, it.Index, leaf); err != nil {
			return err
		}
		if it.own {
			w.m.Own = append(w.m.Own, it.Index)
		}
		if !w.cfg.Reveal {
			w.tally.add(it, it)
		}
		w.show(w.tally.entries, total)
	}
	return proof.end(ctx)
}

func (w *packer) show(done, total int64) {
	if w.cfg.Progress != nil && done%256 == 0 {
		w.cfg.Progress(done, total)
	}
}

// readable writes the entries in plain text.
func (w *packer) readable(ctx context.Context) error {
	if !w.cfg.Reveal {
		return nil
	}
	out, err := w.create(readableName)
	if err != nil {
		return err
	}
	plain := w.q
	plain.Stored = false
	next, stop := pull(items(ctx, w.cfg.Source, plain, w.cfg.Checkpoint.Size, w.own))
	defer stop()
	for it, err := range items(ctx, w.cfg.Source, w.q, w.cfg.Checkpoint.Size, w.own) {
		if err != nil {
			return err
		}
		shown, ok, err := next()
		if err != nil {
			return err
		}
		if !ok || shown.Index != it.Index {
			return fmt.Errorf("evidence: entry %d changed while it was read", it.Index)
		}
		b, err := shown.MarshalJSON()
		if err != nil {
			return fmt.Errorf("evidence: entry %d: %w", it.Index, err)
		}
		if _, err := out.Write(append(b, '\n')); err != nil {
			return err
		}
		w.tally.add(it, shown)
	}
	return nil
}

func (w *packer) proof(spool *os.File) error {
	out, err := w.create(proofName)
	if err != nil {
		return err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(out, spool)
	return err
}

// signed writes checkpoints and keys.
func (w *packer) signed() error {
	cfg := &w.cfg
	keys := strings.Join(append([]string{cfg.Key}, cfg.OlderKeys...), "\n") + "\n"
	err := errors.Join(w.put(checkpointName, []byte(cfg.Checkpoint.Note)), w.put(keysName, []byte(keys)))
	if err == nil && len(cfg.Rotations) > 0 {
		err = w.put(rotationsName, cfg.Rotations)
	}
	for _, e := range cfg.Earlier {
		if err != nil {
			return err
		}
		base := fmt.Sprintf("%s%d", earlierDir, e.Size)
		if err = w.put(base+".checkpoint", []byte(e.Note)); err == nil {
			err = w.put(base+".tlog-consistency", e.Proof)
		}
	}
	return err
}

func (w *packer) report() error {
	t := w.tally
	w.m.Entries, w.m.First, w.m.Last = t.entries, t.first, t.last
	var b bytes.Buffer
	if err := writeReport(&b, &w.m, t); err != nil {
		return err
	}
	return w.put(reportName, b.Bytes())
}
