package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxProof is the most hashes that a request may have.
const maxProof = 63

// request is the body of add-checkpoint (c2sp.org/tlog-witness).
type request struct {
	old   int64
	proof [][32]byte
	note  string
}

func (r request) marshal() []byte {
	b := append(strconv.AppendInt([]byte("old "), r.old, 10), '\n')
	for i := range r.proof {
		b = append(base64.StdEncoding.AppendEncode(b, r.proof[i][:]), '\n')
	}
	return append(append(b, '\n'), r.note...)
}

// parseRequest reads what marshal writes, and nothing else.
func parseRequest(b []byte) (request, error) {
	var r request
	head, text, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return r, errors.New("no empty line before the checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	old, ok := strings.CutPrefix(lines[0], "old ")
	var err error
	if r.old, err = strconv.ParseInt(old, 10, 64); !ok || err != nil || r.old < 0 {
		return r, errors.New("first line is not the old size")
	}
	if len(lines)-1 > maxProof {
		return r, fmt.Errorf("proof has %d lines, at most %d", len(lines)-1, maxProof)
	}
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(h) != 32 {
			return r, errors.New("a line of the proof is not a hash in base64")
		}
		r.proof = append(r.proof, [32]byte(h))
	}
	r.note = string(text)
	if !bytes.Equal(r.marshal(), b) {
		return r, errors.New("not in canonical form")
	}
	return r, nil
}

// originOf is the first line of a note.
func originOf(note string) string {
	origin, _, _ := strings.Cut(note, "\n")
	return origin
}

// textOf is the text of a note, which signatures are over.
func textOf(note string) string {
	text, _, _ := strings.Cut(note, "\n\n")
	return text + "\n"
}
