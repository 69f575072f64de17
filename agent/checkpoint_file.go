package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/oklog/ulid/v2"
)

// checkpointFormat names the format of a file of [FileCheckpoints]: a header
// with the id and the checksum of what follows, then the checkpoint, both JSON.
const checkpointFormat = "kaizen-checkpoint/1"

// DefaultKeepCheckpoints is how many checkpoints of an agent are kept.
const DefaultKeepCheckpoints = 64

// FileCheckpointsConfig tunes [FileCheckpoints]. The zero value is usable.
type FileCheckpointsConfig struct {
	// Keep is how many checkpoints of each agent are kept, the last ones, of
	// whatever run; [DefaultKeepCheckpoints] if zero.
	Keep int
}

// FileCheckpoints is [Checkpoints] in a directory: a file for each, for the
// owner's eyes alone. When Save has returned nil, the checkpoint survives a
// crash. An id has the agent's hash, the time, the run's id and the step in it.
type FileCheckpoints struct {
	keep int
	dir  *folder
}

// OpenFileCheckpoints opens the checkpoints in dir, creating it if absent, and
// holds the lock on dir until [FileCheckpoints.Close].
func OpenFileCheckpoints(dir string, cfg FileCheckpointsConfig) (*FileCheckpoints, error) {
	return openFileCheckpoints(durable.OS{}, dir, cfg)
}

func openFileCheckpoints(fsys durable.FS, dir string, cfg FileCheckpointsConfig) (*FileCheckpoints, error) {
	if cfg.Keep <= 0 {
		cfg.Keep = DefaultKeepCheckpoints
	}
	f, err := openFolder(fsys, dir, checkpointName)
	if err != nil {
		return nil, fmt.Errorf("agent: open checkpoints %s: %w", dir, err)
	}
	return &FileCheckpoints{keep: cfg.Keep, dir: f}, nil
}

// Save implements [Checkpoints]. It removes the agent's oldest checkpoint when
// there is one too many; if that fails it returns the id beside the error.
func (s *FileCheckpoints) Save(ctx context.Context, c Checkpoint) (id string, sizeBytes int64, err error) {
	err = s.dir.do(ctx, func() (err error) {
		id, sizeBytes, err = s.save(c)
		return err
	})
	if err != nil {
		return id, sizeBytes, fmt.Errorf("agent: save checkpoint: %w", err)
	}
	return id, sizeBytes, nil
}

func (s *FileCheckpoints) save(c Checkpoint) (id string, size int64, err error) {
	old, err := s.list(c.AgentID)
	if err != nil {
		return "", 0, err
	}
	run := c.RunID
	if !plainID.MatchString(run) {
		run = safeName(run)
	}
	id = fmt.Sprintf("%s-%s-%s-%d", agentKey(c.AgentID), after(old), run, c.Step)
	c.ID = id
	c.Messages = encodable(c.Messages)
	body, err := json.Marshal(c)
	if err != nil {
		return "", 0, err
	}
	if size, err = s.dir.write(id+checkpointExt, checkpointFormat, id, append(body, '\n')); err != nil {
		return "", 0, err
	}
	var errs []error
	for i := range len(old) + 1 - s.keep {
		errs = append(errs, s.dir.fs.Remove(filepath.Join(s.dir.dir, old[i]+checkpointExt)))
	}
	return id, size, errors.Join(errs...)
}

// Load implements [Checkpoints]. A file that is not what was written is a
// [*CorruptError]; after [FileCheckpoints.Close] the error is [ErrClosed].
func (s *FileCheckpoints) Load(ctx context.Context, id string) (c Checkpoint, sizeBytes int64, err error) {
	err = s.dir.do(ctx, func() (err error) {
		c, sizeBytes, err = s.load(id)
		return err
	})
	if err != nil {
		return Checkpoint{}, 0, fmt.Errorf("agent: load checkpoint %s: %w", id, err)
	}
	return c, sizeBytes, nil
}

func (s *FileCheckpoints) load(id string) (Checkpoint, int64, error) {
	if !checkpointID.MatchString(id) { // nor could it be the name of one of our files
		return Checkpoint{}, 0, ErrNoCheckpoint
	}
	body, size, err := s.dir.read(id+checkpointExt, checkpointFormat, id)
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, 0, ErrNoCheckpoint
	}
	if err != nil {
		return Checkpoint{}, 0, err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	var c Checkpoint
	if err := dec.Decode(&c); err != nil {
		return Checkpoint{}, 0, &CorruptError{Path: filepath.Join(s.dir.dir, id+checkpointExt), Reason: err.Error()}
	}
	return c, size, nil
}

// Latest implements [Checkpoints].
func (s *FileCheckpoints) Latest(ctx context.Context, agentID string) (id string, err error) {
	err = s.dir.do(ctx, func() error {
		ids, err := s.list(agentID)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return ErrNoCheckpoint
		}
		id = ids[len(ids)-1]
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("agent: latest checkpoint of %s: %w", agentID, err)
	}
	return id, nil
}

// Close gives the directory free. Further calls do nothing.
func (s *FileCheckpoints) Close() error { return s.dir.close() }

const checkpointExt = ".json"

var (
	plainID      = regexp.MustCompile(`^[0-9A-Za-z]{1,40}$`)
	checkpointID = regexp.MustCompile(`^[0-9a-f]{16}-[0-9A-Z]{26}-[0-9A-Za-z_-]{1,100}-[0-9]+$`)
	// checkpointName matches the name of a checkpoint's file.
	checkpointName = regexp.MustCompile(`^[0-9a-f]{16}-[0-9A-Z]{26}-[0-9A-Za-z_-]{1,100}-[0-9]+\.json$`)
)

// list returns the ids of the agent's checkpoints, oldest first.
func (s *FileCheckpoints) list(agentID string) ([]string, error) {
	entries, err := s.dir.fs.ReadDir(s.dir.dir) // sorted, and the ids sort by time
	if err != nil {
		return nil, err
	}
	prefix := agentKey(agentID) + "-"
	var ids []string
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), checkpointExt)
		if ok && strings.HasPrefix(id, prefix) && checkpointID.MatchString(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func agentKey(agentID string) string {
	sum := sha256.Sum256([]byte(agentID))
	return hex.EncodeToString(sum[:8])
}

// after returns a ULID for now that sorts behind those of old, also when two
// share a millisecond or the clock was set back.
func after(old []string) ulid.ULID {
	ms := ulid.Now()
	if len(old) > 0 {
		last, err := ulid.ParseStrict(old[len(old)-1][17 : 17+26])
		if err == nil && ms <= last.Time() {
			ms = last.Time() + 1
		}
	}
	return ulid.MustNew(min(ms, ulid.MaxTime()), ulid.DefaultEntropy())
}
