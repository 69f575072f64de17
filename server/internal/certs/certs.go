// Package certs makes a private certificate authority and the certificates of
// the servers of one deployment, with the names that clients check.
//
//	made, err := certs.Issue(certs.Config{Dir: "certs"}, []certs.Server{{Name: "kaizen", Hosts: []string{"kaizen", "localhost", "127.0.0.1"}}})
//
// It is for a deployment that has no authority of its own. What it issues is
// as secret as the directory: whoever reads ca-key.pem can be any server.
package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// caName and caKeyName are the authority's files.
	caName    = "ca"
	certExt   = ".pem"
	keySuffix = "-key.pem"
	// Clients of today refuse server certificates that are valid for longer.
	maxDays = 825
)

// Config says where certificates are kept and for how long they are valid.
type Config struct {
	// Dir is the directory of the files, made owner-only when absent.
	Dir string
	// Days is how long a server's certificate is valid. If zero, 397; at most 825.
	Days int
	// CADays is how long the authority is valid. If zero, ten years.
	CADays int
	// RenewBefore is how long before its end a certificate is made anew. If
	// zero, 30 days.
	RenewBefore time.Duration
	// Now is the clock. If nil, time.Now.
	Now func() time.Time
}

// Server is one certificate to have.
type Server struct {
	// Name is the stem of its files, NAME.pem and NAME-key.pem: letters,
	// digits, dots, hyphens.
	Name string
	// Hosts are its subject alternative names: DNS names and IP addresses. If
	// empty, Name alone.
	Hosts []string
}

