package pgwire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// encode writes parameters as text: string, bool, int, int16, int32, int64,
// []byte (bytea), [16]byte (uuid), time.Time (timestamptz, to the microsecond),
// arrays of int16, int64, []byte and [16]byte, and nil for NULL.
func encode(args []any) ([][]byte, error) {
	out := make([][]byte, len(args))
	for i, arg := range args {
		if arg == nil {
			continue
		}
		b, err := encodeText(arg)
		if err != nil {
			return nil, fmt.Errorf("parameter $%d: %w", i+1, err)
		}
		out[i] = b
	}
	return out, nil
}

func encodeText(arg any) ([]byte, error) {
	switch v := arg.(type) {
	case string:
		return append([]byte{}, v...), nil // never nil, which is NULL
	case bool:
		return strconv.AppendBool(nil, v), nil
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int16:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int32:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case []byte:
		return appendBytea(nil, v), nil
	case [16]byte:
		return hex.AppendEncode(nil, v[:]), nil
	case time.Time:
		return appendTime(nil, v)
	case []int16:
		return array(v, func(b []byte, n int16) []byte { return strconv.AppendInt(b, int64(n), 10) }), nil
	case []int64:
		return array(v, func(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }), nil
	case [][16]byte:
		return array(v, func(b []byte, id [16]byte) []byte { return hex.AppendEncode(b, id[:]) }), nil
	case [][]byte:
		return array(v, func(b, e []byte) []byte {
			return append(appendBytea(append(b, `"\`...), e), '"') // the backslash is doubled
		}), nil
	}
	return nil, fmt.Errorf("type %T has no text form here", arg)
}

func appendBytea(b, v []byte) []byte { return hex.AppendEncode(append(b, `\x`...), v) }

func appendTime(b []byte, t time.Time) ([]byte, error) {
	t = t.UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return nil, fmt.Errorf("time %s is out of range", t)
	}
	return t.AppendFormat(b, "2006-01-02 15:04:05.999999Z07:00"), nil
}

func array[T any](values []T, one func([]byte, T) []byte) []byte {
	b := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, v)
	}
	return append(b, '}')
}

// epoch is PostgreSQL's 2000-01-01 in microseconds since 1970.
const epoch = 946_684_800_000_000

// decode reads columns in binary into *string, *[]byte (a copy), *bool, *int,
// *int16, *int64 (of any integer type that fits), *[16]byte, *time.Time (in
// UTC), and pointers to a pointer for columns that may be NULL.
func decode(row [][]byte, dest []any) error {
	if len(row) != len(dest) {
		return fmt.Errorf("row of %d columns, want %d", len(row), len(dest))
	}
	for i, to := range dest {
		if err := decodeOne(row[i], to); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

func decodeOne(b []byte, to any) error {
	switch p := to.(type) {
	case **string:
		return optional(b, p)
	case **int64:
		return optional(b, p)
	case **time.Time:
		return optional(b, p)
	case **[16]byte:
		return optional(b, p)
	case *[]byte:
		if b == nil {
			*p = nil
		} else {
			*p = append([]byte{}, b...)
		}
		return nil
	}
	if b == nil {
		return fmt.Errorf("NULL for a %T", to)
	}
	switch p := to.(type) {
	case *string:
		*p = string(b)
		return nil
	case *bool:
		if len(b) == 1 {
			*p = b[0] != 0
			return nil
		}
	case *[16]byte:
		if len(b) == 16 {
			*p = [16]byte(b)
			return nil
		}
	case *time.Time:
		if len(b) == 8 {
			*p = time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + epoch).UTC()
			return nil
		}
	case *int:
		n, err := integer(b, strconv.IntSize/8)
		*p = int(n)
		return err
	case *int16:
		n, err := integer(b, 2)
		*p = int16(n)
		return err
	case *int64:
		n, err := integer(b, 8)
		*p = n
		return err
	default:
		return fmt.Errorf("type %T cannot be read here", to)
	}
	return fmt.Errorf("%d bytes for a %T", len(b), to)
}

func optional[T any](b []byte, p **T) error {
	if b == nil {
		*p = nil
		return nil
	}
	v := new(T)
	*p = v
	return decodeOne(b, v)
}

// integer reads an integer of 2, 4 or 8 bytes that is no longer than size.
func integer(b []byte, size int) (int64, error) {
	if len(b) <= size {
		switch len(b) {
		case 2:
			return int64(int16(binary.BigEndian.Uint16(b))), nil
		case 4:
			return int64(int32(binary.BigEndian.Uint32(b))), nil
		case 8:
			return int64(binary.BigEndian.Uint64(b)), nil
		}
	}
	return 0, fmt.Errorf("%d bytes for an integer of %d", len(b), size)
}
