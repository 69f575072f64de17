package prom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// maxWriteBytes bounds one remote-write request, before and after
// decompression. Prometheus sends 2,000 samples by default, some 200 KB.
const maxWriteBytes = 32 << 20

const (
	writeV1 = "prometheus.WriteRequest"
	writeV2 = "io.prometheus.write.v2.Request"
)

// written counts what a request stored, for the answer's headers.
type written struct{ samples, histograms, exemplars, rejected int }

// remoteWrite takes Prometheus remote write, versions 1 and 2. What can be stored is
// stored; if anything is refused the answer is 400, which tells the sender not to
// repeat it. A 5xx answer may be repeated.
func (db *DB) remoteWrite(w http.ResponseWriter, r *http.Request) {
	leave, err := db.enter()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer leave()
	version, status, err := writeVersion(r.Header)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWriteBytes))
	if err != nil {
		status := http.StatusBadRequest
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "read request: "+err.Error(), status)
		return
	}
	req, err := decodeWrite(body, version)
	if err != nil {
		http.Error(w, "decode "+version+": "+err.Error(), http.StatusBadRequest)
		return
	}
	n, err := db.appendWrite(r.Context(), req)
	if err != nil {
		db.cfg.Logger.Error("prom: remote write", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if version == writeV2 {
		h := w.Header()
		h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(n.samples))
		h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(n.histograms))
		h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(n.exemplars))
	}
	if n.rejected > 0 {
		http.Error(w, fmt.Sprintf("%d samples refused: invalid, too old, duplicate or over a limit; see kaizen_server_samples_refused_total", n.rejected), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// writeVersion returns the message that a request carries, or the HTTP status
// to refuse it with.
func writeVersion(h http.Header) (version string, status int, err error) {
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "snappy") {
		return "", http.StatusUnsupportedMediaType, fmt.Errorf("content encoding %.32q: only snappy is taken", enc)
	}
	ct := h.Get("Content-Type")
	if ct == "" {
		return writeV1, 0, nil
	}
	media, params, err := mime.ParseMediaType(ct)
	if err != nil || media != "application/x-protobuf" {
		return "", http.StatusUnsupportedMediaType, fmt.Errorf("content type %.64q: only application/x-protobuf is taken", ct)
	}
	switch proto := params["proto"]; proto {
	case "", writeV1:
		return writeV1, 0, nil
	case writeV2:
		return writeV2, 0, nil
	default:
		return "", http.StatusUnsupportedMediaType, fmt.Errorf("message %.64q is not known", proto)
	}
}

// decodeWrite decompresses and parses a request.
func decodeWrite(body []byte, version string) (writeRequest, error) {
	n, err := s2.DecodedLen(body)
	if err != nil {
		return writeRequest{}, fmt.Errorf("snappy: %w", err)
	}
	if n > maxWriteBytes {
		return writeRequest{}, fmt.Errorf("snappy: %d bytes, more than %d", n, maxWriteBytes)
	}
	msg, err := s2.Decode(nil, body)
	if err != nil {
		return writeRequest{}, fmt.Errorf("snappy: %w", err)
	}
	if version == writeV2 {
		return parseWriteV2(msg)
	}
	return parseWriteV1(msg)
}

func (db *DB) appendWrite(ctx context.Context, req writeRequest) (n written, err error) {
	if err := db.wal.err(); err != nil {
		return n, err
	}
	b := db.newBatch(ctx)
	for i := range req.series {
		if err := b.series(&req.series[i], &n); err != nil {
			return written{}, errors.Join(err, b.rollback())
		}
	}
	if err := b.commit(); err != nil {
		return written{}, err
	}
	for family, m := range req.metadata {
		if family != "" {
			db.meta.set(strings.ToValidUTF8(family, ""), m)
		}
	}
	return n, nil
}

// series writes the samples of one series, then its exemplars. Its error is
// the storage's; refusals are counted.
func (b *batch) series(s *writeSeries, n *written) error {
	for _, x := range s.samples {
		err := s.err
		if err == nil {
			x.labels = s.labels
			err = b.add([]sample{x})
		}
		var r *refusal
		switch {
		case errors.As(err, &r):
			n.rejected++
			b.db.count(err, 1)
		case err != nil:
			return err
		case x.h != nil || x.fh != nil:
			n.histograms++
		default:
			n.samples++
		}
	}
	if s.err == nil {
		n.exemplars += b.exemplars(s.labels, s.exemplars)
	}
	return nil
}

// exemplars adds exemplars to a series that exists and returns how many.
func (b *batch) exemplars(ls labels.Labels, list []exemplar.Exemplar) int {
	app, ok := b.app.(storage.ExemplarAppenderV2)
	if !ok || len(list) == 0 {
		return 0
	}
	slices.SortFunc(list, exemplar.Compare)
	_, err := app.AppendExemplars(b.ref(ls), ls, list)
	var partial *storage.AppendPartialError
	switch {
	case err == nil:
		return len(list)
	case errors.As(err, &partial):
		return len(list) - len(partial.ExemplarErrors)
	}
	return 0
}

// familyOf returns the family that a series of type t belongs to.
func familyOf(name string, t model.MetricType) string {
	if t == model.MetricTypeHistogram || t == model.MetricTypeGaugeHistogram || t == model.MetricTypeSummary {
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if family, ok := strings.CutSuffix(name, suffix); ok {
				return family
			}
		}
	}
	return name
}
