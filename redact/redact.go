// Package redact removes what must never be written: keys, passwords, tokens
// and personal data, from texts, values and log attributes. Its functions are
// pure: they return a redacted copy and leave their input alone.
//
// The shortest use:
//
//	r := redact.New(redact.Config{})
//	clean := r.String("login with password=hunter2 from ada@example.com")
//	// login with password=[REDACTED:field] from [REDACTED:email]
//
// What is found is replaced by [REDACTED:<detector>]. A text is read once from
// left to right, with a bounded look to either side of bytes that can be part
// of a secret; there are no regular expressions. The cost is linear in the
// length of the text, whatever stands in it, and a text without findings is
// returned as it is, without an allocation.
//
// Detection of this kind is a net, not a proof: the corpus in testdata says
// what it catches and what it leaves alone, and TestCorpus with what precision
// and recall.
package redact

import (
	"slices"
	"strings"
	"sync/atomic"
)

// Detector names one kind of finding. Its string stands in the marker.
type Detector uint8

// The detectors. Each can be switched off by [Config.Off].
const (
	OpenAI      Detector = iota // sk-…, sk-proj-…
	Anthropic                   // sk-ant-…
	AWS                         // AKIA… and other access key ids
	GitHub                      // ghp_…, github_pat_…
	Slack                       // xoxb-…, webhook addresses
	Stripe                      // sk_live_…, whsec_…
	Google                      // AIza…, ya29.…
	HuggingFace                 // hf_…
	Azure                       // signatures of shared access links (sig=…)
	APIKey                      // keys of other vendors, known by their prefix
	Bearer                      // Bearer and Basic credentials
	PrivateKey                  // PEM and PGP private key blocks
	JWT                         // JSON web tokens
	DSN                         // the password in scheme://user:password@host
	Field                       // the value beside a telling name: password=…, "api_key": …
	Card                        // payment cards: brand, length and Luhn digit
	SSN                         // US social security numbers
	IBAN                        // bank accounts: country, length and check digits
	Email                       // e-mail addresses
	Phone                       // +49 … and North American numbers
	IP                          // IPv4 and IPv6 addresses, loopback excepted
	numDetectors
)

var detectorNames = [numDetectors]string{
	"openai", "anthropic", "aws", "github", "slack", "stripe", "google", "huggingface", "azure", "api_key",
	"bearer", "private_key", "jwt", "dsn", "field", "card", "ssn", "iban", "email", "phone", "ip",
}

// String returns the name that stands in the marker.
func (d Detector) String() string {
	if d >= numDetectors {
		return "unknown"
	}
	return detectorNames[d]
}

// Detectors returns all detectors.
func Detectors() []Detector {
	all := make([]Detector, numDetectors)
	for i := range all {
		all[i] = Detector(i)
	}
	return all
}

const markerPrefix = "[REDACTED:"

// Marker returns what stands in place of a finding of d.
func (d Detector) Marker() string { return markers[d] }

var markers = func() (m [numDetectors]string) {
	for d := range numDetectors {
		m[d] = markerPrefix + d.String() + "]"
	}
	return m
}()

// Config tunes a [Redactor]. The zero value has every detector on.
type Config struct {
	// Off lists the detectors that are switched off.
	Off []Detector
	// Fields lists further names whose values are removed, compared without
	// regard to case and to the signs between their words. "badge_number" also
	// covers "staffBadgeNumber".
	Fields []string
	// KeepFields lists names whose values are not removed for their name; what
	// the other detectors find in them still is. Compared whole.
	KeepFields []string
}

// Redactor finds and removes. Its methods may be called from many goroutines
// at once.
type Redactor struct {
	on     uint32 // bit per detector
	names  names
	counts [numDetectors]atomic.Uint64
}

// New returns a redactor.
func New(cfg Config) *Redactor {
	r := &Redactor{on: 1<<numDetectors - 1}
	for _, d := range cfg.Off {
		r.on &^= 1 << d
	}
	r.names.init(cfg.Fields, cfg.KeepFields)
	return r
}

func (r *Redactor) has(d Detector) bool { return r.on&(1<<d) != 0 }

// Count returns how many findings each detector has removed so far, leaving
// out those that found nothing.
func (r *Redactor) Count() map[Detector]uint64 {
	counts := make(map[Detector]uint64)
	for d := range numDetectors {
		if n := r.counts[d].Load(); n > 0 {
			counts[d] = n
		}
	}
	return counts
}

// maxPasses bounds how often a text is read anew after something was found:
// a marker can be the edge that its neighbour lacked.
const maxPasses = 4

// String returns s without what the detectors find. Redacting the result
// again changes nothing.
func (r *Redactor) String(s string) string {
	if plain(s) {
		return s
	}
	for range maxPasses {
		out, changed := r.pass(s, nil)
		if !changed {
			return out
		}
		s = out
	}
	return s
}

// plain reports whether nothing can be found in s, at the least cost: most
// texts of a log line are short words and numbers.
func plain(s string) bool {
	for i := 0; i < len(s); {
		switch class[s[i]] {
		case 0:
			i++
			continue
		case atWord:
			if i+1 < len(s) && pairs[s[i]]&(1<<(s[i+1]&63)) != 0 {
				return false
			}
		case atDigit:
			if len(s)-i >= minNumberBytes {
				return false
			}
		case atDash:
			if i+1 < len(s) && s[i+1] == '-' {
				return false
			}
			i++
			continue
		default:
			return false
		}
		for i++; i < len(s) && isAlnum[s[i]]; i++ {
		}
	}
	return true
}

