package otlp

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"go.opentelemetry.io/otel/attribute"
)

// TestCommonAttributes: a record is sent alike whether its attributes are its own
// or in common with others, whoever came before it, and its cuts count each time.
func TestCommonAttributes(t *testing.T) {
	id := ulid.Make()
	uid := func(time.Time) ulid.ULID { return id }
	ada := []attribute.KeyValue{attribute.String("user", "ada"), attribute.String("run", "1")}
	bob := []attribute.KeyValue{attribute.String("user", "bob"), attribute.String("run", "2")}
	long := []attribute.KeyValue{attribute.String("long", strings.Repeat("x", MaxValueBytes+1))}
	named := []attribute.KeyValue{attribute.String(UIDKey, "given")}
	own := []attribute.KeyValue{attribute.Int("n", 7)}
	var enc encoder
	for i, common := range [][]attribute.KeyValue{nil, ada, ada, bob, ada[:1], ada, long, long, named, nil, bob} {
		var plain encoder
		want := plain.logRecord(nil, &LogRecord{Body: "b", Attributes: append(append([]attribute.KeyValue(nil), common...), own...)}, uid)
		enc.takeCuts()
		got := enc.logRecord(nil, &LogRecord{Body: "b", Common: common, Attributes: own}, uid)
		if cuts := enc.takeCuts(); cuts != plain.cuts {
			t.Errorf("record %d: %d values cut, want %d", i, cuts, plain.cuts)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("record %d:\n got %q\nwant %q", i, got, want)
		}
	}
}

// TestMarkOfABodyIsItsOwn: that a record's body was cut is said of that record, not
// of those that have attributes in common with it.
func TestMarkOfABodyIsItsOwn(t *testing.T) {
	ids := []attribute.KeyValue{attribute.String("run", "1")}
	var enc encoder
	write := func(body string, common []attribute.KeyValue) []byte {
		return enc.logRecord(nil, &LogRecord{Body: body, Common: common}, func(time.Time) ulid.ULID { return ulid.ULID{} })
	}
	long := strings.Repeat("x", MaxValueBytes+1)
	for _, tt := range []struct {
		name   string
		body   string
		common []attribute.KeyValue
		marked bool
	}{
		{"the first is cut", long, ids, true},
		{"the next is whole", "b", ids, false},
		{"one later is cut", long, ids, true},
		{"others' are whole", "b", nil, false},
		{"cut without any", long, nil, true},
		{"whole again", "b", ids, false},
	} {
		if got := write(tt.body, tt.common); bytes.Contains(got, []byte(CutKey)) != tt.marked {
			t.Errorf("%s: marked as cut = %v, want %v", tt.name, !tt.marked, tt.marked)
		}
	}
}

// TestUIDs: ids of records have the time of their record, rise within a
// millisecond, and do not repeat where the time is beyond what an id can say.
func TestUIDs(t *testing.T) {
	q := &logQueue{entropy: ulid.Monotonic(rand.Reader, 0)}
	at := time.UnixMilli(1_700_000_000_000)
	var last ulid.ULID
	for range 1000 {
		id := q.uid(at)
		if id.Time() != ulid.Timestamp(at) || id.Compare(last) <= 0 {
			t.Fatalf("id %v after %v, of the time %d", id, last, id.Time())
		}
		last = id
	}
	beyond := time.UnixMilli(int64(ulid.MaxTime() + 1))
	if a, b := q.uid(beyond), q.uid(beyond); a == b || a == last {
		t.Errorf("ids %v and %v after %v", a, b, last)
	}
	text := appendUID(nil, last)
	if want := (&encoder{}).keyValue(nil, 6, attribute.String(UIDKey, last.String())); !bytes.Equal(text, want) {
		t.Errorf("written as %q, want %q", text, want)
	}
}
