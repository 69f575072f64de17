package ingest

import (
	"net"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/kaizen-go/kaizen/server/internal/store"
)

// dial serves s over gRPC and returns a connection to it.
func dial(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	g := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	s.RegisterGRPC(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return cc
}

func TestGRPC(t *testing.T) {
	st := openStore(t, store.Config{})
	cc := dial(t, New(Config{Store: st}))
	for _, compressor := range []string{"identity", "gzip", "zstd"} {
		td := batch(3)
		spansOf(td).At(1).SetTraceID(pcommon.TraceID{})
		spansOf(td).At(2).SetName(compressor)
		spansOf(td).At(2).SetSpanID(pcommon.SpanID([]byte(compressor + "......")[:8]))
		res, err := ptraceotlp.NewGRPCClient(cc).Export(t.Context(), ptraceotlp.NewExportRequestFromTraces(td), grpc.UseCompressor(compressor))
		if err != nil {
			t.Fatalf("%s: %v", compressor, err)
		}
		if n := res.PartialSuccess().RejectedSpans(); n != 1 || res.PartialSuccess().ErrorMessage() == "" {
			t.Errorf("%s: %d rejected", compressor, n)
		}
	}
	if n := st.Stats().Spans; n != 4 {
		t.Errorf("%d spans, want 4", n)
	}
	if _, err := plogotlp.NewGRPCClient(cc).Export(t.Context(), plogotlp.NewExportRequestFromLogs(plog.NewLogs())); err != nil {
		t.Errorf("logs: %v", err)
	}
	if _, err := pmetricotlp.NewGRPCClient(cc).Export(t.Context(), pmetricotlp.NewExportRequestFromMetrics(pmetric.NewMetrics())); err != nil {
		t.Errorf("metrics: %v", err)
	}
}

func TestGRPCGuardsAndErrors(t *testing.T) {
	cc := dial(t, New(Config{Store: openStore(t, store.Config{MaxItems: 1})}))
	const method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	err := cc.Invoke(t.Context(), method, &frame{body: deepProto(1_000_000)}, &frame{})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("deep nesting: %v", err)
	}
	_, err = ptraceotlp.NewGRPCClient(cc).Export(t.Context(), ptraceotlp.NewExportRequestFromTraces(batch(2)))
	if status.Code(err) != codes.Unavailable {
		t.Fatalf("full store: %v", err)
	}
	details := status.Convert(err).Details()
	if len(details) != 1 {
		t.Fatalf("full store: details %v", details)
	}
	if _, ok := details[0].(*errdetails.RetryInfo); !ok {
		t.Errorf("full store: details %v, want a RetryInfo", details)
	}
}
