// Package server is Kaizen's server as a library: it takes telemetry over
// OTLP, keeps it in a data directory, and answers the page, the JSON API, the
// Prometheus and Jaeger APIs and the audit ledger's. The command kaizen serve
// is a thin shell around it.
//
//	srv, err := server.New(server.Config{DataDir: "./kaizen-data"})
//	if err != nil {
//		return err
//	}
//	fmt.Println("serving", srv.UIURL())
//	return srv.Serve(ctx)
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"

	"github.com/kaizen-go/kaizen/server/internal/auth"
)

// Server is one running server. It is safe for concurrent use.
type Server struct {
	cfg    settled
	logger *slog.Logger
	guard  *auth.Guard
	lock   *lock
	health health
	parts  parts

	ui, otlpHTTP port
	grpc         *grpc.Server
	grpcListener net.Listener

	stops stopList

	backingUp sync.Mutex // held while a backup is made

	stopping  chan struct{} // closed when Shutdown begins
	stopped   chan struct{} // closed when it has ended
	stopOnce  sync.Once
	stopErr   error // written before stopped is closed
	serveOnce sync.Once
}

// port is an HTTP server on its listener.
type port struct {
	srv      *http.Server
	listener net.Listener
}

// New opens the data directory and binds every port; [Server.Serve] then
// answers on them. The errors wrap [ErrConfig] for a wrong setting and
// [ErrLocked] for a directory that another process holds. Whoever does not
// call Serve calls [Server.Shutdown].
func New(cfg Config) (*Server, error) {
	set, err := cfg.settle()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      set,
		logger:   set.Logger,
		stopping: make(chan struct{}),
		stopped:  make(chan struct{}),
	}
	if err := s.open(context.Background()); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), set.ShutdownTimeout)
		defer cancel()
		return nil, errors.Join(err, s.stops.run(ctx))
	}
	return s, nil
}

// open does what New promises. What it opened before an error is in s.stops.
func (s *Server) open(ctx context.Context) error {
	var err error
	s.guard, err = auth.New(auth.Config{Keys: s.cfg.keys, Hosts: s.cfg.listenHosts(), Origins: s.cfg.AllowedOrigins})
	if err != nil {
		return fmt.Errorf("server: %w: %w", ErrConfig, err)
	}
	if err := makeDataDir(s.cfg.DataDir); err != nil {
		return err
	}
	s.lock, err = takeLock(ctx, s.cfg.DataDir, serveCommand)
	if err != nil {
		return err
	}
	s.stops.addClose("lock", s.lock.release)
	listeners, err := s.bindAll(ctx)
	if err != nil {
		return err
	}
	if err := s.openParts(ctx); err != nil {
		return err
	}
	s.openPorts(listeners)
	held := s.lock.held
	held.UI, held.OTLPHTTP, held.OTLPGRPC = s.UIURL(), s.OTLPHTTPURL(), s.OTLPGRPCAddr()
	if err := s.lock.describe(held); err != nil {
		return err
	}
	s.warnOfPlainText()
	return nil
}

// dataDirs are the folders that the server itself makes in its directory. The
// others are made, owner-only, by the stores that they belong to.
var dataDirs = []string{keysFolder, metricsFolder}

// makeDataDir creates dir and its own folders, and shuts others out of it.
func makeDataDir(dir string) error {
	for _, d := range append([]string{"."}, dataDirs...) {
		path := filepath.Join(dir, d)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("server: create data directory: %w", err)
		}
		if err := os.Chmod(path, 0o700); err != nil {
			return fmt.Errorf("server: make data directory owner-only: %w", err)
		}
	}
	return nil
}

// bound are the three listeners.
type bound struct{ ui, otlpHTTP, otlpGRPC net.Listener }

// bindAll opens the ports before the stores, so that a port that is taken shows
// at once. Connections wait in the listeners' queues until Serve.
func (s *Server) bindAll(ctx context.Context) (b bound, err error) {
	for _, p := range []struct {
		what, addr string
		listener   *net.Listener
	}{
		{"page and API", s.cfg.Listen, &b.ui},
		{"OTLP over HTTP", s.cfg.OTLPHTTP, &b.otlpHTTP},
		{"OTLP over gRPC", s.cfg.OTLPGRPC, &b.otlpGRPC},
	} {
		l, err := bind(ctx, p.what, p.addr)
		if err != nil {
			return b, err
		}
		*p.listener = l
		s.stops.addClose("listener of "+p.what, func() error { return ignoreClosed(l.Close()) })
	}
	return b, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// openPorts makes the servers for the listeners. Their stops come last in the
// list, so they are the first to be taken.
func (s *Server) openPorts(l bound) {
	s.ui = port{newHTTP(s.uiRoutes(), s.cfg.tls, s.logger), l.ui}
	s.otlpHTTP = port{newHTTP(s.otlpRoutes(), s.cfg.tls, s.logger), l.otlpHTTP}
	s.grpc = newGRPC(s.cfg.tls, s.cfg.MaxRequestBytes, s.guard.ServerOptions())
	s.grpcListener = l.otlpGRPC
	s.parts.ingest.RegisterGRPC(s.grpc)
	s.stops.add("page and API", func(ctx context.Context) error { return stopHTTP(ctx, s.ui.srv) })
	s.stops.add("OTLP over HTTP", func(ctx context.Context) error { return stopHTTP(ctx, s.otlpHTTP.srv) })
	s.stops.add("OTLP over gRPC", func(ctx context.Context) error { return stopGRPC(ctx, s.grpc) })
}

// warnOfPlainText says when keys travel unencrypted.
func (s *Server) warnOfPlainText() {
	if s.cfg.tls != nil {
		return
	}
	for _, addr := range []string{s.cfg.Listen, s.cfg.OTLPHTTP, s.cfg.OTLPGRPC} {
		if auth.CheckListen(addr, false) != nil {
			s.logger.Warn("API keys travel unencrypted: set a TLS certificate and key, or put a TLS proxy in front", "address", addr)
			return
		}
	}
}

// UIURL returns the base URL of page and APIs, without a final slash.
func (s *Server) UIURL() string { return s.url(s.ui.listener) }

// OTLPHTTPURL returns the base URL for OTLP over HTTP, without a final slash.
func (s *Server) OTLPHTTPURL() string { return s.url(s.otlpHTTP.listener) }

// UIAddr returns the bound address of page and APIs as host:port.
func (s *Server) UIAddr() string { return s.ui.listener.Addr().String() }

// OTLPHTTPAddr returns the bound address of OTLP over HTTP as host:port.
func (s *Server) OTLPHTTPAddr() string { return s.otlpHTTP.listener.Addr().String() }

// OTLPGRPCAddr returns the bound address of OTLP over gRPC as host:port.
func (s *Server) OTLPGRPCAddr() string { return s.grpcListener.Addr().String() }

// DataDir returns the directory that the server keeps.
func (s *Server) DataDir() string { return s.cfg.DataDir }

// url names l for a client on this machine: an unspecified address becomes
// loopback, which it includes.
func (s *Server) url(l net.Listener) string {
	scheme := "http"
	if s.cfg.tls != nil {
		scheme = "https"
	}
	host, portNumber, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return scheme + "://" + l.Addr().String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, portNumber)
}
