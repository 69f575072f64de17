package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/kaizen-go/kaizen/server"
)

func TestLoadSettings(t *testing.T) {
	defaults := settings{
		Data: server.DefaultDataDir, Listen: server.DefaultListen, OTLPGRPC: server.DefaultOTLPGRPC, OTLPHTTP: server.DefaultOTLPHTTP,
		MetricsRetention: 30 * 24 * time.Hour, MaxStoreBytes: 1 << 30, MaxRequestBytes: 64 << 20, ScrapeInterval: 15 * time.Second, ShutdownTimeout: 20 * time.Second,
		LogLevel: "info", LogFormat: "text", AuditBackend: "files", AllowOrigin: []string{}, AuditAnchor: []string{},
	}
	with := func(change func(*settings)) settings {
		s := defaults
		change(&s)
		return s
	}
	tests := []struct {
		name  string
		file  string
		env   map[string]string
		flags []string
		want  settings
		err   string
	}{
		{name: "nothing set", want: defaults},
		{name: "file", file: "listen: 127.0.0.1:1\nmetrics-retention: 48h\nallow-origin: [https://a.example]\n", want: with(func(s *settings) {
			s.Listen, s.MetricsRetention, s.AllowOrigin = "127.0.0.1:1", 48*time.Hour, []string{"https://a.example"}
		})},
		{name: "variable beats file", file: "listen: 127.0.0.1:1\ndata: /file\n", env: map[string]string{"KAIZEN_LISTEN": "127.0.0.1:2"},
			want: with(func(s *settings) { s.Listen, s.Data = "127.0.0.1:2", "/file" })},
		{name: "flag beats variable", file: "listen: 127.0.0.1:1\n", env: map[string]string{"KAIZEN_LISTEN": "127.0.0.1:2", "KAIZEN_OTLP_GRPC": "127.0.0.1:4"},
			flags: []string{"--listen", "127.0.0.1:3"},
			want:  with(func(s *settings) { s.Listen, s.OTLPGRPC = "127.0.0.1:3", "127.0.0.1:4" })},
		{name: "flag with the default's value beats variable", env: map[string]string{"KAIZEN_LISTEN": "127.0.0.1:2"},
			flags: []string{"--listen", server.DefaultListen}, want: defaults},
		{name: "foreign variables", env: map[string]string{"KAIZEN_API_KEY": "kz-0123456789abcdef", "KAIZEN_JSON": "true", "KAIZEN_MODEL": "x"}, want: defaults},
		{name: "durations and sizes as variables", env: map[string]string{"KAIZEN_METRICS_RETENTION": "72h", "KAIZEN_MAX_REQUEST_BYTES": "1024"},
			want: with(func(s *settings) { s.MetricsRetention, s.MaxRequestBytes = 72*time.Hour, 1024 })},
		{name: "list as a variable", env: map[string]string{"KAIZEN_ALLOW_ORIGIN": "https://a.example,https://b.example"},
			want: with(func(s *settings) { s.AllowOrigin = []string{"https://a.example", "https://b.example"} })},
		{name: "unknown setting", file: "listen: 127.0.0.1:1\nlitsen: x\n", err: `unknown setting "litsen"`},
		{name: "nested setting", file: "otlp:\n  grpc: x\n", err: `unknown setting "otlp.grpc"`},
		{name: "setting of one start", file: "json: true\n", err: `unknown setting "json"`},
		{name: "no YAML", file: "listen: [\n", err: "config file"},
		{name: "bad duration", env: map[string]string{"KAIZEN_METRICS_RETENTION": "soon"}, err: "metrics-retention"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, kv := range os.Environ() {
				if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, envPrefix) {
					t.Setenv(name, "") // put back after the test
					if err := os.Unsetenv(name); err != nil {
						t.Fatal(err)
					}
				}
			}
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			path := ""
			if tt.file != "" {
				path = filepath.Join(t.TempDir(), "kaizen.yaml")
				if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
			addServerFlags(flags)
			flags.Bool("json", false, "")
			if err := flags.Parse(tt.flags); err != nil {
				t.Fatal(err)
			}
			got, err := loadSettings(flags, path)
			if tt.err != "" {
				code, _ := classify(err)
				if err == nil || !strings.Contains(err.Error(), tt.err) || code != exitUsage {
					t.Fatalf("loadSettings = %v (code %d), want %q with code 2", err, code, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.AllowOrigin == nil {
				got.AllowOrigin = []string{}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("settings (-want +got):\n%s", d)
			}
		})
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	addServerFlags(flags)
	_, err := loadSettings(flags, filepath.Join(t.TempDir(), "absent.yaml"))
	if code, _ := classify(err); !errors.Is(err, os.ErrNotExist) || code != exitEnvironment {
		t.Errorf("loadSettings(absent) = %v, want code 3", err)
	}
}
