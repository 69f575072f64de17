package shard

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/kaizen-go/kaizen/audit"
)

// Client sends the checkpoints of a process's own ledger to a server, which
// records them in its ledger: POST /api/audit/checkpoints. It may be used by
// several goroutines.
type Client struct {
	// URL is the server's, such as http://127.0.0.1:7070.
	URL string
	// APIKey is sent as bearer token, if not empty.
	APIKey string
	// HTTP makes the requests. If nil, [http.DefaultClient].
	HTTP *http.Client
}

// Local is what a Client needs of the process's ledger. [*audit.Ledger] has it.
type Local interface {
	VerifierKey() string
	Checkpoint() audit.Checkpoint
	Consistency(from, to int64) ([][32]byte, error)
}

// wire is a submission, and the server's answer, as JSON.
type wire struct {
	Key         string   `json:"key"`
	Note        string   `json:"note"`
	From        int64    `json:"from"`
	Consistency []string `json:"consistency"`
}

// Recorded is the server's answer: where the checkpoint stands in its ledger.
type Recorded struct {
	// Index is the entry's, -1 if the checkpoint was on record before.
	Index int64 `json:"index"`
	// Origin and Size are of the shard's checkpoint on record.
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	// Checkpoint is the server's, signed: it covers the entry.
	Checkpoint string `json:"checkpoint"`
}

// MarshalJSON gives the form in which a submission travels.
func (s Submission) MarshalJSON() ([]byte, error) {
	w := wire{Key: s.Key, Note: s.Note, From: s.From, Consistency: []string{}}
	for _, h := range s.Consistency {
		w.Consistency = append(w.Consistency, base64.StdEncoding.EncodeToString(h[:]))
	}
	return json.Marshal(w)
}

// maxHashes is enough for trees of 2^63 entries.
const maxHashes = 64

// UnmarshalJSON reads what MarshalJSON wrote; unknown fields are refused.
func (s *Submission) UnmarshalJSON(b []byte) error {
	var w wire
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return err
	}
	if len(w.Consistency) > maxHashes {
		return fmt.Errorf("%d hashes, at most %d", len(w.Consistency), maxHashes)
	}
	out := Submission{Key: w.Key, Note: w.Note, From: w.From}
	for _, text := range w.Consistency {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != 32 {
			return errors.New("consistency has something that is no hash of 32 bytes in base64")
		}
		out.Consistency = append(out.Consistency, [32]byte(raw))
	}
	*s = out
	return nil
}

// Send has the ledger's newest checkpoint recorded. The server says which one it
// knows; the second request proves that the ledger only grew since. [ErrFork]
// means that the server has recorded another history of it.
func (c *Client) Send(ctx context.Context, l Local) (Recorded, error) {
	head := l.Checkpoint()
	s := Submission{Key: l.VerifierKey(), Note: head.Note}
	const tries = 4 // others may send for the same ledger
	for range tries {
		got, code, err := c.post(ctx, s)
		switch {
		case err != nil:
			return got, fmt.Errorf("shard: send checkpoint: %w", err)
		case code == http.StatusOK:
			return got, nil
		case code != http.StatusConflict:
			return got, fmt.Errorf("shard: send checkpoint: server answered %d", code)
		case got.Size > head.Size || got.Size == s.From:
			return got, fmt.Errorf("shard: send checkpoint at %d: %w: the server has one at %d", head.Size, ErrFork, got.Size)
		}
		s.From = got.Size
		if s.Consistency, err = l.Consistency(got.Size, head.Size); err != nil {
			return got, fmt.Errorf("shard: send checkpoint: %w", err)
		}
	}
	return Recorded{}, fmt.Errorf("shard: send checkpoint: %w: the server's changes all the time", ErrStale)
}

func (c *Client) post(ctx context.Context, s Submission) (got Recorded, code int, err error) {
	body, err := json.Marshal(s)
	if err != nil {
		return got, 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/api/audit/checkpoints", bytes.NewReader(body))
	if err != nil {
		return got, 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.APIKey != "" {
		r.Header.Set("Authorization", "Bearer "+c.APIKey)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(r)
	if err != nil {
		return got, 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return got, resp.StatusCode, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusConflict {
		return got, resp.StatusCode, fmt.Errorf("server answered %s: %.200s", resp.Status, text)
	}
	return got, resp.StatusCode, json.Unmarshal(text, &got)
}

// Handler answers POST /api/audit/checkpoints: 200 and a [Recorded]; 409 and the
// size on record if the submission does not begin there, or forks; 403 for
// another key; 422 for a bad signature; 400 for what is no submission.
func Handler(r *Recorder, super interface{ Checkpoint() audit.Checkpoint }) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var s Submission
		if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 64<<10)).Decode(&s); err != nil {
			http.Error(w, `{"error":"not a submission"}`, http.StatusBadRequest)
			return
		}
		receipts, err := r.Record(req.Context(), s)
		origin := originOf(s.Key)
		head, _, _ := r.Last(origin)
		out, code := Recorded{Index: -1, Origin: origin, Size: head.Size}, http.StatusOK
		switch {
		case errors.Is(err, ErrStale), errors.Is(err, ErrFork):
			code = http.StatusConflict
		case errors.Is(err, ErrKey):
			code = http.StatusForbidden
		case errors.Is(err, ErrSignature):
			code = http.StatusUnprocessableEntity
		case err != nil:
			code = http.StatusServiceUnavailable
		default:
			out.Checkpoint = super.Checkpoint().Note
			if receipts[0].ID != "" {
				out.Index, out.Checkpoint = receipts[0].Index, receipts[0].Checkpoint.Note
			}
		}
		body, err := json.Marshal(out)
		if err != nil {
			code, body = http.StatusInternalServerError, nil
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(append(body, '\n')) // the client is gone if it fails
	})
}
