package otlp

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func clearEnv(t *testing.T) {
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "OTEL_") {
			t.Setenv(k, "")
		}
	}
}

func TestConfigFromEnv(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  map[string]string
		cfg  Config
		want Config
	}{
		{name: "nothing set"},
		{
			name: "all signals",
			env:  map[string]string{"ENDPOINT": "http://h:1/base", "HEADERS": "api-key=a%2Cb, x = y ,", "TIMEOUT": "2500", "COMPRESSION": "none"},
			want: Config{Endpoint: "http://h:1/base", Headers: map[string]string{"api-key": "a,b", "x": "y"}, Timeout: 2500 * time.Millisecond, Compression: NoGzip},
		},
		{
			name: "one signal",
			env:  map[string]string{"TRACES_ENDPOINT": "http://t:1/as/is", "LOGS_HEADERS": "a=b", "METRICS_TIMEOUT": "1", "METRICS_COMPRESSION": "gzip"},
			want: Config{
				Traces: Signal{URL: "http://t:1/as/is"}, Logs: Signal{Headers: map[string]string{"a": "b"}},
				Metrics: Signal{Timeout: time.Millisecond, Compression: Gzip},
			},
		},
		{
			name: "fields win",
			env: map[string]string{"ENDPOINT": "http://env", "TRACES_ENDPOINT": "http://env", "HEADERS": "a=env", "LOGS_HEADERS": "a=env", "TIMEOUT": "1",
				"PROTOCOL": "grpc"},
			cfg:  Config{Endpoint: "http://own", Headers: map[string]string{}, Timeout: time.Second},
			want: Config{Endpoint: "http://own", Headers: map[string]string{}, Timeout: time.Second},
		},
		{
			name: "a field for one signal wins",
			env:  map[string]string{"TRACES_ENDPOINT": "http://env"},
			cfg:  Config{Traces: Signal{URL: "http://own"}},
			want: Config{Traces: Signal{URL: "http://own"}},
		},
		{
			name: "protocol",
			env:  map[string]string{"ENDPOINT": "http://h:1", "PROTOCOL": "http/protobuf"},
			want: Config{Endpoint: "http://h:1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clearEnv(t)
			for k, v := range tt.env {
				t.Setenv("OTEL_EXPORTER_OTLP_"+k, v)
			}
			got, err := ConfigFromEnv(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Config{}, "TLS", "Resource", "HTTPClient", "Logger"), cmpopts.IgnoreFields(Signal{}, "TLS")); diff != "" {
				t.Errorf("ConfigFromEnv differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigFromEnvErrors(t *testing.T) {
	for key, value := range map[string]string{
		"ENDPOINT": "localhost:4318", "TRACES_ENDPOINT": "ftp://x", "TIMEOUT": "soon", "METRICS_TIMEOUT": "0", "COMPRESSION": "zstd",
		"HEADERS": "secret-without-name", "LOGS_HEADERS": "a=%zz", "CERTIFICATE": "/does/not/exist", "TRACES_CLIENT_KEY": "/does/not/exist",
	} {
		t.Run(key, func(t *testing.T) {
			clearEnv(t)
			t.Setenv("OTEL_EXPORTER_OTLP_"+key, value)
			_, err := ConfigFromEnv(Config{})
			if err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_") {
				t.Fatalf("ConfigFromEnv = %v, want an error that names the variable", err)
			}
			if strings.HasSuffix(key, "HEADERS") && strings.Contains(err.Error(), value) {
				t.Errorf("the error repeats the secret: %v", err)
			}
		})
	}
	clearEnv(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	if _, err := ConfigFromEnv(Config{}); err == nil || !strings.Contains(err.Error(), "PROTOCOL") {
		t.Errorf("ConfigFromEnv with grpc = %v", err)
	}
}

func TestCertificateFromEnv(t *testing.T) {
	clearEnv(t)
	srv := newTLSServer(t)
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, srv.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", path)
	cfg, err := ConfigFromEnv(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{"certificate": cfg, "any": {Endpoint: srv.URL, InsecureSkipVerify: true}} {
		e := newExporter(t, cfg)
		e.EmitLog(LogRecord{Body: "over TLS"})
		if err := e.Flush(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewExporterChecksItsConfig(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no scheme":       {Endpoint: "localhost:4318"},
		"no host":         {Endpoint: "http:///x"},
		"bad signal url":  {Logs: Signal{URL: "::"}},
		"bad compression": {Compression: "zstd"},
	} {
		if _, err := NewExporter(cfg); err == nil {
			t.Errorf("%s: NewExporter = nil", name)
		}
	}
}

func FuzzParseHeaders(f *testing.F) {
	f.Add("api-key=a%2Cb, x = y ,")
	f.Add("a==")
	f.Add("=")
	f.Fuzz(func(t *testing.T, s string) {
		headers, err := parseHeaders(s)
		if err != nil {
			return
		}
		var pairs []string
		for k, v := range headers {
			pairs = append(pairs, k+"="+url.PathEscape(v))
		}
		again, err := parseHeaders(strings.Join(pairs, ","))
		if err != nil || !cmp.Equal(headers, again) {
			t.Fatalf("%q: %v, written again: %v %v", s, headers, again, err)
		}
	})
}
