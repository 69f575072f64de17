package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// Errors of a witness that callers branch on.
var (
	// ErrRollback means that a witness has cosigned more entries than the
	// ledger has now: the ledger was set back, or goes on in two places.
	ErrRollback = errors.New("a witness knows a newer checkpoint of this ledger: it was rolled back")
	// ErrFork means that a witness has cosigned another history of the ledger.
	ErrFork = errors.New("a witness knows another history of this ledger: a fork")
	// ErrQuorum means that fewer witnesses cosigned than are wanted.
	ErrQuorum = errors.New("too few witnesses cosigned")
)

// Peer is a witness to ask.
type Peer struct {
	// URL is its submission prefix; add-checkpoint is below it.
	URL string
	// Key is its public key.
	Key string
}

// Group asks witnesses to cosign the checkpoints of one ledger. Set Peers before
// the first use; the zero value of the rest works. It is an [audit.Witness], and
// may be used from several goroutines.
type Group struct {
	// Peers are asked at once.
	Peers []Peer
	// Quorum is how many of them must cosign. If zero, all.
	Quorum int
	// Timeout bounds one request. If zero, 10 seconds.
	Timeout time.Duration
	// Client makes the requests. If nil, [http.DefaultClient].
	Client *http.Client

	mu    sync.Mutex
	known map[string]int64 // by peer's key: the size of its newest checkpoint
}

const (
	defaultTimeout = 10 * time.Second
	// attempts bounds the requests to one witness for one checkpoint: one that
	// learns its size, one that is right, and two for a witness or a network
	// that fails for a moment.
	attempts = 4
	// firstPause is before the second attempt after a fault; each later one is
	// twice as long.
	firstPause = 200 * time.Millisecond
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 16 << 10
)

var _ audit.Witness = (*Group)(nil)

// Cosign implements [audit.Witness]: it has the peers cosign c, for whom prove
// makes a consistency proof from an earlier size to c's. It returns c's note
// with the cosignatures that hold, even when it also returns an error: of those
// that were refused, and [ErrQuorum] if too few are left.
func (g *Group) Cosign(ctx context.Context, c audit.Checkpoint, prove func(from int64) ([][32]byte, error)) (string, error) {
	lines, errs := make([]string, len(g.Peers)), make([]error, len(g.Peers))
	var asked sync.WaitGroup
	for i, p := range g.Peers {
		asked.Go(func() { lines[i], errs[i] = g.ask(ctx, p, c, prove) })
	}
	asked.Wait()
	cosigned, n := c.Note, 0
	for i, line := range lines {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("witness: %s: %w", g.Peers[i].URL, errs[i])
			continue
		}
		cosigned += line
		n++
	}
	err := errors.Join(errs...)
	if want := g.quorum(); n < want {
		err = errors.Join(fmt.Errorf("witness: %w: %d of %d", ErrQuorum, n, want), err)
	}
	return cosigned, err
}

func (g *Group) quorum() int {
	if g.Quorum == 0 {
		return len(g.Peers)
	}
	return g.Quorum
}

// ask gets the signature line of one witness.
func (g *Group) ask(ctx context.Context, p Peer, c audit.Checkpoint, prove func(from int64) ([][32]byte, error)) (string, error) {
	if _, err := NewVerifier(p.Key); err != nil {
		return "", err
	}
	pause := firstPause
	for try := 1; ; try++ {
		a, err := g.post(ctx, p, c, prove)
		switch {
		case err == nil && a.status == http.StatusOK:
			g.remember(p, c.Size)
			return accept(c.Note, a.body, p.Key)
		case err == nil && a.status == http.StatusConflict:
			size, sizeErr := strconv.ParseInt(strings.TrimSuffix(a.body, "\n"), 10, 64)
			if sizeErr != nil || size < 0 {
				return "", errors.New("answers 409 without a size")
			}
			if size > c.Size {
				return "", fmt.Errorf("%w: it has %d entries, this checkpoint %d", ErrRollback, size, c.Size)
			}
			g.remember(p, size)
			if try == attempts {
				return "", errors.New("changes its mind about the size")
			}
			continue
		case err == nil && a.status == http.StatusUnprocessableEntity:
			return "", ErrFork
		case err == nil && a.status < http.StatusInternalServerError:
			return "", fmt.Errorf("answers %d: %.200s", a.status, strings.TrimSpace(a.body))
		case err == nil:
			err = fmt.Errorf("answers %d: %.200s", a.status, strings.TrimSpace(a.body))
		case errors.Is(err, errProof):
			return "", err
		}
		if try == attempts || ctx.Err() != nil {
			return "", err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return "", err
		}
	}
}

// errProof marks a proof that the ledger itself could not make.
var errProof = errors.New("make consistency proof")

type answer struct {
	status int
	body   string
}

func (g *Group) post(ctx context.Context, p Peer, c audit.Checkpoint, prove func(from int64) ([][32]byte, error)) (a answer, err error) {
	r := request{old: g.size(p), note: c.Note}
	if r.old > c.Size {
		return a, fmt.Errorf("%w: it has %d entries, this checkpoint %d", ErrRollback, r.old, c.Size)
	}
	if r.old > 0 && r.old < c.Size {
		if r.proof, err = prove(r.old); err != nil {
			return a, fmt.Errorf("%w: %w", errProof, err)
		}
	}
	timeout := g.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(p.URL, "/")+"/add-checkpoint", bytes.NewReader(r.marshal()))
	if err != nil {
		return a, err
	}
	client := g.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return a, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return answer{resp.StatusCode, string(body)}, errors.Join(err, resp.Body.Close())
}

// accept checks an answer against the witness's key, and returns its line
// alone: what else it sent is not looked at.
func accept(signed, body, vkey string) (string, error) {
	for line := range strings.Lines(body) {
		if found, err := Cosignatures(signed+line, vkey); err == nil && len(found) == 1 {
			return line, nil
		}
	}
	return "", errors.New("sent no signature that holds")
}

func (g *Group) size(p Peer) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known[p.Key]
}

func (g *Group) remember(p Peer, size int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil {
		g.known = make(map[string]int64)
	}
	g.known[p.Key] = size
}

// CheckQuorum reports whether at least quorum of the witnesses with the public
// keys vkeys have cosigned a note; if quorum is zero, all of them. The error
// wraps [ErrQuorum] if fewer have.
func CheckQuorum(signed string, quorum int, vkeys ...string) error {
	if quorum == 0 {
		quorum = len(vkeys)
	}
	found, err := Cosignatures(signed, vkeys...)
	if err != nil {
		return err
	}
	if len(found) < quorum {
		return fmt.Errorf("witness: %w: %d of %d", ErrQuorum, len(found), quorum)
	}
	return nil
}
