package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// maxProgramsBytes bounds the file of [LoadPrograms], maxPrograms its entries.
const (
	maxProgramsBytes = 1 << 20
	maxPrograms      = 100
)

// programSpec is one entry of the file that [LoadPrograms] reads.
type programSpec struct {
	Name           string   `json:"name"`
	Path           string   `json:"path"`
	Args           []string `json:"args,omitempty"`
	SHA256         string   `json:"sha256"`
	Kinds          []string `json:"kinds,omitempty"`
	Phases         []string `json:"phases,omitempty"`
	Priority       string   `json:"priority,omitempty"`
	Timeout        string   `json:"timeout,omitempty"`
	MaxOutputBytes int      `json:"max_output_bytes,omitempty"`
	Env            []string `json:"env,omitempty"`
	Dir            string   `json:"dir,omitempty"`
}

// LoadPrograms reads a JSON file that names programs to register as handlers:
//
//	[{"name": "guard", "path": "/opt/guard", "sha256": "9f86d0…",
//	  "kinds": ["tool"], "phases": ["start"], "priority": "high", "timeout": "2s"}]
//
// name, path and sha256 are required. kinds and phases are names as of
// [Kind.String] and [Phase.String], all if absent; priority is "critical",
// "high", "normal" or "low"; timeout is as of time.ParseDuration. args, env,
// dir and max_output_bytes are the fields of [ProgramConfig].
//
// The file must be as hard to write for others as the programs. Unknown or
// repeated fields, names given twice and programs that [NewProgram] refuses
// fail the whole file: a guard must not be missing because of a slip. The
// Handler of each registration is a [*Program], to be closed by the caller.
func LoadPrograms(path string) ([]Registration, error) {
	specs, err := readPrograms(path)
	if err != nil {
		return nil, fmt.Errorf("hook: load %s: %w", path, err)
	}
	var regs []Registration
	for _, s := range specs {
		reg, err := s.open()
		if err != nil {
			err = fmt.Errorf("hook: load %s: program %q: %w", path, s.Name, err)
			for _, r := range regs {
				err = errors.Join(err, r.Handler.(*Program).Close())
			}
			return nil, err
		}
		regs = append(regs, reg)
	}
	return regs, nil
}

func readPrograms(path string) ([]programSpec, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkFile(fi); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxProgramsBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxProgramsBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxProgramsBytes)
	}
	return parsePrograms(b)
}

// parsePrograms reads the text of such a file and checks what can be checked
// without looking at the programs.
func parsePrograms(b []byte) ([]programSpec, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('[') {
		return nil, firstErr(err, fmt.Errorf("a list is expected, not %v", tok))
	}
	var specs []programSpec
	names := make(map[string]bool)
	for dec.More() {
		if len(specs) == maxPrograms {
			return nil, fmt.Errorf("more than %d programs", maxPrograms)
		}
		s, err := parseProgram(dec)
		if err == nil && names[s.Name] {
			err = ErrDuplicate
		}
		if err != nil {
			return nil, fmt.Errorf("program %d (%q): %w", len(specs)+1, s.Name, err)
		}
		names[s.Name] = true
		specs = append(specs, s)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	return specs, atEnd(dec)
}

func parseProgram(dec *json.Decoder) (programSpec, error) {
	var s programSpec
	fields := map[string]any{
		"name": &s.Name, "path": &s.Path, "args": &s.Args, "sha256": &s.SHA256, "kinds": &s.Kinds, "phases": &s.Phases,
		"priority": &s.Priority, "timeout": &s.Timeout, "max_output_bytes": &s.MaxOutputBytes, "env": &s.Env, "dir": &s.Dir,
	}
	err := object(dec, func(key string) error {
		v, ok := fields[key]
		if !ok {
			return errUnknownField
		}
		return value(dec, v)
	})
	if err != nil {
		return s, err
	}
	if s.Name == "" {
		return s, errors.New("it has no name")
	}
	reg, err := s.registration()
	if err != nil {
		return s, err
	}
	cfg := s.config(reg)
	_, err = cfg.check()
	return s, err
}

// registration returns what s says about the registration, but its handler.
func (s programSpec) registration() (Registration, error) {
	reg := Registration{Name: s.Name}
	for _, name := range s.Kinds {
		i := slices.IndexFunc(Kinds(), func(k Kind) bool { return k.String() == name })
		if i < 0 {
			return reg, fmt.Errorf("unknown kind %q: it is one of %s", name, strings.Join(kindNames[1:], ", "))
		}
		reg.Kinds = append(reg.Kinds, Kinds()[i])
	}
	for _, name := range s.Phases {
		switch name {
		case Start.String():
			reg.Phases = append(reg.Phases, Start)
		case End.String():
			reg.Phases = append(reg.Phases, End)
		default:
			return reg, fmt.Errorf("unknown phase %q: it is start or end", name)
		}
	}
	switch s.Priority {
	case "critical":
		reg.Priority = Critical
	case "high":
		reg.Priority = High
	case "normal", "":
		reg.Priority = Normal
	case "low":
		reg.Priority = Low
	default:
		return reg, fmt.Errorf("unknown priority %q: it is critical, high, normal or low", s.Priority)
	}
	if s.Timeout != "" {
		d, err := time.ParseDuration(s.Timeout)
		if err != nil || d <= 0 {
			return reg, fmt.Errorf("timeout %q: it must be a duration above zero, such as 500ms", s.Timeout)
		}
		reg.Timeout = d
	}
	return reg, nil
}

func (s programSpec) config(reg Registration) ProgramConfig {
	return ProgramConfig{
		Path: s.Path, Args: s.Args, SHA256: s.SHA256, Timeout: reg.Timeout, MaxOutputBytes: s.MaxOutputBytes,
		Env: s.Env, Dir: s.Dir,
	}
}

func (s programSpec) open() (Registration, error) {
	reg, err := s.registration()
	if err != nil {
		return reg, err
	}
	p, err := NewProgram(s.config(reg))
	if err != nil {
		return reg, err
	}
	reg.Handler = p
	return reg, nil
}
