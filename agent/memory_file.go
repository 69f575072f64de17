package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// memoryFormat names the format of a file of a [FileMemory]: a header with the
// session and the checksum of what follows, then a message a line, all JSON.
const memoryFormat = "kaizen-memory/1"

// FileMemory is a [Memory] in a directory: one file of JSON lines for each
// session, for the owner's eyes alone. When Save has returned nil, the messages
// survive a crash; when not, the file is as it was or as it should be. Agents
// that share one share its conversations.
type FileMemory struct {
	cfg WindowConfig
	dir *folder
}

// OpenFileMemory opens the memory in dir, creating it if absent, and holds the
// lock on dir until [FileMemory.Close].
func OpenFileMemory(dir string, cfg WindowConfig) (*FileMemory, error) {
	return openFileMemory(durable.OS{}, dir, cfg)
}

func openFileMemory(fsys durable.FS, dir string, cfg WindowConfig) (*FileMemory, error) {
	f, err := openFolder(fsys, dir, memoryName)
	if err != nil {
		return nil, fmt.Errorf("agent: open memory %s: %w", dir, err)
	}
	return &FileMemory{cfg: cfg.withDefaults(4 << 20), dir: f}, nil
}

// Store names the memory in records: "file".
func (*FileMemory) Store() string { return "file" }

// Load implements [Memory]. A file that is not what was written is a
// [*CorruptError]; after [FileMemory.Close] the error is [ErrClosed].
func (m *FileMemory) Load(ctx context.Context, session string) (messages []Message, err error) {
	err = m.dir.do(ctx, func() (err error) {
		messages, err = m.read(session)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("agent: load memory: %w", err)
	}
	return messages, nil
}

// Save implements [Memory]. It fails as Load does: it does not write over a
// conversation that it cannot read.
func (m *FileMemory) Save(ctx context.Context, session string, messages []Message) error {
	err := m.dir.do(ctx, func() error {
		old, err := m.read(session)
		if err != nil {
			return err
		}
		body, err := encodeMessages(m.cfg.window(slices.Concat(old, messages)))
		if err != nil {
			return err
		}
		_, err = m.dir.write(memoryFile(session), memoryFormat, session, body)
		return err
	})
	if err != nil {
		return fmt.Errorf("agent: save memory: %w", err)
	}
	return nil
}

// Forget removes what is kept of session, also if it is corrupt. Nothing kept
// is no error.
func (m *FileMemory) Forget(ctx context.Context, session string) error {
	err := m.dir.do(ctx, func() error {
		err := m.dir.fs.Remove(filepath.Join(m.dir.dir, memoryFile(session)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return m.dir.fs.SyncDir(m.dir.dir)
	})
	if err != nil {
		return fmt.Errorf("agent: forget memory: %w", err)
	}
	return nil
}

// Close gives the directory free. Further calls do nothing.
func (m *FileMemory) Close() error { return m.dir.close() }

// read is called by whoever holds the folder.
func (m *FileMemory) read(session string) ([]Message, error) {
	name := memoryFile(session)
	body, _, err := m.dir.read(name, memoryFormat, session)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	messages, err := decodeMessages(body)
	if err != nil {
		return nil, &CorruptError{Path: filepath.Join(m.dir.dir, name), Reason: err.Error()}
	}
	return messages, nil
}

func memoryFile(session string) string { return safeName(session) + ".jsonl" }

// memoryName matches what memoryFile returns.
var memoryName = regexp.MustCompile(`^[0-9a-z_]{0,24}-[0-9a-f]{64}\.jsonl$`)

func encodeMessages(messages []Message) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i, m := range encodable(messages) {
		if err := enc.Encode(m); err != nil {
			return nil, fmt.Errorf("message %d: %w", i+1, err)
		}
	}
	return b.Bytes(), nil
}

// encodable returns messages that JSON can hold: arguments of a tool that are no
// JSON, for models make mistakes, are kept as text.
func encodable(messages []Message) []Message {
	messages = cloneMessages(messages)
	for _, m := range messages {
		for j, c := range m.ToolCalls {
			if len(c.Arguments) > 0 && !json.Valid(c.Arguments) {
				// The encoding of a string does not fail.
				m.ToolCalls[j].Arguments, _ = json.Marshal(string(c.Arguments))
			}
		}
	}
	return messages
}

// decodeMessages reads one message from each line.
func decodeMessages(body []byte) ([]Message, error) {
	var messages []Message
	for line := range bytes.Lines(body) {
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		var m Message
		if err := dec.Decode(&m); err != nil {
			return nil, fmt.Errorf("message %d: %w", len(messages)+1, err)
		}
		if _, err := dec.Token(); err == nil || line[len(line)-1] != '\n' {
			return nil, fmt.Errorf("message %d: not one line", len(messages)+1)
		}
		messages = append(messages, m)
	}
	return messages, nil
}
