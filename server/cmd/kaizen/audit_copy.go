package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/postgres"
	"github.com/kaizen-go/kaizen/server/backend/s3"
)

// ledgerPlaces describes the places that copy and move take.
const ledgerPlaces = `A place is a directory, postgres or postgres:SCHEMA (connected by KAIZEN_AUDIT_DSN), or
s3://ENDPOINT/BUCKET/PREFIX (s3+http:// without TLS; credentials from AWS_ variables or files).
--key names the ledger's signing key, which both places use; a directory has it in keys/
beside it, where it is put if it is not there. The key store, with the keys of people, lies
beside the key, and goes along when the two places have different ones.

Of a signing key that was replaced the entry that names its successor goes along, and not what
lets a stranger follow from it (keys.jsonl): the copy begins with the present key, and verifies
under that alone. Receipts and proofs under an older key hold under that key as before: keep its
public half with them, and keys.jsonl of the source, which a server shows as /log/keys.`

func newAuditCopy() *cobra.Command {
	return auditTransfer("copy", "Copy the ledger to another place, with its indexes and proofs",
		`copy brings every entry to another place, line by line, under the same key: indexes,
proofs and checkpoints stay valid there. Nobody may append meanwhile. What an
interrupted copy has brought over is compared, not written again. Afterwards only
one of the two may be appended to. If the key store was copied as well there are two of
them: each erasure must be made in both, or one be destroyed.

A directory is only read, and may be an archive that kaizen audit archive made: its
copy is a ledger that goes on. One that a process has open is refused.

`+ledgerPlaces, false)
}

func newAuditMove() *cobra.Command {
	return auditTransfer("move", "Copy the ledger, and put the old one out of use",
		`move is copy, after which the source, which must be a directory, gets another name
(.moved and the time), so that nobody goes on writing to it. It can be verified
there; the keys of people are in the new place alone.

`+ledgerPlaces, true)
}

func auditTransfer(name, short, long string, move bool) *cobra.Command {
	var from, to, key string
	cmd := &cobra.Command{
		Use: name + " --from PLACE --to PLACE --key FILE", Short: short, Long: long,
		Example: "  kaizen audit " + name + " --from kaizen-data/audit --to postgres --key kaizen-data/keys/audit.key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || to == "" || key == "" {
				return usage(errors.New("--from, --to and --key must be given"), "")
			}
			return transfer(cmd.Context(), startProgress(cmd.ErrOrStderr(), "copied"), from, to, key, move)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "place where the ledger is")
	f.StringVar(&to, "to", "", "place where it goes")
	f.StringVar(&key, "key", "", "the ledger's signing key, a file")
	return cmd
}

// transfer copies, checks, and for a move renames the source. It says what it did
// where it shows how far it is.
func transfer(ctx context.Context, show *progress, from, to, key string, move bool) (err error) {
	defer show.end()
	out := show.w
	if move && !isDir(from) {
		return usage(fmt.Errorf("cannot move from %s: only a directory can be put out of use", from), "copy it, and revoke the writers' rights")
	}
	if _, err := os.Stat(key); err != nil {
		return environment(fmt.Errorf("signing key: %w", err), "")
	}
	people := audit.KeyStoreMove{From: keyOf(from, key), To: keyOf(to, key), Remove: move, DryRun: true}
	if !move && !isFile(people.From) {
		people.From = key // an archive has none beside it
	}
	if _, err := audit.MoveKeyStore(people); err != nil {
		return environment(err, "copy to a place without a key store, or take away the one that is there if nothing needs it")
	}
	src, err := openSource(ctx, from, key, move)
	if err != nil {
		return err
	}
	dst, err := openPlace(ctx, to, key)
	if err != nil {
		return environment(errors.Join(err, src.Close()), "")
	}
	err = audit.Copy(ctx, dst, src, show.show)
	show.end()
	size := src.Size()
	if err = errors.Join(err, dst.Close(), src.Close()); err != nil {
		return unwritten(err)
	}
	if isDir(from) && inUse(from) {
		return environment(fmt.Errorf("a process has opened %s meanwhile", from), "stop it, and repeat the command: what it adds is missing in the copy")
	}
	people.DryRun = false
	brought, err := audit.MoveKeyStore(people)
	if err != nil {
		return environment(err, "the entries are copied; repeat the command when no process has either ledger open")
	}
	fmt.Fprintf(out, "%d entries of %s are at %s\n", size, src.Origin(), to)
	if brought && move {
		fmt.Fprintf(out, "the keys of people are beside %s now, and destroyed beside %s\n", people.To, people.From)
	} else if brought {
		fmt.Fprintf(out, "the keys of people are beside %s, and still beside %s: an erasure must be made in both places\n", people.To, people.From)
	}
	if !move {
		return nil
	}
	old := filepath.Clean(from) + ".moved-" + time.Now().UTC().Format("20060102T150405Z")
	if err := os.Rename(from, old); err != nil {
		return environment(err, "")
	}
	fmt.Fprintf(out, "the old ledger is now %s\n", old)
	return nil
}

