package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/server"
)

// healthTimeout is shorter than the time that the health checks of container
// runtimes allow by default.
const healthTimeout = 4 * time.Second

func newHealth() *cobra.Command {
	var target string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it is ready: exit 0 or 1",
		Long: `health asks /readyz, which needs no key. Without --server it asks the server that
the same variables would start here (KAIZEN_LISTEN, KAIZEN_TLS_CERT), so that a
container can check itself; over TLS it then looks at readiness, not at the name
in the certificate.`,
		Example: `  kaizen health
  kaizen health --server https://kaizen.internal:7070`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			here := target == "" && os.Getenv("KAIZEN_SERVER") == ""
			if target == "" {
				target = os.Getenv("KAIZEN_SERVER")
			}
			if here {
				target = ownAddress(os.Getenv("KAIZEN_LISTEN"), os.Getenv("KAIZEN_TLS_CERT") != "")
			}
			if !isURL(target) {
				return usage(fmt.Errorf("server %q is not a URL", target), "write it like http://127.0.0.1:7070")
			}
			return checkReady(cmd.Context(), cmd.OutOrStdout(), strings.TrimSuffix(target, "/"), here)
		},
	}
	cmd.Flags().StringVar(&target, "server", "", "URL of the server (or KAIZEN_SERVER)")
	return cmd
}

// ownAddress is the URL under which this machine reaches a server that listens
// on addr.
func ownAddress(addr string, overTLS bool) string {
	if addr == "" {
		addr = server.DefaultListen
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if overTLS {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

func checkReady(ctx context.Context, out io.Writer, base string, here bool) error {
	transport := &http.Transport{DisableKeepAlives: true}
	if here {
		// The certificate is for the name that others use. Nothing secret is sent.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	client := &http.Client{Timeout: healthTimeout, Transport: transport}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return usage(err, "")
	}
	resp, err := client.Do(req)
	if err != nil {
		return failed(fmt.Errorf("ask %s: %w", base, unwrapURL(err)))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return failed(err)
	}
	if resp.StatusCode != http.StatusOK {
		return failed(fmt.Errorf("%s is not ready: %s", base, strings.TrimSpace(string(body))))
	}
	_, err = fmt.Fprintln(out, "ready")
	return err
}
