package ingest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// The decoders recurse with the nesting of a body, without a bound for
// protobuf, and a goroutine that outgrows its stack ends the process: it
// cannot be recovered. They also make some hundred bytes of an empty message
// that takes two. So a body is walked before it is decoded.
const (
	// maxNesting bounds messages, and JSON brackets, within each other. A
	// level of attribute values takes two or three messages and up to four
	// brackets; the store refuses single items at 64 levels.
	maxNesting = 1_000
	// maxElements bounds messages, attributes among them, in one request.
	maxElements = 2_000_000
)

// limitError says that a body is well formed, as far as it was read, and asks
// for too much.
type limitError struct{ msg string }

func (e *limitError) Error() string { return e.msg }

func asLimit(err error, to **limitError) bool { return errors.As(err, to) }

var errMalformed = errors.New("malformed protobuf")

// guard walks a body without recursion that its sender controls.
func guard(sig signal, body []byte, isJSON bool) error {
	if isJSON {
		return guardJSON(body)
	}
	n := 0
	return schemas[sig].walk(body, 0, &n)
}

// guardJSON checks brackets. It also refuses empty names: the decoder stops
// reading an object at one, and would drop what follows.
func guardJSON(b []byte) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return errors.New("empty body")
	}
	depth, opened := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
			opened++
		case '}', ']':
			depth--
		case '"':
			end := stringEnd(b, i+1)
			if end == i+1 && isName(b[min(end+1, len(b)):]) {
				return errors.New("JSON object with an empty name")
			}
			i = end
		}
		if depth > maxNesting {
			return &limitError{fmt.Sprintf("JSON nested deeper than %d", maxNesting)}
		}
		if opened > maxElements {
			return &limitError{fmt.Sprintf("more than %d objects and arrays in one request: send smaller ones", maxElements)}
		}
	}
	if !json.Valid(b) {
		return errors.New("body is not JSON")
	}
	return nil
}

// stringEnd returns where the string that began before i ends.
func stringEnd(b []byte, i int) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b)
}

func isName(after []byte) bool {
	after = bytes.TrimLeft(after, " \t\r\n")
	return len(after) > 0 && after[0] == ':'
}

// message says which fields of a protobuf message are messages themselves.
type message map[uint64]message

// schemas are the export requests of opentelemetry-proto 1.11, as far as
// nesting goes. Fields that are missing here are strings, numbers or unknown;
// the decoder does not recurse into them.
var schemas = buildSchemas()

func buildSchemas() map[signal]message {
	anyValue, keyValue := message{}, message{}
	anyValue[5] = message{1: anyValue} // ArrayValue
	anyValue[6] = message{1: keyValue} // KeyValueList
	keyValue[2] = anyValue
	resource := message{1: keyValue, 3: {}}
	scope := message{3: keyValue}
	span := message{9: keyValue, 11: {3: keyValue}, 13: {4: keyValue}, 15: {}}
	logRecord := message{5: anyValue, 6: keyValue}
	exemplar := message{7: keyValue}
	point := message{7: keyValue, 5: exemplar}
	numbers := message{1: point}
	metric := message{
		5: numbers, 7: numbers, 12: keyValue,
		9:  {1: {9: keyValue, 8: exemplar}},
		10: {1: {1: keyValue, 11: exemplar, 8: {}, 9: {}}},
		11: {1: {7: keyValue, 6: {}}},
	}
	request := func(item message) message {
		return message{1: {1: resource, 2: {1: scope, 2: item}}}
	}
	return map[signal]message{traces: request(span), logs: request(logRecord), metrics: request(metric)}
}

// walk counts the messages in b. It recurses, to maxNesting at most.
func (m message) walk(b []byte, depth int, elements *int) error {
	if *elements++; *elements > maxElements {
		return &limitError{fmt.Sprintf("more than %d messages in one request: send smaller ones", maxElements)}
	}
	if depth > maxNesting {
		return &limitError{fmt.Sprintf("messages nested deeper than %d", maxNesting)}
	}
	groups := 0 // of an old encoding: skipped, what is in them too
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		b = rest
		switch f.wire {
		case wireStartGroup:
			groups++
		case wireEndGroup:
			if groups--; groups < 0 {
				return errMalformed
			}
		case wireBytes:
			sub, ok := m[f.number]
			if !ok || groups > 0 {
				continue
			}
			if err := sub.walk(f.value, depth+1, elements); err != nil {
				return err
			}
		}
	}
	return nil
}

// Wire types of protobuf.
const (
	wireVarint     = 0
	wireFixed64    = 1
	wireBytes      = 2
	wireStartGroup = 3
	wireEndGroup   = 4
	wireFixed32    = 5
)

type field struct {
	number uint64
	wire   uint64
	value  []byte // of a wireBytes field
	raw    []byte // with its tag
}

// nextField cuts the first field off b.
func nextField(b []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 {
		return f, nil, errMalformed
	}
	f.number, f.wire = tag>>3, tag&7
	at := n
	switch f.wire {
	case wireVarint:
		_, n = binary.Uvarint(b[at:])
		if n <= 0 {
			return f, nil, errMalformed
		}
		at += n
	case wireFixed64:
		at += 8
	case wireFixed32:
		at += 4
	case wireBytes:
		size, n := binary.Uvarint(b[at:])
		if n <= 0 || size > uint64(len(b)-at-n) {
			return f, nil, errMalformed
		}
		at += n
		f.value = b[at : at+int(size)]
		at += int(size)
	case wireStartGroup, wireEndGroup:
	default:
		return f, nil, errMalformed
	}
	if at > len(b) {
		return f, nil, errMalformed
	}
	f.raw = b[:at]
	return f, b[at:], nil
}
