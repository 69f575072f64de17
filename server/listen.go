package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Limits of the HTTP ports. There is none on the body's time: 64 MiB over a slow
// line take minutes, and the body's size is bounded instead.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// Keepalive of the gRPC port: exporters hold one connection for hours, often
// through a balancer that forgets silent ones after some minutes.
const (
	grpcPing        = 2 * time.Minute
	grpcPingTimeout = 20 * time.Second
	grpcMinPing     = 10 * time.Second
)

// bind opens one port.
func bind(ctx context.Context, what, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("server: bind %s: %w", what, err)
	}
	return l, nil
}

// newHTTP returns a server for h that logs to logger.
func newHTTP(h http.Handler, tlsConfig *tls.Config, logger *slog.Logger) *http.Server {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	if tlsConfig != nil {
		srv.TLSConfig = tlsConfig.Clone()
	}
	return srv
}

// serveHTTP serves until srv is stopped; being stopped is no error.
func serveHTTP(srv *http.Server, l net.Listener) error {
	var err error
	if srv.TLSConfig != nil {
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// serveGRPC serves until srv is stopped; being stopped, be it before the start,
// is no error.
func serveGRPC(srv *grpc.Server, l net.Listener) error {
	if err := srv.Serve(l); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// stopHTTP lets requests end, and ends them when ctx does.
func stopHTTP(ctx context.Context, srv *http.Server) error {
	err := srv.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, srv.Close())
	}
	return nil
}

// newGRPC returns a gRPC server with the limits of the OTLP port.
func newGRPC(tlsConfig *tls.Config, maxBytes int64, more []grpc.ServerOption) *grpc.Server {
	opts := append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(int(min(maxBytes, 1<<31-1))),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: grpcPing, Timeout: grpcPingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: grpcMinPing, PermitWithoutStream: true}),
	}, more...)
	if tlsConfig != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(tlsConfig.Clone())))
	}
	return grpc.NewServer(opts...)
}

// stopGRPC lets calls end, and ends them when ctx does.
func stopGRPC(ctx context.Context, srv *grpc.Server) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.GracefulStop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		srv.Stop() // makes GracefulStop return
		<-done
		return context.Cause(ctx)
	}
}