// minNumberBytes is the length of the shortest thing that begins with a digit:
// an address such as 1.2.3.4.
const minNumberBytes = 7

// finding is a part of a text that is to be replaced.
type finding struct {
	start, end int
	detector   Detector
	// quote stands around the marker where the finding was a bare value in
	// JSON, so that the text remains JSON.
	quote string
}

// scan is the state of one pass over a text.
type scan struct {
	r *Redactor
	s string
	// done is the end of the last finding: what lies before is out of reach.
	done int
	// runs remembers for each set of bytes the end of the run that was looked
	// at last, so that finding it again from within stays linear.
	runs [numSets]int
	// amp remembers the next & that begins a name.
	amp int
}

// Classes of bytes at which something can be found.
const (
	atWord   = 1 + iota // a letter: key, token, IBAN
	atDigit             // a digit: card, SSN, phone, address
	atSign              // @
	atAssign            // = and :
	atPhone             // + and (
	atDash              // -
)

var class = func() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = atDigit
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c], t[c|0x20] = atWord, atWord
	}
	t['@'], t['='], t[':'] = atSign, atAssign, atAssign
	t['+'], t['('], t['-'] = atPhone, atPhone, atDash
	return t
}()

// pairs tells for each first letter which second ones anything can begin with:
// bit second&63. It spares most words a look at the rules.
var pairs = func() (t [256]uint64) {
	for c := 'A'; c <= 'Z'; c++ { // IBAN
		for second := 'A'; second <= 'Z'; second++ {
			t[c] |= 1 << (second & 63)
		}
	}
	for _, rule := range keyTable {
		t[rule.prefix[0]] |= 1 << (rule.prefix[1] & 63)
	}
	for _, pair := range []string{"ey", "be", "Be", "BE", "Ba"} { // JWT, Bearer, Basic
		t[pair[0]] |= 1 << (pair[1] & 63)
	}
	return t
}()

// pass reads s once. If seen is not nil it is told every finding.
func (r *Redactor) pass(s string, seen func(finding)) (string, bool) {
	sc := scan{r: r, s: s}
	var out []byte
	for i := 0; i < len(s); {
		c := class[s[i]]
		if c == 0 {
			i++
			continue
		}
		f, ok := sc.at(i, c)
		if !ok {
			i++
			if c <= atDigit { // nothing begins within a word
				for i < len(s) && isAlnum[s[i]] {
					i++
				}
			}
			continue
		}
		if seen != nil {
			seen(f)
		}
		r.counts[f.detector].Add(1)
		out = append(out, s[sc.done:f.start]...)
		out = append(out, f.quote...)
		out = append(out, markers[f.detector]...)
		out = append(out, f.quote...)
		sc.done, i = f.end, f.end
	}
	if out == nil {
		return s, false
	}
	return string(append(out, s[sc.done:]...)), true
}

// at looks for a finding at the byte at i, which is of class c. A letter or
// digit is the first of its word, or follows a finding.
func (sc *scan) at(i int, c uint8) (finding, bool) {
	switch c {
	case atWord:
		if pairs[sc.s[i]]&(1<<(sc.byteAt(i+1)&63)) == 0 {
			return finding{}, false
		}
		return sc.word(i)
	case atDigit:
		return sc.number(i)
	case atSign:
		return sc.email(i)
	case atAssign:
		return sc.assign(i)
	case atPhone:
		return sc.phoneStart(i)
	}
	return sc.privateKey(i)
}

// prev returns the byte before i as it will read in the output: after a
// finding that is the end of its marker. 0 at the start.
func (sc *scan) prev(i int) byte {
	if i == 0 {
		return 0
	}
	if i == sc.done {
		return ']'
	}
	return sc.s[i-1]
}

// byteAt returns the byte at i, 0 beyond the end.
func (sc *scan) byteAt(i int) byte {
	if i >= len(sc.s) {
		return 0
	}
	return sc.s[i]
}

// runEnd returns the end of the run of bytes of a set that i stands in; i itself
// if it stands in none.
func (sc *scan) runEnd(i int, set *byteSet) int {
	if i < sc.runs[set.id] && set.has[sc.s[i]] {
		return sc.runs[set.id]
	}
	end := i
	for end < len(sc.s) && set.has[sc.s[end]] {
		end++
	}
	sc.runs[set.id] = end
	return end
}

func found(d Detector, start, end int) (finding, bool) {
	return finding{start: start, end: end, detector: d}, true
}

// byteSet is a set of bytes whose runs a scan remembers.
type byteSet struct {
	id  int
	has [256]bool
}

const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

const numSets = 6

var (
	token      = byteSet{0, setOf(alnum + "_-")}
	dotted     = byteSet{1, setOf(alnum + "_-.")}
	path       = byteSet{2, setOf(alnum + "_-/")}
	base64Set  = byteSet{3, setOf(alnum + "_-+/=.~%")}
	upperAlnum = byteSet{4, setOf("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")}
	bareValue  = byteSet{5, func() (set [256]bool) {
		for c := range 256 {
			set[c] = c > ' ' && strings.IndexByte(";,\"'<>)]}\\", byte(c)) < 0
		}
		return set
	}()}

	isAlnum = setOf(alnum)
	isHex   = setOf("0123456789abcdefABCDEF")
	isLocal = setOf(alnum + "._%+-")
)

func setOf(chars string) (set [256]bool) {
	for _, c := range []byte(chars) {
		set[c] = true
	}
	return set
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

// hasFold reports whether s begins with prefix, which is lower case, without
// regard to case.
func hasFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func containsAny(list []string, s string) bool { return slices.Contains(list, s) }
