package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server"
	"github.com/kaizen-go/kaizen/server/internal/backup"
)

func newBackup() *cobra.Command {
	var asJSON, withKeys bool
	var out string
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Write a backup of a server, running or stopped, to one file",
		Long: `backup writes ledger, telemetry and metrics as a tar archive compressed with zstd,
with the SHA-256 of each file, and reads it again before it says that it is there.
A running server goes on: the ledger is as of a checkpoint of everything that was
acknowledged before.

Keys are not in it, so that nobody can forge with it or bring back who was
forgotten: back up keys/ apart, or give --with-keys, for a stopped directory only.`,
		Example: `  kaizen backup --output kaizen.tar.zst
  kaizen backup --server https://kaizen.internal:7070 --output kaizen.tar.zst
  kaizen backup --data /var/lib/kaizen --with-keys --output kaizen.tar.zst`,
		Args: cobra.NoArgs,
	}
	src := addSource(cmd)
	cmd.Flags().StringVar(&out, "output", "", "file to write, which must not exist")
	cmd.Flags().BoolVar(&withKeys, "with-keys", false, "put the signing keys and the keys of persons in: guard the file as you do the keys")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is two lines above
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return saveBackup(cmd, src, out, withKeys, asJSON)
	}
	return cmd
}

// saveBackup writes beside out, and renames when the archive has been read.
func saveBackup(cmd *cobra.Command, src *source, out string, withKeys, asJSON bool) (err error) {
	if _, err := os.Lstat(out); err == nil {
		return usage(fmt.Errorf("%s is there already", out), "a backup does not replace another")
	}
	part := out + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return environment(fmt.Errorf("backup: %w", err), "")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part))
		}
	}()
	err = takeBackup(cmd, src, f, withKeys)
	if err = errors.Join(err, f.Sync()); err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = f.Seek(0, io.SeekStart)
	var m backup.Manifest
	if err == nil {
		m, err = backup.Check(cmd.Context(), f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return failed(err)
	}
	if err := os.Rename(part, out); err != nil {
		return environment(fmt.Errorf("backup: %w", err), "")
	}
	return printBackup(cmd.OutOrStdout(), out, m, asJSON)
}

// takeBackup gets the archive from the server that is named or holds the
// directory, else from the directory.
func takeBackup(cmd *cobra.Command, src *source, w io.Writer, withKeys bool) error {
	ctx := cmd.Context()
	src.settle()
	base := src.server
	if base == "" {
		if err := src.checkDir(); err != nil {
			return err
		}
		holder, held, err := server.FindHolder(src.data)
		if err != nil {
			return environment(err, "")
		}
		if !held || holder.UI == "" {
			if err := server.BackupDir(ctx, src.data, readBuildInfo().Version, w, withKeys, backupProgress(cmd.ErrOrStderr())); err != nil {
				return startError(err)
			}
			return nil
		}
		base = holder.UI
	}
	if withKeys {
		return usage(errors.New("--with-keys: a server gives no keys"), "stop it, or copy its folder keys/ apart")
	}
	return download(ctx, base, w, backupProgress(cmd.ErrOrStderr()))
}

// download writes what GET /api/backup of the server answers.
func download(ctx context.Context, base string, w io.Writer, progress func(done, total int64)) error {
	c, err := newClient(base)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/backup", nil)
	if err != nil {
		return usage(fmt.Errorf("server %q: %w", base, err), "")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := (&http.Client{}).Do(req) // as long as it takes
	if err != nil {
		return environment(fmt.Errorf("ask %s: %w", c.base, unwrapURL(err)), "is the server running?")
	}
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return errors.Join(refusal(resp.StatusCode, body), err, resp.Body.Close())
	}
	_, err = io.Copy(&meter{w: w, progress: progress}, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return failed(fmt.Errorf("backup: read from %s: %w", c.base, err))
	}
	return nil
}

// meter counts what is written.
type meter struct {
	w        io.Writer
	done     int64
	progress func(done, total int64)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.done += int64(n)
	m.progress(m.done, -1)
	return n, err
}

// progressEvery is how often progress is said; a short job says nothing.
const progressEvery = 2 * time.Second

