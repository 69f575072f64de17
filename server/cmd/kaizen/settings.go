package main

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server"
	"github.com/kaizen-go/kaizen/server/backend/s3"
)

// envPrefix starts the variables that set what a flag would: KAIZEN_OTLP_GRPC
// is --otlp-grpc.
const envPrefix = "KAIZEN_"

// settings is what the server is told by flags, variables and the file. The
// tag is the name of the flag and the key in the file.
type settings struct {
	Data             string        `koanf:"data"`
	Listen           string        `koanf:"listen"`
	OTLPGRPC         string        `koanf:"otlp-grpc"`
	OTLPHTTP         string        `koanf:"otlp-http"`
	KeyFile          string        `koanf:"key-file"`
	AllowOrigin      []string      `koanf:"allow-origin"`
	TLSCert          string        `koanf:"tls-cert"`
	TLSKey           string        `koanf:"tls-key"`
	MetricsRetention time.Duration `koanf:"metrics-retention"`
	MaxStoreBytes    int64         `koanf:"max-store-bytes"`
	MaxRequestBytes  int64         `koanf:"max-request-bytes"`
	ScrapeInterval   time.Duration `koanf:"scrape-interval"`
	ShipLogs         string        `koanf:"ship-logs"`
	ShipUser         string        `koanf:"ship-logs-user"`
	ShipPassword     string        `koanf:"ship-logs-password-file"`
	ShipKey          string        `koanf:"ship-logs-key-file"`
	ShipCA           string        `koanf:"ship-logs-ca"`
	AuditBackend     string        `koanf:"audit-backend"`
	AuditDSNFile     string        `koanf:"audit-dsn-file"`
	AuditSchema      string        `koanf:"audit-schema"`
	AuditEndpoint    string        `koanf:"audit-s3-endpoint"`
	AuditPlaintext   bool          `koanf:"audit-s3-plaintext"`
	AuditRegion      string        `koanf:"audit-s3-region"`
	AuditBucket      string        `koanf:"audit-s3-bucket"`
	AuditPrefix      string        `koanf:"audit-s3-prefix"`
	AuditRetain      time.Duration `koanf:"audit-s3-retain"`
	AuditMaxAge      time.Duration `koanf:"audit-max-age"`
	AuditMaxBytes    int64         `koanf:"audit-max-bytes"`
	AuditSegment     int64         `koanf:"audit-segment-bytes"`
	AuditSealAfter   time.Duration `koanf:"audit-seal-after"`
	AuditArchive     string        `koanf:"audit-archive"`
	AuditAnchor      []string      `koanf:"audit-anchor"`
	AuditAnchorEvery time.Duration `koanf:"audit-anchor-every"`
	AuditAnchorOTLP  string        `koanf:"audit-anchor-otlp"`
	AuditAnchorS3    bool          `koanf:"audit-anchor-s3"`
	AuditWitnesses   string        `koanf:"audit-witnesses"`
	AuditQuorum      int           `koanf:"audit-witness-quorum"`
	AuditWitnessTime time.Duration `koanf:"audit-witness-every"`
	ShutdownTimeout  time.Duration `koanf:"shutdown-timeout"`
	LogLevel         string        `koanf:"log-level"`
	LogFormat        string        `koanf:"log-format"`
}

