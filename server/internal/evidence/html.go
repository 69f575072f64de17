package evidence

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// page writes HTML in which every text from outside is escaped. html/template
// is not used: it would keep every method of every type in the binary.
type page struct{ w *bufio.Writer }

// raw writes markup of our own.
func (p page) raw(markup ...string) {
	for _, m := range markup {
		p.w.WriteString(m) // Flush reports the error
	}
}

// text writes text from outside.
func (p page) text(s string) { p.w.WriteString(escape(s)) }

// escape makes text safe between tags and in quoted attributes. Control
// characters, and those that turn the direction of text, become visible.
func escape(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.ContainsFunc(s, hidden) {
		var b strings.Builder
		for _, r := range s {
			if hidden(r) {
				q := strconv.QuoteRuneToASCII(r)
				b.WriteString(q[1 : len(q)-1])
				continue
			}
			b.WriteRune(r)
		}
		s = b.String()
	}
	return html.EscapeString(s)
}

func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

func (p page) element(tag, text string) {
	p.raw("<", tag, ">")
	p.text(text)
	name, _, _ := strings.Cut(tag, " ")
	p.raw("</", name, ">")
}

// facts is a table of names and values.
func (p page) facts(list [][2]string) {
	p.raw("<table class=facts>\n")
	for _, f := range list {
		p.raw("<tr>")
		p.element("th scope=row", f[0])
		p.element("td", f[1])
		p.raw("</tr>\n")
	}
	p.raw("</table>\n")
}

const style = `
:root{--ink:#1b2430;--soft:#5b6777;--line:#d9dfe7;--head:#f3f6f9;--ok:#14713d;--bad:#a4262c;--warn:#8a5a00}
*{box-sizing:border-box}
body{font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;color:var(--ink);max-width:1100px;margin:2.5rem auto;padding:0 1.5rem;background:#fff}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}
h2{font-size:1.1rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.3rem}
p{max-width:75ch}
.lead{color:var(--soft);margin-top:0}
code,.mono{font:12px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{background:var(--head);border:1px solid var(--line);border-radius:4px;padding:.7rem .9rem;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;margin:.3rem 0 1rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid var(--line)}
thead th{background:var(--head);border-bottom:2px solid var(--line);white-space:nowrap}
td{overflow-wrap:anywhere}
.facts th{width:11rem;color:var(--soft);font-weight:500;white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;overflow-wrap:normal}
.t{white-space:nowrap;font-variant-numeric:tabular-nums;overflow-wrap:normal}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(12rem,1fr));gap:0 2rem}
.grid h3{font-size:.95rem;margin:.6rem 0 .2rem}
.success{color:var(--ok)}.failure{color:var(--bad)}.denied{color:var(--warn)}
.mark{display:inline-block;font-size:11px;border:1px solid var(--line);border-radius:3px;padding:0 .3rem;color:var(--soft);background:var(--head)}
.entries{font-size:12.5px;table-layout:fixed}
.entries col.ci{width:4.4rem}.entries col.ct{width:11.5rem}.entries col.ca{width:12%}.entries col.cr{width:5.2rem}.entries col.cp{width:13%}
@media print{body{margin:0;max-width:none;font-size:10.5pt}.entries{font-size:8.5pt}thead{display:table-header-group}tr{break-inside:avoid}h2{break-after:avoid}pre{white-space:pre-wrap}}
`

// writeReport writes report.html from what the manifest and the entries say, and
// from nothing else: a check makes it again.
func writeReport(w io.Writer, m *manifest, t *tally) error {
	p := page{bufio.NewWriter(w)}
	p.raw("<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n",
		`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`, "\n",
		`<meta name=viewport content="width=device-width, initial-scale=1">`, "\n<title>Evidence from ")
	p.text(m.Origin)
	p.raw("</title>\n<style>", style, "</style>\n</head>\n<body>\n<h1>Evidence from an audit ledger</h1>\n<p class=lead>")
	p.text(m.Origin)
	p.raw("</p>\n")
	p.overview(m, t)
	p.summary(t)
	p.notes(t)
	p.entries(m, t)
	p.howTo(m)
	p.raw("</body>\n</html>\n")
	return p.w.Flush()
}

