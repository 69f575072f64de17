package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/server"
)

func newServe() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `serve takes telemetry over OTLP (gRPC on 4317, HTTP on 4318, and HTTP on the
page's port too), keeps it in the data directory, and answers the web page, the
JSON API, and the Prometheus and Jaeger APIs.

Without an API key it listens on loopback addresses only. Keys come from
--key-file or KAIZEN_API_KEY. Every flag can be set by a variable (--otlp-grpc by
KAIZEN_OTLP_GRPC) or in a YAML file under its own name; flags beat variables,
which beat the file.

SIGTERM and SIGINT stop it cleanly; a second one ends it at once.`,
		Example: `  kaizen serve
  kaizen serve --data /var/lib/kaizen --listen 127.0.0.1:0 --json
  KAIZEN_API_KEY=… kaizen serve --listen 0.0.0.0:7070 --tls-cert c.pem --tls-key k.pem
  kaizen serve --config /etc/kaizen.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				path = os.Getenv("KAIZEN_CONFIG")
			}
			s, err := loadSettings(cmd.Flags(), path)
			if err != nil {
				return err
			}
			return serve(cmd, s, asJSON)
		},
	}
	f := cmd.Flags()
	addServerFlags(f)
	f.StringVar(&path, "config", "", "YAML file with settings (also KAIZEN_CONFIG)")
	f.BoolVar(&asJSON, "json", false, "print the ready line as one JSON object")
	return cmd
}

func serve(cmd *cobra.Command, s settings, asJSON bool) error {
	logger, err := newLogger(cmd.ErrOrStderr(), s.LogLevel, s.LogFormat)
	if err != nil {
		return err
	}
	srv, err := server.New(s.config(readBuildInfo().Version, logger))
	if err != nil {
		return startError(err)
	}
	if err := printReady(cmd.OutOrStdout(), srv, asJSON); err != nil {
		logger.Warn("cannot print the ready line", "error", err)
	}
	if err := srv.Serve(cmd.Context()); err != nil {
		return failed(err)
	}
	logger.Info("stopped")
	return nil
}

// startError makes every failure to start that is not one of usage a matter of
// the environment.
func startError(err error) error {
	code, advice := classify(err)
	if code == exitUsage {
		return err
	}
	return environment(err, advice)
}

// ready is the ready line of --json.
type ready struct {
	UI       string `json:"ui"`
	OTLPGRPC string `json:"otlp_grpc"`
	OTLPHTTP string `json:"otlp_http"`
}

// printReady says where the server is; its ports are bound.
func printReady(w io.Writer, srv *server.Server, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(ready{srv.UIURL(), srv.OTLPGRPCAddr(), srv.OTLPHTTPURL()})
	}
	_, err := fmt.Fprintf(w, "kaizen is serving: page %s, OTLP over HTTP %s, OTLP over gRPC %s, data %s\n",
		srv.UIURL(), srv.OTLPHTTPURL(), srv.OTLPGRPCAddr(), srv.DataDir())
	return err
}

// newLogger returns the logger of a long-running command.
func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usage(fmt.Errorf("--log-level %q: %w", level, err), "use debug, info, warn or error")
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, usage(fmt.Errorf("--log-format %q is neither text nor json", format), "")
}
