package llmhttp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strconv"
	"strings"
	"testing"
)

// frame encodes an event frame with text headers, given as name and value.
func frame(payload []byte, headers ...string) []byte {
	var h []byte
	for i := 0; i+1 < len(headers); i += 2 {
		h = append(h, byte(len(headers[i])))
		h = append(append(h, headers[i]...), 7)
		h = binary.BigEndian.AppendUint16(h, uint16(len(headers[i+1])))
		h = append(h, headers[i+1]...)
	}
	f := binary.BigEndian.AppendUint32(nil, uint32(preludeBytes+len(h)+len(payload)+4))
	f = binary.BigEndian.AppendUint32(f, uint32(len(h)))
	f = binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f))
	f = append(append(f, h...), payload...)
	return binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f))
}

// framed encodes a fixture: a line is an event's name and its payload. A name
// with ! is an exception, with !! an error without payload; "cut n" takes n
// bytes from the end.
func framed(t testing.TB, text string) []byte {
	t.Helper()
	var b []byte
	for line := range strings.Lines(text) {
		name, payload, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		failure, isError := strings.CutPrefix(name, "!!")
		exception, isException := strings.CutPrefix(name, "!")
		switch {
		case name == "cut":
			n, err := strconv.Atoi(payload)
			if err != nil {
				t.Fatal(err)
			}
			b = b[:len(b)-n]
		case isError:
			b = append(b, frame(nil, ":message-type", "error", ":error-code", failure, ":error-message", "it failed")...)
		case isException:
			b = append(b, frame([]byte(payload), ":exception-type", exception, ":content-type", "application/json", ":message-type", "exception")...)
		default:
			b = append(b, frame([]byte(payload), ":event-type", name, ":content-type", "application/json", ":message-type", "event")...)
		}
	}
	return b
}

// TestEventStreamVectors reads frames of Amazon's own test suite.
func TestEventStreamVectors(t *testing.T) {
	for _, tt := range []struct{ name, frame, payload string }{
		{"empty message", "000000100000000005c248eb7d98c8ff", ""},
		{"payload without headers", "0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936", "{'foo':'bar'}"},
	} {
		b, err := hex.DecodeString(tt.frame)
		if err != nil {
			t.Fatal(err)
		}
		if ours := frame([]byte(tt.payload)); !bytes.Equal(ours, b) {
			t.Errorf("%s: we encode %x, want %x", tt.name, ours, b)
		}
		got := []string{}
		s := eventStream{limit: 100, emit: func(d doc) { got = append(got, string(d.raw)) }}
		s.write(b)
		if len(got) != 1 || got[0] != tt.payload {
			t.Errorf("%s: payloads %q", tt.name, got)
		}
	}
}

func TestEventNames(t *testing.T) {
	text := func(name, value string) string {
		return string(rune(len(name))) + name + "\x07\x00" + string(rune(len(value))) + value
	}
	tests := []struct {
		name, headers, want string
		ok                  bool
	}{
		{"none", "", "", true},
		{"event", text(":content-type", "x") + text(":event-type", "metadata"), "metadata", true},
		{"exception", text(":exception-type", "throttlingException"), "!throttlingException", true},
		{"error", text(":error-code", "InternalFailure"), "!InternalFailure", true},
		{"every type", "\x01a\x00\x01b\x01\x01c\x02.\x01d\x03..\x01e\x04....\x01f\x05........\x01g\x06\x00\x01.\x01h\x08........\x01i\x09................" + text(":event-type", "last"), "last", true},
		{"unknown type", "\x01a\x0a", "", false},
		{"no type", "\x01a", "", false},
		{"no length", "\x01a\x07\x00", "", false},
		{"cut value", "\x01a\x07\x00\x09abc", "", false},
		{"cut name", "\x09ab", "", false},
	}
	for _, tt := range tests {
		if got, ok := eventName([]byte(tt.headers)); got != tt.want || ok != tt.ok {
			t.Errorf("%s: eventName = %q, %v; want %q, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

// FuzzEventStream: frames come out as they went in, however the stream is cut
// into reads; with any one byte changed, nothing comes of that frame or after it.
func FuzzEventStream(f *testing.F) {
	f.Add("messageStart", []byte(`{"role":"assistant"}`), []byte(`{"usage":{"x":1},"pad":"0123456789012345678901234567890"}`), []byte{3}, uint16(20), byte(1))
	f.Add("", []byte{}, []byte(`{}`), []byte{0}, uint16(0), byte(0x80))
	f.Fuzz(func(t *testing.T, name string, one, two, cuts []byte, at uint16, change byte) {
		if len(name) > 1000 || len(one)+len(two) > 20_000 {
			return
		}
		const limit = 40
		frames := [][]byte{frame(one, ":message-type", "event", ":event-type", name), frame(two, ":event-type", name)}
		payloads := [][]byte{one, two}
		check := func(stream []byte, want int) {
			t.Helper()
			n := 0
			s := eventStream{limit: limit, emit: func(d doc) {
				if n == want {
					t.Fatal("more events than there are")
				}
				if d.name != name || d.cut() != (len(payloads[n]) > limit) || !d.cut() && !bytes.Equal(d.raw, payloads[n]) {
					t.Fatalf("event %d is %q %q, cut %v", n, d.name, d.raw, d.cut())
				}
				n++
			}}
			for _, b := range cutBy(stream, cuts) {
				s.write(b)
			}
			s.flush()
			if n != want {
				t.Fatalf("%d events of %d", n, want)
			}
		}
		stream := bytes.Join(frames, nil)
		check(stream, 2)
		i := int(at) % len(stream)
		check(stream[:i], min(i/len(frames[0]), 1))
		if change != 0 {
			stream[i] ^= change
			check(stream, min(i/len(frames[0]), 1))
		}
	})
}

// TestAmazonErrorHeader: Amazon names an error in the response's head.
func TestAmazonErrorHeader(t *testing.T) {
	body := []byte(`{"message":"Too many requests"}`)
	resp := response(429, map[string]string{"Content-Type": jsonType, "X-Amzn-Errortype": "ThrottlingException:http://internal.amazon.com/coral/", "X-Amzn-Requestid": "r1"}, body)
	r := observe(t, "bedrockstream", Config{}, resp, body)
	if r.ErrorType != "ThrottlingException" || r.RequestID != "r1" || r.StatusCode != 429 {
		t.Errorf("result = %s", golden(r))
	}
}