// addServerFlags adds the flags of settings to f.
func addServerFlags(f *pflag.FlagSet) {
	f.String("data", server.DefaultDataDir, "data directory; created when absent, owner-only")
	f.String("listen", server.DefaultListen, "address of page and APIs; port 0 takes a free one")
	f.String("otlp-grpc", server.DefaultOTLPGRPC, "address of OTLP over gRPC")
	f.String("otlp-http", server.DefaultOTLPHTTP, "address of OTLP over HTTP")
	f.String("key-file", "", "file with API keys, one a line, readable by its owner only")
	f.StringSlice("allow-origin", nil, "web origins whose pages may send changes to a server without keys")
	f.String("tls-cert", "", "PEM file with the TLS certificate of every port")
	f.String("tls-key", "", "PEM file with its key")
	f.Duration("metrics-retention", 30*24*time.Hour, "how long metrics are kept")
	f.Int64("max-store-bytes", 1<<30, "memory for spans and log records; a full store refuses more")
	f.Int64("max-request-bytes", 64<<20, "largest request with telemetry, also when unpacked")
	f.Duration("scrape-interval", 15*time.Second, "how often the server's own metrics are stored")
	f.String("ship-logs", "", "URL of an Elasticsearch or OpenSearch that gets copies of logs and of audit headers")
	f.String("ship-logs-user", "", "user for it")
	f.String("ship-logs-password-file", "", "file with the user's password")
	f.String("ship-logs-key-file", "", "file with an API key for it, instead of user and password")
	f.String("ship-logs-ca", "", "PEM file of the authorities that it is trusted by")
	f.String("audit-backend", server.AuditFiles, "where the audit ledger is: files, postgres or s3")
	f.String("audit-dsn-file", "", "file with the DSN of PostgreSQL, readable by its owner only (or the DSN itself in KAIZEN_AUDIT_DSN)")
	f.String("audit-schema", "", "schema of the ledger's tables (default kaizen)")
	f.String("audit-s3-endpoint", "", "host or host:port of the object store; credentials come from AWS_* variables or files")
	f.Bool("audit-s3-plaintext", false, "connect to it without TLS")
	f.String("audit-s3-region", "", "its region (default us-east-1)")
	f.String("audit-s3-bucket", "", "its bucket")
	f.String("audit-s3-prefix", "", "what the names of the ledger's objects begin with")
	f.Duration("audit-s3-retain", 0, "how long new objects are locked against removal")
	f.Duration("audit-max-age", 0, "remove sealed segments of the audit ledger whose newest entry is older (0: keep all); holds keep what they are on")
	f.Int64("audit-max-bytes", 0, "remove the oldest sealed segments until the files take no more (0: any size)")
	f.Int64("audit-segment-bytes", 0, "seal a segment of the audit ledger from this size on (0: 64 MiB)")
	f.Duration("audit-seal-after", 0, "seal a segment from this age on (0: 24h; negative: never)")
	f.String("audit-archive", "", "directory to copy sealed segments to; retention waits for it")
	f.StringSlice("audit-anchor", nil, "file, out of reach of this machine's users, that signed checkpoints are appended to")
	f.String("audit-anchor-otlp", "", "URL of a log collector that gets signed checkpoints over OTLP/HTTP, such as http://host:4318/v1/logs")
	f.Bool("audit-anchor-s3", false, "keep signed checkpoints in the object store of --audit-s3-…, while the ledger is elsewhere")
	f.Duration("audit-anchor-every", 0, "how often (0: 1h)")
	f.String("audit-witnesses", "", "file of witnesses to ask for cosignatures: a URL and a public key on each line")
	f.Int("audit-witness-quorum", 0, "how many of them must cosign (0: all)")
	f.Duration("audit-witness-every", 0, "how often they are asked (0: 1m)")
	f.Duration("shutdown-timeout", 20*time.Second, "how long a stop waits for running requests")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "text", "text or json, on standard error")
}

// loadSettings merges flags, variables and the file at path, in that order of
// precedence; path may be empty. Its errors are of usage, but for a file that
// cannot be read.
func loadSettings(flags *pflag.FlagSet, path string) (settings, error) {
	k := koanf.New(".")
	if path != "" {
		if err := loadFile(k, flags, path); err != nil {
			return settings{}, err
		}
	}
	vars := env.Provider(".", env.Opt{Prefix: envPrefix, TransformFunc: func(name, value string) (string, any) {
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "_", "-")
		flag := flags.Lookup(key)
		if flag == nil || slices.Contains(notInFile, key) {
			return "", nil // KAIZEN_API_KEY, and variables of other programs
		}
		if flag.Value.Type() == "stringSlice" {
			return key, strings.Split(value, ",")
		}
		return key, value
	}})
	if err := k.Load(vars, nil); err != nil {
		return settings{}, fmt.Errorf("read the environment: %w", err)
	}
	if err := k.Load(posflag.Provider(flags, ".", k), nil); err != nil {
		return settings{}, fmt.Errorf("read the flags: %w", err)
	}
	var s settings
	if err := k.Unmarshal("", &s); err != nil {
		return settings{}, usage(fmt.Errorf("settings: %w", err), "flags beat KAIZEN_* variables, which beat the config file")
	}
	return s, nil
}

