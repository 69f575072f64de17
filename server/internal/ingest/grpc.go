package ingest

import (
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // what most senders use
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// RegisterGRPC adds the three OTLP services to g. The caller sets g's maximal
// message size (4 MiB is gRPC's default, too small here).
//
// The services are described here rather than by pdata, because pdata decodes
// before any of our code runs, and so before a body was walked: see guard. The
// codec that pdata installs for "proto" hands a message of type frame its bytes.
func (s *Server) RegisterGRPC(g *grpc.Server) {
	if encoding.GetCompressor("zstd") == nil {
		encoding.RegisterCompressor(zstdCompressor{})
	}
	for sig, name := range map[signal]string{
		traces:  "opentelemetry.proto.collector.trace.v1.TraceService",
		metrics: "opentelemetry.proto.collector.metrics.v1.MetricsService",
		logs:    "opentelemetry.proto.collector.logs.v1.LogsService",
	} {
		g.RegisterService(s.service(sig, name), s)
	}
}

func (s *Server) service(sig signal, name string) *grpc.ServiceDesc {
	handler := func(_ any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		in := &frame{}
		if err := dec(in); err != nil {
			return nil, err
		}
		export := func(ctx context.Context, in any) (any, error) { return s.export(ctx, sig, in.(*frame)) }
		if interceptor == nil {
			return export(ctx, in)
		}
		return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: s, FullMethod: "/" + name + "/Export"}, export)
	}
	return &grpc.ServiceDesc{
		ServiceName: name,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Export", Handler: handler}},
		Metadata:    "opentelemetry/proto/collector",
	}
}

func (s *Server) export(ctx context.Context, sig signal, in *frame) (any, error) {
	size := int64(len(in.body))
	fail := error(nil)
	switch {
	case size > s.cfg.MaxBodyBytes:
		fail = s.grpcError(sig, tooLarge(s.cfg.MaxBodyBytes))
	case !s.budget.take(size):
		fail = s.grpcError(sig, overloaded())
	}
	if fail != nil {
		return nil, fail
	}
	defer s.budget.give(size)
	a, f := s.take(ctx, sig, in.body, false)
	if f != nil {
		return nil, f.status()
	}
	b, err := a.req.response(a.rejected, a.reason, false)
	if err != nil {
		return nil, status.Error(codes.Internal, "cannot encode the answer")
	}
	return &frame{body: b}, nil
}

func (s *Server) grpcError(sig signal, f *failure) error {
	s.metrics.failed(sig, f.outcome)
	return f.status()
}

// status tells the sender when to retry: OTLP wants it in the details.
func (f *failure) status() error {
	st := status.New(f.code, f.msg)
	if f.retryAfter == 0 {
		return st.Err()
	}
	with, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(f.retryAfter)})
	if err != nil {
		return st.Err()
	}
	return with.Err()
}

// frame is a message that stays bytes.
type frame struct{ body []byte }

// SizeProto, MarshalProto and UnmarshalProto are what pdata's codec asks of a
// message. The buffer of UnmarshalProto goes back to a pool.
func (f *frame) SizeProto() int { return len(f.body) }

func (f *frame) MarshalProto(b []byte) int { return copy(b, f.body) }

func (f *frame) UnmarshalProto(b []byte) error {
	f.body = append([]byte(nil), b...)
	return nil
}

// zstdCompressor lets senders use zstd over gRPC. How much may come out is
// bounded by gRPC, which reads to the maximal message size.
type zstdCompressor struct{}

func (zstdCompressor) Name() string { return "zstd" }

func (zstdCompressor) Compress(w io.Writer) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
}

func (zstdCompressor) Decompress(r io.Reader) (io.Reader, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return nil, fmt.Errorf("ingest: zstd: %w", err)
	}
	return &closeAtEnd{d}, nil
}

// closeAtEnd gives the decoder's memory back; gRPC does not close readers.
type closeAtEnd struct{ d *zstd.Decoder }

func (c *closeAtEnd) Read(b []byte) (int, error) {
	n, err := c.d.Read(b)
	if err != nil {
		c.d.Close()
	}
	return n, err
}
