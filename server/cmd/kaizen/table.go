package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// clean makes text from outside safe for a terminal: control characters could
// move the cursor, hide lines or answer as the user. They become their quoted
// spelling.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "�") // a lone byte 0x9b starts a sequence, too
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isControl(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// isControl also covers the characters that turn the direction of text.
func isControl(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}

// table writes rows in aligned columns under a header.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, header ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)}
	t.row(header...)
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = clean(c)
	}
	fmt.Fprintln(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t")) // Flush reports the error
}

func (t *table) flush() error { return t.w.Flush() }

// usd prints money: two decimals, or as many as a small amount needs.
func usd(amount float64) string {
	if amount == 0 || amount >= 1 || amount <= -1 {
		return "$" + strconv.FormatFloat(amount, 'f', 2, 64)
	}
	text := strings.TrimRight(strconv.FormatFloat(amount, 'f', 9, 64), "0")
	if i := strings.IndexByte(text, '.'); len(text)-i < 3 {
		text += strings.Repeat("0", 3-(len(text)-i))
	}
	return "$" + text
}

// ms prints a duration given in milliseconds, nil as a dash.
func ms(d *float64) string {
	if d == nil {
		return "-"
	}
	t := time.Duration(*d * float64(time.Millisecond))
	switch {
	case t >= time.Minute:
		return t.Round(time.Second).String()
	case t >= time.Second:
		return strconv.FormatFloat(t.Seconds(), 'f', 2, 64) + "s"
	case t >= time.Millisecond:
		return strconv.FormatFloat(float64(t)/float64(time.Millisecond), 'f', 1, 64) + "ms"
	}
	return t.String()
}

// stamp prints a time to the millisecond, in UTC.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// count prints a number.
func count(n int64) string { return strconv.FormatInt(n, 10) }

// orDash stands a dash in for nothing, so that columns stay in place.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
