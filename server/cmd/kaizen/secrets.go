package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/server/internal/secrets"
)

func newSecrets() *cobra.Command {
	var asJSON, rotate bool
	var dir string
	cmd := &cobra.Command{
		Use:   "secrets NAME…",
		Short: "Make passwords and keys as files",
		Long: `secrets makes a random secret for each NAME as a file of its own, readable by its
owner only, in a directory that version control ignores. Files that are there
stay as they are. The secrets themselves are never printed.`,
		Example: `  kaizen secrets --dir secrets api_key grafana_admin_password
  kaizen secrets --dir secrets --rotate api_key`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			do := secrets.Ensure
			if rotate {
				do = secrets.Rotate
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
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}
