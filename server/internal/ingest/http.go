package ingest

import (
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	typeProto = "application/x-protobuf"
	typeJSON  = "application/json"
)

// route serves one signal.
func (s *Server) route(sig signal) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fail := s.serve(w, r, sig); fail != nil {
			writeError(w, r, fail)
		}
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, sig signal) (fail *failure) {
	defer s.caught(sig, &fail)
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return &failure{http: http.StatusMethodNotAllowed, code: codes.Unimplemented, msg: "use POST"}
	}
	kind := contentType(r)
	if kind == "" {
		s.metrics.failed(sig, outcomeInvalid)
		return &failure{
			http: http.StatusUnsupportedMediaType, code: codes.InvalidArgument,
			msg: fmt.Sprintf("content type %.60q: send %s or %s", r.Header.Get("Content-Type"), typeProto, typeJSON),
		}
	}
	body, release, fail := s.readBody(w, r)
	if fail != nil {
		s.metrics.failed(sig, fail.outcome)
		return fail
	}
	defer release()
	a, fail := s.take(r.Context(), sig, body, kind == typeJSON)
	if fail != nil {
		return fail
	}
	b, err := a.req.response(a.rejected, a.reason, kind == typeJSON)
	if err != nil {
		return &failure{http: http.StatusInternalServerError, code: codes.Internal, msg: "cannot encode the answer"}
	}
	s.write(w, kind, http.StatusOK, b)
	return nil
}

// contentType returns typeProto, typeJSON, or "" for what is neither.
func contentType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	switch t {
	case typeProto, "application/protobuf", "application/vnd.google.protobuf":
		return typeProto
	case typeJSON:
		return typeJSON
	}
	return ""
}

// write answers. That the sender has gone is no failure of the server's.
func (s *Server) write(w http.ResponseWriter, kind string, code int, b []byte) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(code)
	if _, err := w.Write(b); err != nil {
		s.cfg.Logger.Debug("ingest: answer not sent", "error", err)
	}
}

// writeError answers with a google.rpc.Status in the request's own encoding,
// as OTLP wants it; in JSON when that is unknown.
func writeError(w http.ResponseWriter, r *http.Request, f *failure) {
	kind := contentType(r)
	st := status.New(f.code, f.msg).Proto()
	var b []byte
	var err error
	if kind == typeProto {
		b, err = proto.Marshal(st)
	} else {
		kind = typeJSON
		b, err = protojson.Marshal(st)
	}
	if err != nil { // a code and a text that came from here
		b = nil
	}
	if f.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retryAfter.Seconds()))))
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(f.http)
	_, _ = w.Write(b) // the sender has gone, or sees the status
}
