package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/server"
	"github.com/kaizen-go/kaizen/server/internal/demo"
)

// demoFlushTimeout is how long the demo waits for the server to take what the
// agents left, a server that is being restarted included.
const demoFlushTimeout = 2 * time.Minute

type demoOptions struct {
	exit, asJSON, live bool
	serverURL          string
}

func newDemo() *cobra.Command {
	var opt demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a team of agents at work",
		Long: `demo starts a server in a fresh data directory, lets teams of agents work, and
shows what was recorded. The agents' model calls go over real HTTP through the
official provider SDKs, to a scripted model server on this machine; with --live
to the provider whose key is in OPENAI_API_KEY or ANTHROPIC_API_KEY.

Every number of the summary is asked back from the server, and is compared with
what the model server billed. The server goes on serving until Ctrl-C, or ends
with --exit. Ports that are taken are replaced by free ones.`,
		Example: `  kaizen demo
  kaizen demo --exit --json
  kaizen demo --server http://127.0.0.1:7070   # record into a running server`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadSettings(cmd.Flags(), "")
			if err != nil {
				return err
			}
			return runDemo(cmd, s, opt)
		},
	}
	f := cmd.Flags()
	addServerFlags(f)
	f.Lookup("data").DefValue = "a new temporary directory"
	f.BoolVar(&opt.exit, "exit", false, "end once the work is stored")
	f.BoolVar(&opt.asJSON, "json", false, "print the summary as one JSON object")
	f.BoolVar(&opt.live, "live", false, "use the real provider whose key is in the environment")
	f.StringVar(&opt.serverURL, "server", "", "record into the running server at this URL instead of starting one")
	return cmd
}

// demoTarget is the server that the demo records into.
type demoTarget struct {
	url     string
	dataDir string // "" for a server that is not ours
	spool   string
	stop    func() error
}

func runDemo(cmd *cobra.Command, s settings, opt demoOptions) (err error) {
	ctx := cmd.Context()
	target, err := startDemoServer(cmd, s, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.stop()) }()

	say := cmd.OutOrStdout()
	if opt.asJSON {
		say = io.Discard
	}
	fmt.Fprintf(say, "Watch it at %s\nThe agents are at work …\n", target.url)
	summary, err := workAndAsk(ctx, target, opt)
	if err != nil {
		return err
	}
	if err := summary.print(cmd.OutOrStdout(), opt.asJSON); err != nil {
		return failed(err)
	}
	if err := summary.check(); err != nil {
		return failed(err)
	}
	if opt.exit || opt.serverURL != "" {
		return nil
	}
	fmt.Fprintln(say, "\nServing until Ctrl-C.")
	<-ctx.Done()
	return nil
}

// workAndAsk lets the teams work and asks the server what it has of it.
func workAndAsk(ctx context.Context, target *demoTarget, opt demoOptions) (*demoSummary, error) {
	models, bill, err := demoModels(opt)
	if err != nil {
		return nil, err
	}
	defer bill.close()
	service := "kaizen-demo"
	if opt.serverURL != "" {
		service += "-" + strings.ToLower(ulid.Make().String()) // apart from earlier ones in the same store
	}
	start := time.Now()
	obs, err := kaizen.Start(ctx, kaizen.Config{
		ServiceName: service, ServiceVersion: readBuildInfo().Version, Server: target.url, SpoolDir: target.spool,
		Content: kaizen.ContentFull, LogWriter: io.Discard, FlushDelay: 100 * time.Millisecond, MetricsEvery: time.Second,
	})
	if err != nil {
		return nil, environment(err, "")
	}
	workErr := demo.Run(ctx, obs, models)
	worked := time.Since(start)

	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoFlushTimeout)
	defer cancel()
	err = errors.Join(workErr, obs.Flush(flush), obs.Shutdown(flush))
	if err != nil && !opt.live {
		return nil, failed(err)
	}
	if err != nil { // a real model may well fail; what it did is stored all the same
		fmt.Fprintln(os.Stderr, "kaizen: demo:", err)
	}
	client, err := newClient(target.url)
	if err != nil {
		return nil, err
	}
	summary := &demoSummary{bill: bill, service: service, since: start, DurationMS: worked.Milliseconds(), UIURL: target.url, DataDir: target.dataDir}
	return summary, summary.askPatiently(flush, client)
}

