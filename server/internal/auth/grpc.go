package auth

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ServerOptions returns the interceptors that apply the guard to gRPC. The key
// travels in the metadata authorization or x-api-key.
func (g *Guard) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
	}
}

func (g *Guard) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := g.judgeCall(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (g *Guard) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := g.judgeCall(ss.Context()); err != nil {
		return err
	}
	return next(srv, ss)
}

// judgeCall asks for a key only. Browsers cannot speak gRPC without TLS, so the
// checks of Host and Origin have nothing to guard here.
func (g *Guard) judgeCall(ctx context.Context) error {
	if !g.Keyed() {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if g.valid(pickKey(first(md, "authorization"), first(md, "x-api-key"))) {
		return nil
	}
	return status.Error(codes.Unauthenticated,
		"this server needs an API key in the metadata authorization (Bearer <key>) or x-api-key")
}

func first(md metadata.MD, name string) string {
	if v := md.Get(name); len(v) > 0 {
		return v[0]
	}
	return ""
}
