package main

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/server/internal/secrets"
)

func newSecrets() *cobra.Command {
	var asJSON, rotate bool
	var dir, user, out string
	cmd := &cobra.Command{
		Use:   "secrets NAME…",
		Short: "Make passwords and keys as files",
		Long: `secrets makes a random secret for each NAME as a file of its own, readable by its
owner only, in a directory that version control ignores. Files that are there
stay as they are. The secrets themselves are never printed.

With --htpasswd USER it writes OUT/NAME.htpasswd for each NAME that is there: the
user and a bcrypt hash, as nginx and Prometheus ask for them.`,
		Example: `  kaizen secrets --dir secrets api_key grafana_admin_password
  kaizen secrets --dir secrets --rotate api_key
  kaizen secrets --dir secrets --htpasswd kaizen --out generated prometheus_password`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			do := secrets.Ensure
			if rotate {
				do = secrets.Rotate
			}
			if user != "" {
				do = func(dir string, names ...string) ([]secrets.State, error) {
					return secrets.Htpasswd(dir, cmp.Or(out, dir), user, names...)
				}
			}
			states, err := do(dir, names...)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(states)
			}
			for _, s := range states {
				what := "is there"
				if s.New {
					what = "made"
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", s.Path, what); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "secrets", "directory of the files")
	cmd.Flags().BoolVar(&rotate, "rotate", false, "make them anew")
	cmd.Flags().StringVar(&user, "htpasswd", "", "write hashes of the secrets as USER's passwords instead")
	cmd.Flags().StringVar(&out, "out", "", "directory of the hashes (default --dir)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	cmd.MarkFlagsMutuallyExclusive("htpasswd", "rotate")
	return cmd
}