// loadFile reads the YAML file at path. A key that is no setting is an error: a
// misspelt one would otherwise change nothing, silently.
func loadFile(k *koanf.Koanf, flags *pflag.FlagSet, path string) error {
	if _, err := os.Stat(path); err != nil {
		return environment(fmt.Errorf("config file: %w", err), "")
	}
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return usage(fmt.Errorf("config file %s: %w", path, err), "")
	}
	for _, key := range k.Keys() {
		if flags.Lookup(key) == nil || slices.Contains(notInFile, key) {
			return usage(fmt.Errorf("config file %s: unknown setting %q", path, key),
				"settings have the names of the flags: see kaizen serve --help")
		}
	}
	return nil
}

// notInFile are flags that belong to one start rather than to the server.
var notInFile = []string{"config", "json", "help"}

// config turns s into the server's configuration.
func (s settings) config(version string, logger *slog.Logger) server.Config {
	cfg := server.Config{
		DataDir:          s.Data,
		Listen:           s.Listen,
		OTLPHTTP:         s.OTLPHTTP,
		OTLPGRPC:         s.OTLPGRPC,
		KeyFile:          s.KeyFile,
		AllowedOrigins:   s.AllowOrigin,
		TLSCert:          s.TLSCert,
		TLSKey:           s.TLSKey,
		MetricsRetention: s.MetricsRetention,
		MaxStoreBytes:    s.MaxStoreBytes,
		MaxRequestBytes:  s.MaxRequestBytes,
		ScrapeInterval:   s.ScrapeInterval,
		ShutdownTimeout:  s.ShutdownTimeout,
		ShipLogs:         s.ShipLogs,
		ShipLogsUser:     s.ShipUser,
		ShipLogsKeyFile:  s.ShipKey,
		ShipLogsCA:       s.ShipCA,

		ShipLogsPasswordFile: s.ShipPassword,
		Version:              version,
		Logger:               logger,
	}
	cfg.Audit = s.audit()
	if key := os.Getenv("KAIZEN_API_KEY"); key != "" {
		cfg.APIKeys = []string{key}
	}
	return cfg
}

// audit is where the ledger is kept. A DSN can hold a password, so it has no
// flag: it is in a file or in KAIZEN_AUDIT_DSN.
func (s settings) audit() server.AuditConfig {
	c := server.AuditConfig{
		Backend: s.AuditBackend, DSNFile: s.AuditDSNFile, Schema: s.AuditSchema,
		S3: s3.Config{
			Endpoint: s.AuditEndpoint, Plaintext: s.AuditPlaintext, Region: s.AuditRegion,
			Bucket: s.AuditBucket, Prefix: s.AuditPrefix, Retain: s.AuditRetain,
		},
		Files: server.AuditFilesConfig{
			Retention:    audit.Retention{MaxAge: s.AuditMaxAge, MaxBytes: s.AuditMaxBytes},
			SegmentBytes: s.AuditSegment, SealAfter: s.AuditSealAfter, Archive: s.AuditArchive,
		},
		Outward: server.AuditOutwardConfig{
			Anchors: s.AuditAnchor, AnchorEvery: s.AuditAnchorEvery, AnchorOTLP: s.AuditAnchorOTLP, AnchorS3: s.AuditAnchorS3,
			WitnessFile: s.AuditWitnesses, WitnessQuorum: s.AuditQuorum, WitnessEvery: s.AuditWitnessTime,
		},
	}
	if c.Backend == server.AuditPostgres && c.DSNFile == "" {
		c.DSN = os.Getenv("KAIZEN_AUDIT_DSN")
	}
	return c
}
