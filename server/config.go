package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/auth"
)

// ErrConfig is in every error of [New] that comes from a wrong setting rather
// than from the machine.
var ErrConfig = errors.New("wrong configuration")

// The addresses and the directory that a zero [Config] stands for.
const (
	DefaultDataDir  = "./kaizen-data"
	DefaultListen   = "127.0.0.1:7070"
	DefaultOTLPHTTP = "127.0.0.1:4318"
	DefaultOTLPGRPC = "127.0.0.1:4317"
)

// Config is what a [Server] is made of. The zero value serves this machine
// alone, without keys, on the usual ports, from ./kaizen-data.
type Config struct {
	// DataDir holds everything that the server keeps. If empty,
	// [DefaultDataDir]. It is created when absent, and made owner-only.
	DataDir string

	// Listen is the address of page and APIs, OTLPHTTP and OTLPGRPC those that
	// take telemetry, as host:port. Port 0 takes a free one. If empty,
	// [DefaultListen], [DefaultOTLPHTTP] and [DefaultOTLPGRPC]. An address that
	// other machines can reach needs an API key.
	Listen, OTLPHTTP, OTLPGRPC string

	// APIKeys are accepted in Authorization: Bearer or x-api-key, each with 16
	// characters or more. KeyFile names a file with more of them, one a line,
	// readable by its owner only. If both are empty, requests need no key and
	// the server keeps to loopback addresses.
	APIKeys []string
	KeyFile string

	// AllowedOrigins are web origins (scheme://host[:port]) whose pages may send
	// changes to a server without keys. If empty, only its own page may.
	AllowedOrigins []string

	// TLSCert and TLSKey name PEM files; with both set every port speaks TLS.
	TLSCert, TLSKey string

	// Audit says where the audit ledger is. If zero, in DataDir.
	Audit AuditConfig

	// MetricsRetention is how long metrics are kept. If zero, 30 days.
	MetricsRetention time.Duration

	// MaxStoreBytes bounds the memory that spans and log records take. If zero,
	// 1 GiB. A store that is full refuses more, which senders are told (503) and
	// /metrics counts; it never drops what it has acknowledged.
	MaxStoreBytes int64

	// MaxRequestBytes bounds one request that carries telemetry, before and
	// after decompression. If zero, 64 MiB.
	MaxRequestBytes int64

	// ScrapeInterval is how often the server's own metrics, and those that it
	// derives from spans, are written to its metric store. If zero, 15 s.
	ScrapeInterval time.Duration

	// AuditCheckInterval is how often the server verifies its own ledger: the
	// newest entries and some older ones each time, all of it at the start and
	// once a day. If zero, 5 min.
	AuditCheckInterval time.Duration

	// ShipLogs is the URL of an Elasticsearch or OpenSearch that gets copies of
	// log records and of the headers of audit entries. If empty, none are made.
	ShipLogs string
	// ShipLogsUser with ShipLogsPasswordFile, or ShipLogsKeyFile, are the
	// credentials for it, ShipLogsCA the PEM file of the authorities to trust.
	ShipLogsUser, ShipLogsPasswordFile, ShipLogsKeyFile, ShipLogsCA string

	// ShutdownTimeout bounds the stop that follows the end of [Server.Serve]'s
	// context. If zero, 20 s.
	ShutdownTimeout time.Duration

	// Version is what the server says of itself. If empty, "dev".
	Version string

	// Logger receives the server's own messages. If nil, [slog.Default].
	Logger *slog.Logger
}

const (
	defaultMetricsRetention = 30 * 24 * time.Hour
	defaultMaxStoreBytes    = 1 << 30
	defaultMaxRequestBytes  = 64 << 20
	defaultScrapeInterval   = 15 * time.Second
	defaultAuditCheck       = 5 * time.Minute
	defaultShutdownTimeout  = 20 * time.Second
)

// settled is a Config with its defaults filled in and its files read.
type settled struct {
	Config
	keys []string
	tls  *tls.Config // nil for plain text
}

// settle checks cfg and reads the files it names. Its errors wrap [ErrConfig],
// but for files that cannot be read.
func (cfg Config) settle() (settled, error) {
	cfg.fillDefaults()
	s := settled{Config: cfg, keys: cfg.APIKeys}
	if cfg.KeyFile != "" {
		fromFile, err := auth.ReadKeys(cfg.KeyFile)
		if err != nil {
			return settled{}, fmt.Errorf("server: %w: %w", ErrConfig, err)
		}
		s.keys = append(s.keys[:len(s.keys):len(s.keys)], fromFile...)
	}
	for _, addr := range []string{cfg.Listen, cfg.OTLPHTTP, cfg.OTLPGRPC} {
		if err := auth.CheckListen(addr, len(s.keys) > 0); err != nil {
			return settled{}, fmt.Errorf("server: %w: %w", ErrConfig, err)
		}
	}
	if err := cfg.checkNumbers(); err != nil {
		return settled{}, err
	}
	if err := cfg.Audit.check(); err != nil {
		return settled{}, err
	}
	if cfg.TLSCert == "" && cfg.TLSKey == "" {
		return s, nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return settled{}, fmt.Errorf("server: %w: TLS certificate %q with key %q: %w", ErrConfig, cfg.TLSCert, cfg.TLSKey, err)
	}
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	return s, nil
}

func (cfg *Config) fillDefaults() {
	setString := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	setString(&cfg.DataDir, DefaultDataDir)
	setString(&cfg.Listen, DefaultListen)
	setString(&cfg.OTLPHTTP, DefaultOTLPHTTP)
	setString(&cfg.OTLPGRPC, DefaultOTLPGRPC)
	setString(&cfg.Version, "dev")
	setDuration := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	setDuration(&cfg.MetricsRetention, defaultMetricsRetention)
	setDuration(&cfg.ScrapeInterval, defaultScrapeInterval)
	setDuration(&cfg.AuditCheckInterval, defaultAuditCheck)
	setDuration(&cfg.ShutdownTimeout, defaultShutdownTimeout)
	if cfg.MaxRequestBytes == 0 {
		cfg.MaxRequestBytes = defaultMaxRequestBytes
	}
	if cfg.MaxStoreBytes == 0 {
		cfg.MaxStoreBytes = defaultMaxStoreBytes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
}

func (cfg Config) checkNumbers() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"MetricsRetention", cfg.MetricsRetention}, {"ScrapeInterval", cfg.ScrapeInterval}, {"AuditCheckInterval", cfg.AuditCheckInterval}, {"ShutdownTimeout", cfg.ShutdownTimeout}} {
		if d.value < 0 {
			return fmt.Errorf("server: %w: %s is %s, below zero", ErrConfig, d.name, d.value)
		}
	}
	for _, n := range []struct {
		name  string
		value int64
	}{{"MaxRequestBytes", cfg.MaxRequestBytes}, {"MaxStoreBytes", cfg.MaxStoreBytes}} {
		if n.value < 0 {
			return fmt.Errorf("server: %w: %s is %d, below zero", ErrConfig, n.name, n.value)
		}
	}
	return nil
}

// listenHosts returns the names under which the configured addresses are known:
// a request may use them in its Host header.
func (s settled) listenHosts() []string {
	var hosts []string
	for _, addr := range []string{s.Listen, s.OTLPHTTP, s.OTLPGRPC} {
		if host, _, err := net.SplitHostPort(addr); err == nil && host != "" {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
