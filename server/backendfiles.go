package server

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/witness"
)

func (c AuditFilesConfig) zero() bool {
	return c.Retention == (audit.Retention{}) && c.SegmentBytes == 0 && c.SealAfter == 0 && c.Archive == "" &&
		len(c.Anchors) == 0 && c.WitnessFile == "" && c.WitnessQuorum == 0 && c.WitnessEvery == 0 && c.AnchorEvery == 0 &&
		c.AnchorOTLP == "" && !c.AnchorS3
}

// check refuses what cannot be meant.
func (c AuditFilesConfig) check() error {
	switch {
	case c.Retention.MaxAge < 0 || c.Retention.MaxBytes < 0:
		return fmt.Errorf("server: %w: retention of the audit ledger is below zero", ErrConfig)
	case c.SegmentBytes < 0 || c.SegmentBytes > 1<<30:
		return fmt.Errorf("server: %w: audit segments of %d bytes, want at most 1 GiB", ErrConfig, c.SegmentBytes)
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

// ledger is c as the ledger wants it.
func (c AuditFilesConfig) ledger() (audit.Config, error) {
	out := audit.Config{
		Retention: c.Retention, SegmentBytes: c.SegmentBytes, SealAfter: c.SealAfter, Archive: c.Archive,
		AnchorEvery: c.AnchorEvery, WitnessEvery: c.WitnessEvery,
	}
	if c.SealAfter < 0 {
		out.SealAfter = audit.NoAge
	}
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

// archive is where the API may copy sealed segments: where the operator said.
func (c AuditConfig) archive() audit.ArchiveTarget {
	if c.Files.Archive == "" {
		return nil
	}
	return audit.ArchiveDir(c.Files.Archive)
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
