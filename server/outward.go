package server

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/witness"
)

// AuditOutwardConfig says who gets the signed checkpoints of the ledger. The
// zero value asks nobody.
type AuditOutwardConfig struct {
	// Anchors are where checkpoints are kept, every AnchorEvery (1 hour if
	// zero): files, each named by a path outside the ledger.
	Anchors     []string
	AnchorEvery time.Duration
	// AnchorOTLP is the URL of a log collector that gets checkpoints as well, as
	// log records over OTLP/HTTP in JSON: http://127.0.0.1:4318/v1/logs. AnchorS3
	// keeps them in the object store of [AuditConfig].S3, each an object of its
	// own, locked if that says so; the ledger itself must be elsewhere.
	AnchorOTLP string
	AnchorS3   bool
	// WitnessFile names a file of witnesses that are asked for cosignatures
	// every WitnessEvery (1 minute if zero): on each line a URL, a space and a
	// public key. WitnessQuorum is how many must cosign; if zero, all.
	WitnessFile   string
	WitnessQuorum int
	WitnessEvery  time.Duration
}

// check refuses what cannot be meant.
func (c AuditOutwardConfig) check() error {
	switch {
	case c.AnchorEvery < 0 || c.WitnessEvery < 0 || c.WitnessQuorum < 0:
		return fmt.Errorf("server: %w: anchors, witnesses or their quorum are below zero", ErrConfig)
	case c.WitnessFile == "" && (c.WitnessQuorum > 0 || c.WitnessEvery > 0):
		return fmt.Errorf("server: %w: a quorum or interval of witnesses is given, and no file of witnesses", ErrConfig)
	case len(c.Anchors) == 0 && c.AnchorOTLP == "" && !c.AnchorS3 && c.AnchorEvery > 0:
		return fmt.Errorf("server: %w: an interval of anchors is given, and no anchor", ErrConfig)
	}
	if u, err := url.Parse(c.AnchorOTLP); c.AnchorOTLP != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("server: %w: the log collector for checkpoints is %q, want an http or https URL", ErrConfig, c.AnchorOTLP)
	}
	return nil
}

// ledger is c as a ledger wants it, with the anchors that are files.
func (c AuditOutwardConfig) ledger() (audit.OutwardConfig, error) {
	out := audit.OutwardConfig{AnchorEvery: c.AnchorEvery, WitnessEvery: c.WitnessEvery}
	for _, path := range c.Anchors {
		out.Anchors = append(out.Anchors, &audit.FileAnchor{Path: path})
	}
	if c.WitnessFile == "" {
		return out, nil
	}
	peers, err := readWitnesses(c.WitnessFile)
	if err != nil {
		return out, err
	}
	if c.WitnessQuorum > len(peers) {
		return out, fmt.Errorf("server: %w: a quorum of %d, and %s has %d witnesses", ErrConfig, c.WitnessQuorum, c.WitnessFile, len(peers))
	}
	out.Witness = &witness.Group{Peers: peers, Quorum: c.WitnessQuorum}
	return out, nil
}

// readWitnesses reads lines of URL and public key; empty lines and those that
// begin with # say nothing.
func readWitnesses(path string) ([]witness.Peer, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("server: witnesses: %w", err)
	}
	var peers []witness.Peer
	lines := bufio.NewScanner(strings.NewReader(string(b)))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 || !strings.Contains(fields[0], "://") {
			return nil, fmt.Errorf("server: %w: %s:%d is not a URL and a public key", ErrConfig, path, n)
		}
		peers = append(peers, witness.Peer{URL: fields[0], Key: fields[1]})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("server: witnesses: %s: %w", path, err)
	}
	if len(peers) == 0 {
		return nil, fmt.Errorf("server: %w: %s names no witness", ErrConfig, path)
	}
	return peers, nil
}
