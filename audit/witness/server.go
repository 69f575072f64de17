package witness

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// Config says what a [Server] is made of. Signer and Logs must be set.
type Config struct {
	// Signer is the witness's key.
	Signer *Signer
	// Logs are the public keys of the ledgers that are watched, as their
	// VerifierKey gives them. A ledger whose key was changed may have several.
	Logs []string
	// Logger is told of cosignatures and of ledgers that misbehave. If nil,
	// nothing is logged.
	Logger *slog.Logger

	fsys durable.FS
	now  func() time.Time
}

// Server is a witness (c2sp.org/tlog-witness). It remembers the newest
// checkpoint of each ledger in a directory, and cosigns what extends that and
// nothing else: two histories of one ledger never both get its signature. Each
// checkpoint is on the disk before its signature leaves. It is an
// [http.Handler] for POST /add-checkpoint and GET /<SHA-256 of the
// origin>/checkpoint.
type Server struct {
	cfg  Config
	dir  string
	lock io.Closer
	logs map[string]*watched // by origin
}

type watched struct {
	vkeys     []string
	verifiers note.Verifiers
	mu        sync.Mutex // held from reading the remembered checkpoint to replacing it
}

// maxRequest bounds a request: 63 hashes and a checkpoint with many signatures.
const maxRequest = 64 << 10

// Open takes the lock on dir, where the witness keeps what it has seen, and
// creates it if absent. The caller closes the Server.
func Open(dir string, cfg Config) (*Server, error) {
	s, err := open(dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("witness: open %s: %w", dir, err)
	}
	return s, nil
}

func open(dir string, cfg Config) (_ *Server, err error) {
	if cfg.Signer == nil {
		return nil, errors.New("no key to sign with")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.fsys == nil {
		cfg.fsys = durable.OS{}
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, dir: dir, logs: make(map[string]*watched)}
	for _, vkey := range cfg.Logs {
		v, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, fmt.Errorf("public key of a ledger: %w", err)
		}
		if s.logs[v.Name()] == nil {
			s.logs[v.Name()] = &watched{}
		}
		s.logs[v.Name()].vkeys = append(s.logs[v.Name()].vkeys, vkey)
	}
	for _, l := range s.logs {
		if l.verifiers, err = verifiers(l.vkeys); err != nil {
			return nil, err
		}
	}
	if err := durable.MkdirAll(cfg.fsys, dir); err != nil {
		return nil, err
	}
	s.lock, err = cfg.fsys.Lock(filepath.Join(dir, "LOCK"))
	return s, err
}

func verifiers(vkeys []string) (note.Verifiers, error) {
	var list []note.Verifier
	for _, k := range vkeys {
		v, err := note.NewVerifier(k)
		if err != nil {
			return nil, fmt.Errorf("public key of a ledger: %w", err)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}

// Close gives the directory free.
func (s *Server) Close() error {
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("witness: close %s: %w", s.dir, err)
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if path == "add-checkpoint" {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST")
			http.Error(w, "add-checkpoint is a POST", http.StatusMethodNotAllowed)
			return
		}
		s.addCheckpoint(w, r)
		return
	}
	hash, isCheckpoint := strings.CutSuffix(path, "/checkpoint")
	if isCheckpoint && r.Method == http.MethodGet {
		s.checkpoint(w, hash)
		return
	}
	http.Error(w, "a witness has add-checkpoint and <origin hash>/checkpoint", http.StatusNotFound)
}

// refusal is an answer other than 200.
type refusal struct {
	status int
	reason string
	size   int64 // with 409
}

func (r *refusal) Error() string { return r.reason }

func (s *Server) addCheckpoint(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, "cannot read the request", http.StatusBadRequest)
		return
	}
	req, err := parseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	line, err := s.Cosign(req.old, req.proof, req.note)
	var no *refusal
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err = io.WriteString(w, line)
	case errors.As(err, &no) && no.status == http.StatusConflict:
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		_, err = fmt.Fprintf(w, "%d\n", no.size)
	case errors.As(err, &no):
		http.Error(w, no.reason, no.status)
		return
	default:
		s.cfg.Logger.Error("witness: cannot keep a checkpoint, so it is not signed", "origin", originOf(req.note), "error", err)
		http.Error(w, "the witness cannot keep its state", http.StatusInternalServerError)
		return
	}
	if err != nil {
		s.cfg.Logger.Debug("witness: answer was not sent", "error", err)
	}
}