// backupProgress says on w how far a job is. A total below zero is not known.
func backupProgress(w io.Writer) func(done, total int64) {
	last := time.Now()
	return func(done, total int64) {
		if time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		const megabyte = 1e6
		if total < 0 {
			fmt.Fprintf(w, "%.0f MB\n", float64(done)/megabyte)
			return
		}
		fmt.Fprintf(w, "%.0f of %.0f MB\n", float64(done)/megabyte, float64(total)/megabyte)
	}
}

func printBackup(w io.Writer, where string, m backup.Manifest, asJSON bool) error {
	var bytes int64
	for _, f := range m.Files {
		bytes += f.Bytes
	}
	entries := int64(0)
	if m.Ledger != nil {
		entries = m.Ledger.Size
	}
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			Path    string    `json:"path"`
			Created time.Time `json:"created"`
			Files   int       `json:"files"`
			Bytes   int64     `json:"bytes"`
			Entries int64     `json:"ledger_entries"`
			Keys    bool      `json:"keys"`
		}{where, m.Created, len(m.Files), bytes, entries, m.Keys})
	}
	if _, err := fmt.Fprintf(w, "%s: %d files, %d bytes, of %s\n", where, len(m.Files), bytes, m.Created.Format(time.RFC3339)); err != nil {
		return err
	}
	what := "the ledger is not in it: it is kept in a database or a bucket"
	if m.Ledger != nil {
		what = fmt.Sprintf("the ledger has %d entries, root %s", entries, m.Ledger.Root)
	}
	_, err := fmt.Fprintln(w, what)
	return err
}

func newRestore() *cobra.Command {
	var asJSON bool
	var data string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup into an empty data directory, and verify it",
		Long: `restore writes the files of a backup into a directory that is empty or absent,
compares each with its SHA-256 and verifies the ledger. Only then do they take the
directory's place: a backup that is damaged, cut off or forged leaves nothing
behind. What it prints in the end says what is next.`,
		Example: `  kaizen restore kaizen.tar.zst --data /var/lib/kaizen`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if data == "" {
				data = os.Getenv("KAIZEN_DATA")
			}
			if data == "" {
				data = server.DefaultDataDir
			}
			return restoreBackup(cmd, args[0], data, asJSON)
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data directory to make (default "+server.DefaultDataDir+", or KAIZEN_DATA)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func restoreBackup(cmd *cobra.Command, path, data string, asJSON bool) error {
	f, err := os.Open(path)
	if err != nil {
		return environment(fmt.Errorf("restore: %w", err), "")
	}
	verify := func(dir string) error { return verifyRestored(cmd.Context(), filepath.Join(dir, backup.LedgerFolder)) }
	m, err := backup.Restore(cmd.Context(), f, data, verify, backupProgress(cmd.ErrOrStderr()))
	if err = errors.Join(err, f.Close()); err != nil {
		if errors.Is(err, backup.ErrNotEmpty) {
			return usage(err, "move what is there away first")
		}
		return failed(err)
	}
	if err := printBackup(cmd.OutOrStdout(), data, m, asJSON); err != nil || asJSON {
		return err
	}
	_, err = io.WriteString(cmd.OutOrStdout(), nextSteps(data, m))
	return err
}

// verifyRestored verifies the ledger, if there is one.
func verifyRestored(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	report, err := audit.Verify(ctx, dir, audit.VerifyConfig{})
	if err == nil && !report.Clean {
		err = errors.New("it is not as a closed ledger is")
	}
	if err != nil {
		return fmt.Errorf("restore: the ledger does not verify: %w", err)
	}
	return nil
}

func nextSteps(data string, m backup.Manifest) string {
	var b strings.Builder
	b.WriteString("every file is what the manifest says")
	if m.Ledger != nil {
		b.WriteString(", and the ledger verifies")
	}
	b.WriteString(".\nnext:\n")
	if m.Ledger != nil {
		fmt.Fprintf(&b, "  compare the ledger with a checkpoint that you hold: kaizen audit verify %s --checkpoint FILE\n", data)
	}
	if !m.Keys {
		fmt.Fprintf(&b, "  put the keys back as %s, from their own backup\n", filepath.Join(data, "keys"))
	}
	if m.Ledger != nil {
		fmt.Fprintf(&b, "  if the ledger had gone on since: kaizen audit accept-restore --data %s, which records the restore in it\n", data)
	}
	fmt.Fprintf(&b, "  kaizen serve --data %s\n", data)
	return b.String()
}
