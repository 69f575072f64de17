package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/server/internal/certs"
)

func newCerts() *cobra.Command {
	return group("certs", "Certificates for a deployment without an authority of its own",
		`certs makes a private authority and the certificates of the servers of one
deployment. Clients trust the authority: SSL_CERT_FILE=DIR/ca.pem, or what the
client's own settings say. Keep ca-key.pem off the servers.`,
		newCertsIssue(), newCertsCheck())
}

func newCertsIssue() *cobra.Command {
	var asJSON bool
	var cfg certs.Config
	cmd := &cobra.Command{
		Use:   "issue NAME[=HOST,HOST,…]…",
		Short: "Make what is missing, and renew what is about to end",
		Long: `issue makes NAME.pem and NAME-key.pem for each NAME, with the hosts as subject
alternative names (without any, NAME itself), and the authority (ca.pem) if
there is none. What is good stays as it is, so it can be run daily: it renews
30 days before the end. Keys are readable by their owner only.`,
		Example: `  kaizen certs issue --dir certs kaizen=kaizen,localhost,127.0.0.1 grafana`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var servers []certs.Server
			for _, arg := range args {
				name, hosts, _ := strings.Cut(arg, "=")
				s := certs.Server{Name: name}
				if hosts != "" {
					s.Hosts = strings.Split(hosts, ",")
				}
				servers = append(servers, s)
			}
			made, err := certs.Issue(cfg, servers)
			if err != nil {
				return err
			}
			return printCerts(cmd, made, asJSON, time.Now())
		},
	}
	cmd.Flags().StringVar(&cfg.Dir, "dir", "certs", "directory of the files")
	cmd.Flags().IntVar(&cfg.Days, "days", 397, "days that a certificate is valid, at most 825")
	cmd.Flags().IntVar(&cfg.CADays, "ca-days", 3650, "days that a new authority is valid")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

func newCertsCheck() *cobra.Command {
	var asJSON bool
	var dir string
	var within int
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Say when certificates end; exit 1 if one does soon",
		Example: `  kaizen certs check --dir certs --within 30`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := certs.List(dir)
			if err != nil {
				return err
			}
			if len(all) == 0 {
				return environment(fmt.Errorf("no certificates in %s", dir), "make them with kaizen certs issue")
			}
			now := time.Now()
			if err := printCerts(cmd, all, asJSON, now); err != nil {
				return err
			}
			var ending []error
			for _, c := range all {
				if c.NotAfter.Before(now.AddDate(0, 0, within)) {
					ending = append(ending, fmt.Errorf("%s ends on %s", c.Path, c.NotAfter.Format(time.DateOnly)))
				}
			}
			if len(ending) > 0 {
				return &exitError{exitFailed, "renew with kaizen certs issue", errors.Join(ending...)}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "certs", "directory of the files")
	cmd.Flags().IntVar(&within, "within", 30, "days that are soon")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

func printCerts(cmd *cobra.Command, all []certs.Cert, asJSON bool, now time.Time) error {
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
	}
	t := newTable(cmd.OutOrStdout(), "NAME", "HOSTS", "ENDS", "DAYS", "")
	for _, c := range all {
		what := ""
		if c.New {
			what = "made: " + c.Why
			if c.Why == "" {
				what = "made"
			}
		}
		t.row(c.Name, orDash(strings.Join(c.Hosts, " ")), c.NotAfter.Format(time.DateOnly), count(int64(c.NotAfter.Sub(now)/(24*time.Hour))), what)
	}
	return t.flush()
}
