package server

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Serve answers on every port until ctx ends, [Server.Shutdown] is called or a
// port fails; it then stops the server and returns when that is done. The
// error holds what failed, in serving and in stopping; nil means a clean stop.
// It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	err := errors.New("server: Serve called twice")
	s.serveOnce.Do(func() { err = s.serve(ctx) })
	return err
}

func (s *Server) serve(ctx context.Context) error {
	g, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	g.Go(func() error { return named("page and API", serveHTTP(s.ui.srv, s.ui.listener)) })
	g.Go(func() error { return named("OTLP over HTTP", serveHTTP(s.otlpHTTP.srv, s.otlpHTTP.listener)) })
	g.Go(func() error { return named("OTLP over gRPC", serveGRPC(s.grpc, s.grpcListener)) })
	s.health.phase.CompareAndSwap(int32(phaseStarting), int32(phaseServing))
	select {
	case <-ctx.Done():
	case <-s.stopping:
	case <-failed.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownTimeout)
	defer cancel()
	stopErr := s.Shutdown(stopCtx)
	return errors.Join(g.Wait(), stopErr)
}

func named(what string, err error) error {
	if err != nil {
		return fmt.Errorf("server: serve %s: %w", what, err)
	}
	return nil
}

// Shutdown stops the server against the flow: no new requests, the running
// ones end, everything is flushed, the ledger is closed, the lock released.
// When ctx ends first, requests are cut off, but every step is still taken;
// the errors are joined. Calls after the first wait for it and return the same.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopOnce.Do(func() {
		s.health.set(phaseStopping)
		close(s.stopping)
		s.stopErr = s.stops.run(ctx)
		close(s.stopped)
	})
	<-s.stopped
	return s.stopErr
}
