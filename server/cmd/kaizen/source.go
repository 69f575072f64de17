package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/server"
)

// source is where a reading command reads: a server, or a data directory.
type source struct {
	data   string
	server string
	// chosen is true when the user named the directory.
	chosen bool
}

// addSource gives cmd the flags of a source.
func addSource(cmd *cobra.Command) *source {
	s := &source{}
	cmd.Flags().StringVar(&s.data, "data", "", "data directory (default "+server.DefaultDataDir+", or KAIZEN_DATA)")
	cmd.Flags().StringVar(&s.server, "server", "", "URL of a server to ask (or KAIZEN_SERVER); its key comes from KAIZEN_API_KEY")
	cmd.MarkFlagsMutuallyExclusive("data", "server")
	return s
}

// settle fills in what the user left to variables and defaults. A named
// directory beats a server that only a variable names.
func (s *source) settle() {
	s.chosen = s.data != ""
	if s.server == "" && s.data == "" {
		s.server = os.Getenv("KAIZEN_SERVER")
	}
	if s.data == "" {
		s.data = os.Getenv("KAIZEN_DATA")
		s.chosen = s.data != ""
	}
	if s.data == "" {
		s.data = server.DefaultDataDir
	}
}

// open returns a client for the source: over the network when a server is
// named or holds the directory, otherwise on the directory itself, which stays
// locked until the client is closed.
func (s *source) open(ctx context.Context, command string) (*client, error) {
	s.settle()
	if s.server != "" {
		return newClient(s.server)
	}
	if err := s.checkDir(); err != nil {
		return nil, err
	}
	holder, held, err := server.FindHolder(s.data)
	if err != nil {
		return nil, environment(err, "")
	}
	if held && holder.UI != "" {
		return newClient(holder.UI)
	}
	reader, err := server.OpenReader(ctx, s.data, command)
	if err != nil {
		_, advice := classify(err)
		return nil, environment(err, advice)
	}
	return localClient(reader), nil
}

// checkDir says what to do about a data directory that is not there.
func (s *source) checkDir() error {
	info, err := os.Stat(s.data)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return environment(fmt.Errorf("no data directory %s", s.data),
			"start the server with kaizen serve, or name the place with --data DIR or --server URL")
	case err != nil:
		return environment(fmt.Errorf("data directory: %w", err), "")
	case !info.IsDir():
		return environment(fmt.Errorf("%s is not a directory", s.data), "name the data directory with --data DIR")
	}
	return nil
}

// ledgerFiles are what a ledger's directory holds. A directory with none of
// them is no ledger; one that lacks some was damaged, which is for verify to say.
var ledgerFiles = []string{"ledger.json", "checkpoint", "ring", "seg"}

// ledgerDir returns the ledger's directory in dir, which may be a data
// directory or the ledger's own.
func ledgerDir(dir string) (string, error) {
	const advice = "name a data directory, or a ledger's own"
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return "", environment(fmt.Errorf("no directory %s", dir), advice)
	}
	if err != nil {
		return "", environment(err, "")
	}
	if !info.IsDir() {
		return "", environment(fmt.Errorf("%s is not a directory", dir), advice)
	}
	for _, d := range []string{filepath.Join(dir, "audit"), dir} {
		for _, name := range ledgerFiles {
			if _, err := os.Stat(filepath.Join(d, name)); err == nil {
				return d, nil
			} else if !errors.Is(err, os.ErrNotExist) {
				return "", environment(err, "run it as the user that owns the ledger")
			}
		}
	}
	return "", environment(fmt.Errorf("no ledger in %s", dir), advice)
}

// isURL reports whether s names a server rather than a path.
func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
