// Package doctor looks at an installation from the outside and says what is
// wrong with it, and what to do.
//
//	for _, f := range doctor.Examine(ctx, doctor.Config{DataDir: "./kaizen-data"}) {
//		fmt.Println(f.State, f.Check, f.Message)
//	}
//
// It changes nothing, and asks only what it is told of: the data directory, the
// server, and the programs around it that have an address.
package doctor

import (
	"context"
	"net/http"
	"time"
)

// State says how a check ended.
type State string

// The states, from good to bad. Skipped means that there was nothing to check.
const (
	OK      State = "ok"
	Skipped State = "skipped"
	Warning State = "warning"
	Failed  State = "failed"
)

// Finding is the result of one check.
type Finding struct {
	// Check names what was looked at: ports, clock, disk, keys, permissions,
	// certificate, ledger, server, exporter, version, and the data sources.
	Check string `json:"check"`
	State State  `json:"state"`
	// Message says what was found, Advice what to do about it.
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"`
}

// Config says what to look at. Empty addresses are not looked at.
type Config struct {
	// DataDir is the data directory, looked at if it is there.
	DataDir string
	// Server is the base URL of the server, and Key its API key.
	Server, Key string
	// Addresses are those that a server here would listen on, by name. They are
	// tried when no server runs.
	Addresses map[string]string
	// TLSCert is the certificate of the server here.
	TLSCert string
	// OTLP is where programs here send telemetry.
	OTLP string
	// SpoolDir is where the SDK keeps what it could not send.
	SpoolDir string
	// Prometheus, Alertmanager, Grafana, Jaeger and Elasticsearch are base URLs.
	Prometheus, Alertmanager, Grafana, Jaeger, Elasticsearch string
	// Version is the version of this program.
	Version string
	// Client asks over HTTP. If nil, one with a timeout of 5 s.
	Client *http.Client
	// Now is the clock. If nil, time.Now.
	Now func() time.Time
}

// check is one look at an installation.
type check struct {
	name string
	look func(ctx context.Context, e *examination) (State, string, string)
}

// examination is what the checks share.
type examination struct {
	Config
	running bool // a server answered
}

// checks in the order in which they are made: later ones know whether a server
// runs.
var checks = []check{
	{"server", lookAtServer},
	{"version", lookAtVersion},
	{"ports", lookAtPorts},
	{"clock", lookAtClock},
	{"disk", lookAtDisk},
	{"permissions", lookAtPermissions},
	{"keys", lookAtKeys},
	{"ledger", lookAtLedger},
	{"certificate", lookAtCertificate},
	{"exporter", lookAtExporter},
	{"spool", lookAtSpool},
	{"telemetry", lookAtTelemetry},
	{"prometheus", lookAtPrometheus},
	{"alertmanager", lookAtAlertmanager},
	{"grafana", lookAtGrafana},
	{"jaeger", lookAtJaeger},
	{"elasticsearch", lookAtElasticsearch},
}

// Examine makes every check, and returns a finding for each, in a fixed order.
func Examine(ctx context.Context, cfg Config) []Finding {
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 5 * time.Second}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &examination{Config: cfg}
	findings := make([]Finding, 0, len(checks))
	for _, c := range checks {
		f := Finding{Check: c.name}
		f.State, f.Message, f.Advice = c.look(ctx, e)
		findings = append(findings, f)
	}
	return findings
}

// Worst is the worst state among the findings.
func Worst(findings []Finding) State {
	rank := map[State]int{Skipped: 0, OK: 1, Warning: 2, Failed: 3}
	worst := Skipped
	for _, f := range findings {
		if rank[f.State] > rank[worst] {
			worst = f.State
		}
	}
	return worst
}