// demoModels returns what the agents ask, and the account of it.
func demoModels(opt demoOptions) (demo.Models, demoBill, error) {
	if !opt.live {
		s := demo.NewScripted()
		return s, demoBill{Scripted: &s}, nil
	}
	for _, p := range []struct{ env, provider string }{{"OPENAI_API_KEY", "openai"}, {"ANTHROPIC_API_KEY", "anthropic"}} {
		if os.Getenv(p.env) != "" {
			return demo.Live{Provider: p.provider}, demoBill{}, nil
		}
	}
	return nil, demoBill{}, usage(errors.New("demo: --live needs a key"), "set OPENAI_API_KEY or ANTHROPIC_API_KEY")
}

// startDemoServer starts a server of our own, or names the one of --server.
func startDemoServer(cmd *cobra.Command, s settings, opt demoOptions) (*demoTarget, error) {
	dir, err := os.MkdirTemp("", "kaizen-demo-")
	if err != nil {
		return nil, environment(err, "")
	}
	spool := filepath.Join(dir, "spool")
	if opt.serverURL != "" {
		if err := reachable(cmd.Context(), opt.serverURL); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		// What is left in the spool is lost with it only if it is empty.
		return &demoTarget{url: strings.TrimRight(opt.serverURL, "/"), spool: spool, stop: func() error { return removeIfEmpty(dir) }}, nil
	}
	if !cmd.Flags().Changed("data") {
		s.Data = filepath.Join(dir, "data")
	}
	logger, err := newLogger(cmd.ErrOrStderr(), demoLogLevel(cmd, s), s.LogFormat)
	if err != nil {
		return nil, err
	}
	srv, err := newServerAnywhere(s, logger)
	if err != nil {
		return nil, startError(err)
	}
	served := make(chan error, 1)
	serving, stop := context.WithCancel(context.WithoutCancel(cmd.Context()))
	go func() { served <- srv.Serve(serving) }()
	return &demoTarget{url: srv.UIURL(), dataDir: srv.DataDir(), spool: spool, stop: func() error {
		stop()
		if err := <-served; err != nil {
			return failed(err)
		}
		if err := removeIfEmpty(spool); err != nil {
			return err
		}
		return nil
	}}, nil
}

// reachable is an error when no server answers at url: better now than after the
// agents have worked.
func reachable(ctx context.Context, url string) error {
	c, err := newClient(url)
	if err != nil {
		return err
	}
	_, err = c.raw(ctx, "/api/stats", nil)
	return err
}

// demoLogLevel keeps the server's chatter out of the demo unless it was asked for.
func demoLogLevel(cmd *cobra.Command, s settings) string {
	if cmd.Flags().Changed("log-level") {
		return s.LogLevel
	}
	return "warn"
}

// newServerAnywhere starts a server on the configured ports, or on free ones
// where those are taken: a demo should not fail because a server runs.
func newServerAnywhere(s settings, logger *slog.Logger) (*server.Server, error) {
	version := readBuildInfo().Version
	srv, err := server.New(s.config(version, logger))
	if !errors.Is(err, syscall.EADDRINUSE) {
		return srv, err
	}
	logger.Warn("a port is taken; taking free ones", "error", err)
	s.Listen, s.OTLPHTTP, s.OTLPGRPC = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	return server.New(s.config(version, logger))
}

// removeIfEmpty removes a directory tree that holds no file.
func removeIfEmpty(dir string) error {
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil && info.Size() > 0 {
				return errHasFiles
			}
		}
		return nil
	})
	if err != nil {
		return nil // something waits there: it stays
	}
	return os.RemoveAll(dir)
}

var errHasFiles = errors.New("has files")
