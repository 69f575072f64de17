package agentlog

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestAllSafe: eight bytes at a time find the same as one at a time, whatever
// byte stands at whatever place.
func TestAllSafe(t *testing.T) {
	for length := 1; length <= 17; length++ {
		for at := range length {
			for c := range 256 {
				b := []byte(strings.Repeat("a", length))
				b[at] = byte(c)
				if got := allSafe(string(b)); got != safe[c] {
					t.Fatalf("allSafe(%q) = %v, want %v", b, got, safe[c])
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 { // several at once: what one byte borrows, its neighbour pays
		b := make([]byte, 8)
		want := true
		for i := range b {
			b[i] = byte(rng.UintN(256))
			if rng.UintN(4) > 0 {
				b[i] = 0x20 + b[i]%0x60
			}
			want = want && safe[b[i]]
		}
		if got := allSafe(string(b)); got != want {
			t.Fatalf("allSafe(%q) = %v, want %v", b, got, want)
		}
	}
	if !allSafe("") {
		t.Error(`allSafe("") = false, want true`)
	}
}

// TestAppendTime: the time reads as package time writes it, also after another second.
func TestAppendTime(t *testing.T) {
	e := &encoder{second: math.MinInt64}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, sec := range []int64{1_700_000_000, 1_700_000_000, 1_700_000_001, 0, -1, 4_102_444_800} {
		for _, n := range []int64{0, 1, 999_999_999, 100_000_000, 90_000_000, 12_345, rng.Int64N(1e9)} {
			at := time.Unix(sec, n)
			want := at.UTC().Format("2006-01-02T15:04:05.000000000Z")
			if got := string(e.appendTime(nil, at)); got != want {
				t.Errorf("appendTime(%d, %d) = %s, want %s", sec, n, got, want)
			}
		}
	}
}

func TestAppendID(t *testing.T) {
	id := make([]byte, 16)
	for i := range id {
		id[i] = byte(i*17 + 3)
	}
	if got, want := string(appendID(nil, `"n":`, id, "")), `"n":"`+hex.EncodeToString(id)+`"`; got != want {
		t.Errorf("appendID = %s, want %s", got, want)
	}
	if got, want := string(appendID(nil, `"n":`, id, `a"b`)), `"n":"a\"b"`; got != want {
		t.Errorf("appendID of a text = %s, want %s", got, want)
	}
	if got := appendID(nil, `"n":`, make([]byte, 16), ""); got != nil {
		t.Errorf("appendID of none = %s, want nothing", got)
	}
}

// TestRecordIsClean: the pooled record of a line has nothing of the line before.
func TestRecordIsClean(t *testing.T) {
	var got []Record
	logs, err := New(Config{Sinks: []Sink{recordSink(func(r *Record) { got = append(got, *r) })}})
	if err != nil {
		t.Fatal(err)
	}
	l := logs.Logger("first")
	l.ErrorContext(agentContext(t.Context()), "one", "k", "v")
	logs.Logger("").Info("two")
	r := got[1]
	if r.TraceID.IsValid() || r.SpanID.IsValid() || r.RunID+r.ParentRunID+r.AgentID+r.AgentName+r.SessionID+r.UserID+r.Logger != "" || len(r.Attrs) > 0 {
		t.Errorf("the second record has parts of the first: %+v", r)
	}
	if r.Message != "two" || r.Level != slog.LevelInfo {
		t.Errorf("the second record is %+v", r)
	}
}

type recordSink func(*Record)

func (s recordSink) Write(r *Record) error     { s(r); return nil }
func (recordSink) Close(context.Context) error { return nil }

// TestScalars: the short way writes what encoding/json would.
func TestScalars(t *testing.T) {
	e := &encoder{maxValue: 100}
	for _, v := range []any{"text \"quoted\" ünïcode", "", int64(-5), uint64(math.MaxUint64), 0.1, 1e300, -2.5e-9, true, false, time.Second} {
		e.buf = e.buf[:0]
		value := slog.AnyValue(v)
		if !e.scalar("k", value, value.Kind()) {
			t.Fatalf("scalar(%v) declined", v)
		}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(e.buf[len(`"k":`):], &a); err != nil {
			t.Fatalf("%s: %v", e.buf, err)
		}
		if err := json.Unmarshal(want, &b); err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Errorf("scalar(%v) = %s, want %s", v, e.buf, want)
		}
	}
}
