package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/auth"
)

func TestSettleDefaults(t *testing.T) {
	s, err := Config{}.settle()
	if err != nil {
		t.Fatal(err)
	}
	if s.DataDir != DefaultDataDir || s.Listen != DefaultListen || s.OTLPHTTP != DefaultOTLPHTTP || s.OTLPGRPC != DefaultOTLPGRPC {
		t.Errorf("addresses = %+v, want the defaults", s.Config)
	}
	if s.MetricsRetention != 30*24*time.Hour || s.MaxStoreBytes != 1<<30 || s.MaxRequestBytes != 64<<20 || s.Logger == nil || s.tls != nil || len(s.keys) != 0 {
		t.Errorf("settings = %+v, want the documented defaults", s)
	}
}

func TestSettleRefuses(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open.keys")
	if err := os.WriteFile(open, []byte("kz-0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"all interfaces without a key", Config{Listen: ":7070"}, "listen on :7070"},
		{"OTLP to the network without a key", Config{OTLPGRPC: "0.0.0.0:4317"}, "needs an API key"},
		{"no address", Config{OTLPHTTP: "4318"}, `listen address "4318"`},
		{"key file for all to read", Config{KeyFile: open}, "chmod 600"},
		{"key file absent", Config{KeyFile: filepath.Join(dir, "absent")}, "no such file"},
		{"certificate without key", Config{TLSCert: "c.pem"}, "TLS certificate"},
		{"negative retention", Config{MetricsRetention: -1}, "MetricsRetention"},
		{"negative size", Config{MaxRequestBytes: -1}, "MaxRequestBytes"},
		{"negative memory", Config{MaxStoreBytes: -1}, "MaxStoreBytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.cfg.settle()
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("settle = %v, want ErrConfig with %q", err, tt.want)
			}
		})
	}
	if _, err := (Config{Listen: ":7070"}).settle(); !errors.Is(err, auth.ErrKeyRequired) {
		t.Errorf("settle(:7070) = %v, want ErrKeyRequired", err)
	}
	if _, err := (Config{Listen: ":7070", APIKeys: []string{"kz-0123456789abcdef"}}).settle(); err != nil {
		t.Errorf("settle(:7070 with a key) = %v", err)
	}
}