// Cert describes a certificate on the disk.
type Cert struct {
	Name     string    `json:"name"`
	Path     string    `json:"path"`
	Hosts    []string  `json:"hosts,omitempty"`
	NotAfter time.Time `json:"not_after"`
	// New is set if it was made by this call.
	New bool `json:"new,omitempty"`
	// Why says why it was made: missing, "expires soon", other hosts, another authority.
	Why string `json:"why,omitempty"`
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$`)

func (c *Config) settle() error {
	if c.Days == 0 {
		c.Days = 397
	}
	if c.CADays == 0 {
		c.CADays = 3650
	}
	if c.RenewBefore == 0 {
		c.RenewBefore = 30 * 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Days < 1 || c.Days > maxDays {
		return fmt.Errorf("certs: %d days: between 1 and %d", c.Days, maxDays)
	}
	if c.CADays < c.Days {
		return fmt.Errorf("certs: the authority would end (%d days) before what it issues (%d)", c.CADays, c.Days)
	}
	return nil
}

// Issue makes what is missing or must be renewed, and leaves the rest alone:
// it can be run daily. The authority is made once, and never replaced: when it
// is about to end, that is an error which says so. It returns the authority and
// then the servers, in their order.
func Issue(cfg Config, servers []Server) ([]Cert, error) {
	if err := cfg.settle(); err != nil {
		return nil, err
	}
	for i := range servers {
		if err := servers[i].check(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	ca, made, err := authority(cfg)
	if err != nil {
		return nil, fmt.Errorf("certs: authority: %w", err)
	}
	all := []Cert{describe(caName, cfg.path(caName+certExt), ca.cert)}
	all[0].New = made
	for _, s := range servers {
		c, err := ensure(cfg, ca, s)
		if err != nil {
			return nil, fmt.Errorf("certs: %s: %w", s.Name, err)
		}
		all = append(all, c)
	}
	return all, nil
}

func (s *Server) check() error {
	if !nameForm.MatchString(s.Name) || s.Name == caName {
		return fmt.Errorf("certs: server name %q: want letters, digits, dots and hyphens, and not %q", s.Name, caName)
	}
	if len(s.Hosts) == 0 {
		s.Hosts = []string{s.Name}
	}
	for _, h := range s.Hosts {
		if net.ParseIP(h) == nil && !nameForm.MatchString(strings.TrimPrefix(h, "*.")) {
			return fmt.Errorf("certs: %s: %q is neither a host name nor an IP address", s.Name, h)
		}
	}
	return nil
}

func (c *Config) path(name string) string { return filepath.Join(c.Dir, name) }

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func authority(cfg Config) (ca pair, made bool, err error) {
	ca, err = load(cfg, caName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		ca, err = newAuthority(cfg)
		return ca, err == nil, err
	case err != nil:
		return pair{}, false, err
	case !ca.cert.IsCA:
		return pair{}, false, fmt.Errorf("%s is not a certificate authority", cfg.path(caName+certExt))
	case ca.cert.NotAfter.Before(cfg.Now().Add(cfg.RenewBefore)):
		return pair{}, false, fmt.Errorf("it ends on %s: make a new one in another directory, and give it to all clients first", ca.cert.NotAfter.Format(time.DateOnly))
	}
	return ca, false, nil
}

func newAuthority(cfg Config) (pair, error) {
	now := cfg.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Kaizen deployment authority " + now.UTC().Format(time.DateOnly)},
		NotBefore:             now.Add(-time.Hour), // clocks differ
		NotAfter:              now.AddDate(0, 0, cfg.CADays),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return create(cfg, caName, template, nil)
}

// ensure returns the certificate of s, which it makes if there is no good one.
func ensure(cfg Config, ca pair, s Server) (Cert, error) {
	have, err := load(cfg, s.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Cert{}, err
	}
	why := "missing"
	if err == nil {
		why = renewal(cfg, ca, have.cert, s)
	}
	if why == "" {
		return describe(s.Name, cfg.path(s.Name+certExt), have.cert), nil
	}
	now := cfg.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: s.Hosts[0]},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(0, 0, cfg.Days),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range s.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	p, err := create(cfg, s.Name, template, &ca)
	if err != nil {
		return Cert{}, err
	}
	c := describe(s.Name, cfg.path(s.Name+certExt), p.cert)
	c.New, c.Why = true, why
	return c, nil
}

// renewal says why cert does not do any more, or nothing.
func renewal(cfg Config, ca pair, cert *x509.Certificate, s Server) string {
	want, have := slices.Clone(s.Hosts), hosts(cert)
	slices.Sort(want)
	slices.Sort(have)
	switch {
	case cert.CheckSignatureFrom(ca.cert) != nil:
		return "of another authority"
	case cert.NotAfter.Before(cfg.Now().Add(cfg.RenewBefore)):
		return "expires soon"
	case !slices.Equal(want, have):
		return "has other hosts"
	}
	return ""
}

func hosts(cert *x509.Certificate) []string {
	all := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}

func describe(name, path string, cert *x509.Certificate) Cert {
	return Cert{Name: name, Path: path, Hosts: hosts(cert), NotAfter: cert.NotAfter.UTC()}
}

// create makes a key and the certificate of template, signed by ca, or by
// itself if ca is nil, and writes both. The key comes first: a certificate is
// never without it.
func create(cfg Config, name string, template *x509.Certificate, ca *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return pair{}, err
	}
	parent := pair{cert: template, key: key}
	if ca != nil {
		parent = *ca
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		return pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair{}, err
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	err = errors.Join(
		replace(cfg.path(name+keySuffix), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
		replace(cfg.path(name+certExt), chain, 0o644),
	)
	return pair{cert, key}, err
}

// replace writes a file and puts it in the place of the old one at once.
func replace(path string, data []byte, perm os.FileMode) (err error) {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(perm), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// load reads a certificate and its key, which must belong together.
func load(cfg Config, name string) (pair, error) {
	cert, err := readCert(cfg.path(name + certExt))
	if err != nil {
		return pair{}, err
	}
	b, err := os.ReadFile(cfg.path(name + keySuffix))
	if err != nil {
		return pair{}, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return pair{}, fmt.Errorf("%s: no PEM private key", cfg.path(name+keySuffix))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return pair{}, fmt.Errorf("%s: %w", cfg.path(name+keySuffix), err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return pair{}, fmt.Errorf("%s does not belong to %s", cfg.path(name+keySuffix), cfg.path(name+certExt))
	}
	return pair{cert, key}, nil
}

func readCert(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseCert(path, b)
}

func parseCert(path string, b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(bytes.TrimSpace(b))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: no PEM certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}

// List describes the certificates in dir, the authority among them.
func List(dir string) ([]Cert, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+certExt))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	var all []Cert
	for _, path := range names {
		if strings.HasSuffix(path, keySuffix) {
			continue
		}
		cert, err := readCert(path)
		if err != nil {
			return nil, fmt.Errorf("certs: %w", err)
		}
		all = append(all, describe(strings.TrimSuffix(filepath.Base(path), certExt), path, cert))
	}
	return all, nil
}