// Cosign checks a checkpoint as add-checkpoint does: old is the size of the
// checkpoint that the caller believes to be the newest here, proof that the new
// one extends it. It returns the signature line, after the checkpoint was made
// durable.
func (s *Server) Cosign(old int64, proof [][32]byte, signed string) (line string, err error) {
	l, ok := s.logs[originOf(signed)]
	if !ok {
		return "", &refusal{status: http.StatusNotFound, reason: "this witness does not watch that ledger"}
	}
	c, err := audit.ParseCheckpoint([]byte(signed), l.vkeys...)
	if err == nil {
		_, err = note.Open([]byte(signed), l.verifiers) // no signature of a known key may be a false one
	}
	if err != nil {
		return "", &refusal{status: http.StatusForbidden, reason: "the checkpoint is not signed with the ledger's key"}
	}
	if old > c.Size {
		return "", &refusal{status: http.StatusBadRequest, reason: "the old size is larger than the new one"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last, err := s.last(originOf(signed), l)
	if err != nil {
		return "", err
	}
	if last.Size != old {
		return "", &refusal{status: http.StatusConflict, size: last.Size, reason: fmt.Sprintf("the newest checkpoint here is of %d entries", last.Size)}
	}
	if err := extends(last, c, proof); err != nil {
		s.cfg.Logger.Warn("witness: a ledger's checkpoint does not extend the last one", "origin", originOf(signed), "old", last.Note, "new", signed)
		return "", &refusal{status: http.StatusUnprocessableEntity, reason: err.Error()}
	}
	line = s.cfg.Signer.cosign(textOf(signed), s.cfg.now())
	if err := durable.ReplaceFile(s.cfg.fsys, s.file(originOf(signed)), []byte(ownNote(signed, l.vkeys)+line)); err != nil {
		return "", err
	}
	s.cfg.Logger.Debug("witness: cosigned", "origin", originOf(signed), "size", c.Size)
	return line, nil
}

// extends checks the proof that c continues last.
func extends(last, c audit.Checkpoint, proof [][32]byte) error {
	if last.Size == 0 {
		if len(proof) > 0 {
			return errors.New("a proof from nothing has to be empty")
		}
		if c.Size == 0 && c.Root != merkle.EmptyRoot() {
			return errors.New("the root of no entries is another one")
		}
		return nil
	}
	if err := merkle.CheckConsistency(proof, last.Size, c.Size, last.Root, c.Root); err != nil {
		return errors.New("the checkpoint does not extend the one that was cosigned before")
	}
	return nil
}

// last is the newest checkpoint of a ledger, the zero one if there was none.
// It is read from the disk each time: after a failed write nothing else tells
// what is there.
func (s *Server) last(origin string, l *watched) (audit.Checkpoint, error) {
	b, err := durable.ReadFile(s.cfg.fsys, s.file(origin), maxRequest)
	if errors.Is(err, fs.ErrNotExist) {
		return audit.Checkpoint{}, nil
	}
	if err != nil {
		return audit.Checkpoint{}, err
	}
	c, err := audit.ParseCheckpoint(b, l.vkeys...)
	if err != nil {
		return c, fmt.Errorf("%s: %w", s.file(origin), err)
	}
	signatures, err := Cosignatures(string(b), s.cfg.Signer.VerifierKey())
	if err == nil && len(signatures) == 0 {
		err = errors.New("not signed by this witness")
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w", s.file(origin), err)
	}
	return c, nil
}

func (s *Server) file(origin string) string { return filepath.Join(s.dir, originHash(origin)) }

// originHash names a ledger's checkpoint, on the disk and in its URL.
func originHash(origin string) string {
	h := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(h[:])
}

// ownNote is the note with the ledger's own signatures alone: whoever asks for
// it later gets what this witness has verified.
func ownNote(signed string, vkeys []string) string {
	text, signatures, _ := strings.Cut(signed, "\n\n")
	kept := text + "\n\n"
	for line := range strings.Lines(signatures) {
		if _, err := audit.ParseCheckpoint([]byte(text+"\n\n"+line), vkeys...); err == nil {
			kept += line
		}
	}
	return kept
}

// checkpoint serves the newest checkpoint of a ledger, for those who watch.
func (s *Server) checkpoint(w http.ResponseWriter, hash string) {
	for origin, l := range s.logs {
		if originHash(origin) != hash {
			continue
		}
		c, err := s.last(origin, l)
		if err != nil {
			s.cfg.Logger.Error("witness: cannot read a checkpoint", "origin", origin, "error", err)
			http.Error(w, "the witness cannot read its state", http.StatusInternalServerError)
			return
		}
		if c.Note == "" {
			break
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(c.Note)))
		if _, err := io.WriteString(w, c.Note); err != nil {
			s.cfg.Logger.Debug("witness: answer was not sent", "error", err)
		}
		return
	}
	http.Error(w, "no checkpoint of such a ledger was cosigned here", http.StatusNotFound)
}
