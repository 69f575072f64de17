package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/server"
	"github.com/kaizen-go/kaizen/server/internal/doctor"
)

func newDoctor() *cobra.Command {
	var asJSON bool
	var cfg doctor.Config
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong with an installation, and say what to do",
		Long: `doctor looks at ports, clock, disk, keys, permissions, certificate, ledger, exporter,
spool, versions and the programs around the server that it is given addresses
of. It changes nothing. Exit 1 if a check failed; warnings are told, and fine.

It looks at the server that holds the data directory, at KAIZEN_SERVER, or at
the one that --server names, and at OTEL_EXPORTER_OTLP_ENDPOINT.`,
		Example: `  kaizen doctor
  kaizen doctor --server https://kaizen.internal:7070 --prometheus http://127.0.0.1:9090 --grafana http://127.0.0.1:3000`,
		Args: cobra.NoArgs,
	}
	src := addSource(cmd)
	cmd.Flags().StringVar(&cfg.Prometheus, "prometheus", "", "URL of a Prometheus that scrapes the server")
	cmd.Flags().StringVar(&cfg.Alertmanager, "alertmanager", "", "URL of an Alertmanager")
	cmd.Flags().StringVar(&cfg.Grafana, "grafana", "", "URL of a Grafana")
	cmd.Flags().StringVar(&cfg.Jaeger, "jaeger", "", "URL of a Jaeger")
	cmd.Flags().StringVar(&cfg.Elasticsearch, "elasticsearch", "", "URL of an Elasticsearch or OpenSearch")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		src.settle()
		if err := fillDoctor(&cfg, src); err != nil {
			return err
		}
		findings := doctor.Examine(cmd.Context(), cfg)
		if err := printFindings(cmd, findings, asJSON); err != nil {
			return err
		}
		if doctor.Worst(findings) == doctor.Failed {
			return failed(errors.New("something is wrong: see the lines that say failed"))
		}
		return nil
	}
	return cmd
}

// fillDoctor takes the rest of the settings from where a server here, and
// programs that send to it, would take them.
func fillDoctor(cfg *doctor.Config, src *source) error {
	cfg.DataDir, cfg.Server, cfg.Key = src.data, src.server, os.Getenv("KAIZEN_API_KEY")
	cfg.Version = readBuildInfo().Version
	cfg.TLSCert = os.Getenv("KAIZEN_TLS_CERT")
	cfg.OTLP = os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	if cfg.Server == "" {
		holder, held, err := server.FindHolder(cfg.DataDir)
		if err != nil {
			return environment(err, "")
		}
		if held {
			cfg.Server = holder.UI
			if cfg.OTLP == "" {
				cfg.OTLP = holder.OTLPHTTP
			}
		}
	}
	if cache, err := os.UserCacheDir(); err == nil {
		cfg.SpoolDir = filepath.Join(cache, "kaizen")
	}
	cfg.Addresses = map[string]string{}
	for name, address := range map[string]string{"KAIZEN_LISTEN": server.DefaultListen, "KAIZEN_OTLP_HTTP": server.DefaultOTLPHTTP, "KAIZEN_OTLP_GRPC": server.DefaultOTLPGRPC} {
		if set := os.Getenv(name); set != "" {
			address = set
		}
		cfg.Addresses[name] = address
	}
	return nil
}

func printFindings(cmd *cobra.Command, findings []doctor.Finding, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(findings)
	}
	t := newTable(cmd.OutOrStdout(), "CHECK", "STATE", "FOUND")
	for _, f := range findings {
		if f.State == doctor.Skipped {
			continue
		}
		t.row(f.Check, string(f.State), clean(f.Message))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Advice != "" && (f.State == doctor.Failed || f.State == doctor.Warning) {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "\n%s: %s\n", f.Check, f.Advice); err != nil {
				return err
			}
		}
	}
	return nil
}
