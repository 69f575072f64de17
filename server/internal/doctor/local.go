package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kaizen-go/kaizen/audit"
)

// Bounds of what is healthy.
const (
	// Under minFreeBytes a disk is as good as full; under minFreeShare, which is
	// much on a large one, it is worth a look.
	minFreeBytes = 1 << 30
	minFreeShare = 0.05
	// maxSkew between this machine and the server: exemplars, traces and logs
	// of one event would no longer stand beside each other.
	maxSkew        = 2 * time.Second
	certWarning    = 30 * 24 * time.Hour
	spoolWarnBytes = 64 << 20
)

func (e *examination) dataDir() bool {
	info, err := os.Stat(e.DataDir)
	return e.DataDir != "" && err == nil && info.IsDir()
}

func lookAtPorts(_ context.Context, e *examination) (State, string, string) {
	if e.running {
		return OK, "the server answers", ""
	}
	var taken []string
	for name, addr := range e.Addresses {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			taken = append(taken, fmt.Sprintf("%s (%s): %v", addr, name, err))
			continue
		}
		_ = l.Close() // nothing was accepted
	}
	if len(taken) > 0 {
		slices.Sort(taken)
		return Failed, "cannot listen on " + strings.Join(taken, "; "), "stop what uses the port (ss -ltnp), or choose another with --listen, --otlp-http, --otlp-grpc"
	}
	return OK, fmt.Sprintf("%d ports are free", len(e.Addresses)), ""
}

func lookAtDisk(_ context.Context, e *examination) (State, string, string) {
	if !e.dataDir() {
		return Skipped, "no data directory", ""
	}
	var st unix.Statfs_t
	if err := unix.Statfs(e.DataDir, &st); err != nil {
		return Warning, fmt.Sprintf("%s: %v", e.DataDir, err), ""
	}
	free, size := int64(st.Bavail)*int64(st.Bsize), int64(st.Blocks)*int64(st.Bsize)
	state, text, advice := judgeDisk(free, size)
	if state == Failed {
		return state, text, advice
	}
	probe, err := os.CreateTemp(e.DataDir, "."+"doctor-*")
	if err != nil {
		return Failed, fmt.Sprintf("%s; but it cannot be written: %v", text, err), "see who owns it (ls -ld), and whether the disk is mounted read-only"
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return Failed, err.Error(), ""
	}
	return state, text, advice
}

// judgeDisk says what it means that so many bytes of a disk are free.
func judgeDisk(free, size int64) (state State, text, advice string) {
	text = fmt.Sprintf("%.1f of %.1f GB are free", float64(free)/1e9, float64(size)/1e9)
	advice = "free space, or move the data directory: a full disk refuses audit entries and telemetry"
	switch {
	case free < minFreeBytes:
		return Failed, text, advice
	case float64(free) < minFreeShare*float64(size):
		return Warning, text, advice
	}
	return OK, text, ""
}

func lookAtPermissions(_ context.Context, e *examination) (State, string, string) {
	if !e.dataDir() {
		return Skipped, "no data directory", ""
	}
	var open []string
	err := filepath.WalkDir(e.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && filepath.Dir(path) == filepath.Join(e.DataDir, "metrics") {
			return fs.SkipDir // the blocks of the TSDB have modes of their own, inside a closed folder
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running server removes files
		}
		if err == nil && (path == e.DataDir || strings.HasSuffix(path, ".key") || filepath.Base(path) == "keys") && info.Mode().Perm()&0o077 != 0 {
			open = append(open, fmt.Sprintf("%s is %04o", path, info.Mode().Perm()))
		}
		return err
	})
	switch {
	case err != nil:
		return Failed, err.Error(), "run this as the user that runs the server"
	case len(open) > 0:
		return Failed, "others can read: " + strings.Join(open, ", "), "chmod -R go= " + e.DataDir
	}
	return OK, "the data directory is its owner's alone", ""
}

func lookAtKeys(_ context.Context, e *examination) (State, string, string) {
	if !e.dataDir() {
		return Skipped, "no data directory", ""
	}
	if _, err := os.Stat(filepath.Join(e.DataDir, "audit", "ledger.json")); err != nil {
		return Skipped, "no ledger yet", ""
	}
	keys, err := filepath.Glob(filepath.Join(e.DataDir, "keys", "*.key"))
	if err != nil || len(keys) == 0 {
		return Failed, "the ledger's signing key is missing from keys/", "restore it from its backup: without it the ledger can be read and verified, and not continued"
	}
	for _, k := range keys {
		b, err := os.ReadFile(k)
		if err != nil {
			return Failed, err.Error(), "run this as the user that runs the server"
		}
		if !strings.HasPrefix(string(b), "PRIVATE+KEY+") {
			return Failed, k + " is not a signing key", "restore it from its backup"
		}
	}
	return OK, fmt.Sprintf("%d signing key(s), not in the ledger's directory", len(keys)), ""
}

// lookAtLedger opens the ledger for reading, which checks its newest signed
// checkpoint against what it covers. It is no full verification.
func lookAtLedger(_ context.Context, e *examination) (State, string, string) {
	dir := filepath.Join(e.DataDir, "audit")
	if _, err := os.Stat(filepath.Join(dir, "ledger.json")); e.DataDir == "" || err != nil {
		return Skipped, "no ledger yet", ""
	}
	r, err := audit.OpenReader(dir)
	if err != nil {
		if _, tampered := errors.AsType[*audit.TamperError](err); tampered {
			return Failed, err.Error(), "do not start the server on it; kaizen audit verify " + e.DataDir + ", and docs/runbooks"
		}
		return Failed, err.Error(), ""
	}
	n := r.Size()
	if err := r.Close(); err != nil {
		return Warning, err.Error(), ""
	}
	return OK, fmt.Sprintf("%d entries under the signed checkpoint (kaizen audit verify checks each)", n), ""
}

func lookAtCertificate(_ context.Context, e *examination) (State, string, string) {
	if e.TLSCert == "" {
		return Skipped, "no TLS certificate is set", ""
	}
	b, err := os.ReadFile(e.TLSCert)
	if err != nil {
		return Failed, err.Error(), ""
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return Failed, e.TLSCert + " holds no PEM certificate", ""
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Failed, fmt.Sprintf("%s: %v", e.TLSCert, err), ""
	}
	left := cert.NotAfter.Sub(e.Now())
	text := fmt.Sprintf("%s ends on %s", e.TLSCert, cert.NotAfter.Format(time.DateOnly))
	switch {
	case left <= 0:
		return Failed, text, "renew it: kaizen certs issue"
	case left < certWarning:
		return Warning, text, "renew it: kaizen certs issue"
	case len(cert.DNSNames)+len(cert.IPAddresses) == 0:
		return Failed, e.TLSCert + " has no subject alternative names: clients refuse it", "make one with names: kaizen certs issue NAME=HOST,…"
	}
	return OK, text, ""
}

func lookAtSpool(_ context.Context, e *examination) (State, string, string) {
	if e.SpoolDir == "" {
		return Skipped, "no spool", ""
	}
	var bytes int64
	err := filepath.WalkDir(e.SpoolDir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	text := fmt.Sprintf("%.1f MB wait in %s", float64(bytes)/1e6, e.SpoolDir)
	switch {
	case err != nil:
		return Warning, err.Error(), ""
	case bytes > spoolWarnBytes:
		return Warning, text, "agents here cannot reach their server, or it cannot take what they send: see server and exporter above"
	}
	return OK, text, ""
}