// keyOf is where the ledger at a place has its signing key.
func keyOf(place, key string) string {
	if !isDir(place) {
		return key
	}
	if dir, err := filepath.Abs(place); err == nil {
		place = dir
	}
	return filepath.Join(filepath.Dir(place), "keys", filepath.Base(place)+".key")
}

func isDir(place string) bool {
	return place != "postgres" && !strings.HasPrefix(place, "postgres:") && !strings.HasPrefix(place, "s3://") && !strings.HasPrefix(place, "s3+http://")
}

// copySource is the ledger that is copied.
type copySource interface {
	audit.Source
	Size() int64
	Close() error
}

// openSource opens what is copied. A directory that stays in use is only read,
// so that nothing of an archive changes; one that is moved is locked.
func openSource(ctx context.Context, place, key string, move bool) (copySource, error) {
	if !isDir(place) {
		l, err := openPlace(ctx, place, key)
		if err != nil {
			return nil, environment(err, "")
		}
		return l, nil
	}
	r, err := openReader(place)
	if err != nil {
		return nil, err
	}
	switch {
	case move && isArchive(place):
		return nil, errors.Join(usage(fmt.Errorf("%s is an archive, which nobody writes to as it is", place),
			"copy it, or go on with it in its place by kaizen audit accept-restore"), r.Close())
	case move:
		if err := r.Close(); err != nil {
			return nil, environment(err, "")
		}
		l, err := openFiles(place, key)
		if err != nil {
			return nil, environment(err, "")
		}
		return l, nil
	case inUse(place):
		return nil, errors.Join(environment(fmt.Errorf("%s is open in a process, or was not closed", place),
			"stop the process; after a crash, let kaizen audit seal --data "+place+" bring the ledger in order"), r.Close())
	}
	return r, nil
}

// inUse reports whether a process has the ledger in dir open, or crashed: its
// newest entries are in the ring alone, which a ledger that is closed has not.
func inUse(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, "ring"))
	return err == nil
}

// isArchive reports whether dir has what kaizen audit archive copies: sealed
// segments, and no history of checkpoints.
func isArchive(dir string) bool {
	return isFile(filepath.Join(dir, "segments.json")) && !isFile(filepath.Join(dir, "checkpoints.jsonl"))
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// openPlace opens the ledger at a place for writing.
func openPlace(ctx context.Context, place, key string) (audit.Backend, error) {
	switch {
	case place == "postgres" || strings.HasPrefix(place, "postgres:"):
		_, schema, _ := strings.Cut(place, ":")
		return postgres.Open(ctx, postgres.Config{DSN: os.Getenv("KAIZEN_AUDIT_DSN"), Schema: schema, KeyFile: key})
	case strings.HasPrefix(place, "s3://"), strings.HasPrefix(place, "s3+http://"):
		cfg, err := bucketAt(place)
		if err != nil {
			return nil, err
		}
		cfg.KeyFile = key
		return s3.Open(ctx, cfg)
	}
	return openFiles(place, key)
}

// bucketAt reads s3://ENDPOINT/BUCKET/PREFIX.
func bucketAt(place string) (cfg s3.Config, err error) {
	scheme, rest, _ := strings.Cut(place, "://")
	parts := strings.SplitN(rest, "/", 3)
	if len(parts) < 2 {
		return cfg, fmt.Errorf("%s names no bucket: want s3://ENDPOINT/BUCKET/PREFIX", place)
	}
	cfg = s3.Config{Endpoint: parts[0], Bucket: parts[1], Plaintext: scheme == "s3+http"}
	if len(parts) == 3 {
		cfg.Prefix = parts[2]
	}
	return cfg, nil
}

// openFiles opens a directory under the key, which is put where a ledger of that
// name looks for it unless it is there already.
func openFiles(dir, key string) (audit.Backend, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := audit.CopyKey(key, keyOf(dir, key)); err != nil {
		return nil, err
	}
	return audit.Open(dir, audit.Config{ForImport: true})
}