func (p page) overview(m *manifest, t *tally) {
	selected := "all entries"
	if list := m.Filter.list(); len(list) > 0 {
		parts := make([]string, len(list))
		for i, f := range list {
			parts[i] = f[0] + " " + f[1]
		}
		selected = strings.Join(parts, "; ")
	}
	shown := "people are tokens, and what concerns them is encrypted, as in the ledger"
	if m.Revealed {
		shown = "as plain text (readable.jsonl), where the keys were at hand. That text is the exporter's statement; the proofs are of the encrypted lines"
	}
	period := "none"
	if t.entries > 0 {
		period = t.oldest.UTC().Format(time.RFC3339) + " to " + t.newest.UTC().Format(time.RFC3339)
	}
	p.facts([][2]string{
		{"Selected", selected},
		{"Entries", fmt.Sprintf("%d, of %d in the ledger", t.entries, m.Size)},
		{"Times of entries", period},
		{"Personal data", fmt.Sprintf("%d entries with encrypted fields; %s", t.encrypted, shown)},
		{"Made", m.Created + " by " + m.Tool},
		{"Public key", m.Key},
		{"Signed root", m.Root},
	})
	p.raw("<p>Each entry in this pack is proven to stand in the ledger at its index, unchanged since the checkpoint was signed. " +
		"The pack does not prove that the selection is complete: entries that match and were left out cannot be seen in it, ")
	if m.Filter.empty() {
		p.raw("but this one claims all entries, and then a gap shows in the proof. ")
	} else {
		p.raw("unless the ledger itself is checked. ")
	}
	p.raw("What the entries say is what their writers said; times are theirs, too.</p>\n")
}

func (p page) summary(t *tally) {
	p.raw("<h2>Summary</h2>\n<div class=grid>\n")
	for _, g := range []struct {
		title   string
		c       counts
		byValue bool
	}{{"Results", t.results, false}, {"Agents", t.agents, false}, {"Actions", t.actions, false}, {"Days (UTC)", t.days, true}} {
		p.raw("<div><h3>", g.title, "</h3>\n<table><thead><tr><th scope=col>Value</th><th scope=col class=n>Entries</th></tr></thead>\n")
		for _, c := range g.c.top(g.byValue) {
			p.raw("<tr>")
			p.element("td", c.value)
			p.raw("<td class=n>", strconv.FormatInt(c.n, 10), "</td></tr>\n")
		}
		p.raw("</table></div>\n")
	}
	p.raw("</div>\n")
}

func (p page) notes(t *tally) {
	p.raw("<h2>What the ledger says of itself</h2>\n")
	if len(t.notes) == 0 {
		p.raw("<p>No erasure, hold, removal, change of the key or restored backup concerns these entries.</p>\n")
		return
	}
	p.raw("<p>Erasures and holds that touch the selected entries, and what concerns the whole ledger. These are entries with proofs, too.</p>\n")
	p.table(t, t.notes)
}

func (p page) entries(m *manifest, t *tally) {
	p.raw("<h2>Entries</h2>\n")
	p.raw("<p>The first ", strconv.Itoa(len(t.rows)), " of ", strconv.FormatInt(t.entries, 10), " (this page shows at most ", strconv.Itoa(m.Rows),
		"). All of them are in <code>entries.jsonl</code>.</p>\n")
	p.table(t, t.rows)
}

func (p page) table(t *tally, rows []row) {
	p.raw("<table class=entries><colgroup><col class=ci><col class=ct><col class=ca><col class=ca><col class=cr><col class=cp><col></colgroup>\n" +
		"<thead><tr><th scope=col class=n>Index</th><th scope=col>Time (UTC)</th><th scope=col>Agent</th><th scope=col>Action</th>" +
		"<th scope=col>Result</th><th scope=col>User</th><th scope=col>Details</th></tr></thead>\n<tbody>\n")
	for i := range rows {
		r := &rows[i]
		p.raw("<tr><td class=n>", strconv.FormatInt(r.index, 10), "</td>")
		p.element("td class=t", r.time.UTC().Format("2006-01-02 15:04:05.000"))
		p.element("td", r.agent)
		p.element("td", r.action)
		switch r.result { // the three that there are; never a class from outside
		case "success", "failure", "denied":
			p.raw("<td class=", r.result, ">", r.result, "</td><td>")
		default:
			p.raw("<td></td><td>")
		}
		p.text(r.person)
		switch {
		case t.erased[r.token] && !r.own:
			p.raw(" <span class=mark>erased</span>")
		case r.revealed:
			p.raw(" <span class=mark>revealed</span>")
		case r.encrypted:
			p.raw(" <span class=mark>encrypted</span>")
		}
		p.raw("</td><td class=mono>")
		p.text(r.what)
		p.raw("</td></tr>\n")
	}
	p.raw("</tbody></table>\n")
}

func (p page) howTo(m *manifest) {
	p.raw("<h2>How to check this</h2>\n<p>Get the public key from the operator by another way than this pack, put it in a file, and run:</p>\n" +
		"<pre><code>kaizen audit verify PACK --key ledger.vkey</code></pre>\n" +
		"<p>It hashes every entry, follows the proof to the root in <code>checkpoint</code>, checks its Ed25519 signature and those of earlier checkpoints, " +
		"compares every file with <code>manifest.json</code>, and makes this page again. <code>README.txt</code> says how to do the same without our program. " +
		"A checkpoint that you kept from before (<code>--checkpoint</code>) shows whether the ledger was set back or rewritten since.</p>\n")
	p.raw("<p>The key that the pack names:</p>\n<pre><code>")
	p.text(m.Key)
	p.raw("</code></pre>\n")
}
