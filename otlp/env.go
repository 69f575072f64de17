package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// ConfigFromEnv fills the unset fields of cfg from the variables that the
// OpenTelemetry specification names: OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS,
// _TIMEOUT (milliseconds), _COMPRESSION, _CERTIFICATE, _CLIENT_CERTIFICATE and
// _CLIENT_KEY, and the forms for one signal with TRACES_, METRICS_ or LOGS_
// before the name. A field that is set wins over every variable.
//
// Only HTTP with protobuf is spoken: when the endpoint comes from the
// environment and OTEL_EXPORTER_OTLP_PROTOCOL asks for another protocol, that
// is an error, since the port would be the wrong one.
func ConfigFromEnv(cfg Config) (Config, error) {
	// What cfg itself sets for all signals must also win over the variables
	// for one signal.
	explicit := cfg
	general := Signal{URL: cfg.Endpoint, Headers: cfg.Headers, TLS: cfg.TLS, Timeout: cfg.Timeout, Compression: cfg.Compression}
	if err := general.fromEnv(""); err != nil {
		return cfg, err
	}
	cfg.Endpoint, cfg.Headers, cfg.TLS = general.URL, general.Headers, general.TLS
	cfg.Timeout, cfg.Compression = general.Timeout, general.Compression
	for _, s := range []struct {
		signal *Signal
		infix  string
	}{{&cfg.Traces, "TRACES_"}, {&cfg.Metrics, "METRICS_"}, {&cfg.Logs, "LOGS_"}} {
		own := s.signal.over(explicit)
		if err := own.fromEnv(s.infix); err != nil {
			return cfg, err
		}
		s.signal.merge(own, explicit)
	}
	return cfg, nil
}

// over returns s with what the Config sets for all signals, so that no variable
// is read, or found wrong, that would not be used.
func (s Signal) over(explicit Config) Signal {
	set(&s.URL, explicit.Endpoint)
	if s.Headers == nil {
		s.Headers = explicit.Headers
	}
	set(&s.TLS, explicit.TLS)
	set(&s.Timeout, explicit.Timeout)
	set(&s.Compression, explicit.Compression)
	return s
}

// merge takes from env what neither s nor the Config sets.
func (s *Signal) merge(env Signal, explicit Config) {
	if explicit.Endpoint == "" {
		set(&s.URL, env.URL)
	}
	if s.Headers == nil && explicit.Headers == nil {
		s.Headers = env.Headers
	}
	if explicit.TLS == nil {
		set(&s.TLS, env.TLS)
	}
	if explicit.Timeout == 0 {
		set(&s.Timeout, env.Timeout)
	}
	if explicit.Compression == "" {
		set(&s.Compression, env.Compression)
	}
}

// fromEnv fills the unset fields of s from the variables with this infix.
func (s *Signal) fromEnv(infix string) error {
	get := func(name string) (key, value string) {
		key = "OTEL_EXPORTER_OTLP_" + infix + name
		return key, strings.TrimSpace(os.Getenv(key))
	}
	if key, v := get("ENDPOINT"); v != "" && s.URL == "" {
		if err := checkProtocol(infix); err != nil {
			return err
		}
		if _, err := checkURL(v); err != nil {
			return fmt.Errorf("otlp: %s: %w", key, err)
		}
		s.URL = v
	}
	if key, v := get("HEADERS"); v != "" && s.Headers == nil {
		headers, err := parseHeaders(v)
		if err != nil {
			return fmt.Errorf("otlp: %s: %w", key, err)
		}
		s.Headers = headers
	}
	if key, v := get("TIMEOUT"); v != "" && s.Timeout == 0 {
		ms, err := strconv.ParseUint(v, 10, 31)
		if err != nil || ms == 0 {
			return fmt.Errorf("otlp: %s=%q: want a positive number of milliseconds", key, v)
		}
		s.Timeout = time.Duration(ms) * time.Millisecond
	}
	if key, v := get("COMPRESSION"); v != "" && s.Compression == "" {
		if v != Gzip && v != NoGzip {
			return fmt.Errorf("otlp: %s=%q: neither gzip nor none", key, v)
		}
		s.Compression = v
	}
	if s.TLS != nil {
		return nil
	}
	var err error
	s.TLS, err = tlsFromEnv(get)
	return err
}

// checkProtocol refuses a protocol other than HTTP with protobuf.
func checkProtocol(infix string) error {
	for _, key := range []string{"OTEL_EXPORTER_OTLP_" + infix + "PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		switch v := strings.TrimSpace(os.Getenv(key)); v {
		case "":
			continue
		case "http/protobuf":
			return nil
		default:
			return fmt.Errorf("otlp: %s=%q: only http/protobuf is spoken", key, v)
		}
	}
	return nil
}

// parseHeaders reads k1=v1,k2=v2 with percent-encoded values, as in W3C baggage.
func parseHeaders(s string) (map[string]string, error) {
	headers := map[string]string{}
	for pair := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		k = strings.TrimSpace(k)
		// The value is a secret as a rule: it is not repeated in an error.
		if !ok || k == "" {
			return nil, fmt.Errorf("header %d: want name=value", len(headers)+1)
		}
		value, err := url.PathUnescape(strings.TrimSpace(v))
		if err != nil {
			return nil, fmt.Errorf("header %s: bad percent-encoding", k)
		}
		headers[k] = value
	}
	return headers, nil
}

// tlsFromEnv reads the certificates that the variables name; nil when none is.
func tlsFromEnv(get func(string) (key, value string)) (*tls.Config, error) {
	caKey, ca := get("CERTIFICATE")
	certKey, cert := get("CLIENT_CERTIFICATE")
	_, key := get("CLIENT_KEY")
	if ca == "" && cert == "" && key == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("otlp: %s: %w", caKey, err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("otlp: %s: %s holds no certificate", caKey, ca)
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("otlp: %s: %w", certKey, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
