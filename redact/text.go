package redact

import "strings"

// Bounds of what is looked at on either side of a sign. They make the cost
// per byte constant.
const (
	maxNameBytes  = 64
	maxDSNBytes   = 512
	maxValueSkip  = 4 // spaces between a sign and its value
	maxEmailBytes = 254
	maxJudged     = 256 // of a value, to tell a secret from a word
)

// privateKey looks for a private key block at a dash.
func (sc *scan) privateKey(i int) (finding, bool) {
	const begin = "-----BEGIN "
	if !sc.r.has(PrivateKey) || !strings.HasPrefix(sc.s[i:], begin) {
		return finding{}, false
	}
	rest := sc.s[i+len(begin):]
	title, _, ok := strings.Cut(rest[:min(len(rest), 64)], "-----")
	if !ok || !strings.HasSuffix(strings.TrimSuffix(title, " BLOCK"), "PRIVATE KEY") {
		return finding{}, false
	}
	body := i + len(begin) + len(title) + len("-----")
	// Base64, headers, line ends, and line ends as JSON escapes them. The block
	// also ends where it is cut off: what there is of it goes.
	end := body
	for end < len(sc.s) && (base64Set.has[sc.s[end]] || strings.IndexByte(" \t\r\n\\:,", sc.s[end]) >= 0) {
		if sc.s[end] == '-' && strings.HasPrefix(sc.s[end:], "-----END ") {
			after := sc.s[end+len("-----END "):]
			if k := strings.Index(after[:min(len(after), 64)], "-----"); k >= 0 {
				end += len("-----END ") + k + len("-----")
			}
			break
		}
		end++
	}
	return found(PrivateKey, i, end)
}

// assign looks at = and : for what they give a value: a telling name, a user
// in a connection string, the start of an IPv6 address.
func (sc *scan) assign(i int) (finding, bool) {
	if sc.s[i] == ':' {
		if strings.HasPrefix(sc.s[i:], "://") {
			return sc.dsn(i)
		}
		if f, ok := sc.ipv6(i); ok {
			return f, true
		}
	}
	return sc.field(i)
}

// dsn looks for user:password@ after ://.
func (sc *scan) dsn(i int) (finding, bool) {
	if !sc.r.has(DSN) || !isAlnum[sc.prev(i)] {
		return finding{}, false
	}
	at := i + len("://")
	limit := min(len(sc.s), at+maxDSNBytes)
	colon, sign := -1, -1
scan:
	for k := at; k < limit; k++ {
		switch sc.s[k] {
		case ':':
			if colon < 0 {
				colon = k
			}
		case '@':
			sign = k // the last one: a password may hold others
		case '/', '?', '#', ' ', '\t', '\n', '\r', '"', '\'', '<', '>':
			break scan
		}
	}
	if colon < 0 || sign <= colon+1 || strings.HasPrefix(sc.s[colon+1:], markerPrefix) || placeholder(sc.s[colon+1:sign]) {
		return finding{}, false
	}
	return found(DSN, colon+1, sign)
}

// field looks for name=value and "name": "value", where the name tells that
// the value is secret.
func (sc *scan) field(i int) (finding, bool) {
	sign := sc.s[i]
	if next := sc.byteAt(i + 1); sign == ':' && next == ':' || sign == '=' && (next == '=' || next == '~') {
		return finding{}, false
	}
	if p := sc.prev(i); strings.IndexByte("=!<>:", p) >= 0 && p != 0 && !(p == ':' && sign == '=') {
		return finding{}, false
	}
	name, quote := sc.nameBefore(i)
	if name == "" {
		return finding{}, false
	}
	if name == "sig" {
		return sc.azure(i)
	}
	if !sc.r.has(Field) {
		return finding{}, false
	}
	kind := sc.r.names.kind(name)
	if kind == harmless {
		return finding{}, false
	}
	return sc.fieldValue(i, sign, quote, kind)
}

// nameBefore returns the name that ends before the sign at i, and the quote
// that stands around it.
func (sc *scan) nameBefore(i int) (name, quote string) {
	end := i
	if end > sc.done && sc.s[end-1] == ':' { // :=
		end--
	}
	for end > sc.done && i-end < maxValueSkip && sc.s[end-1] == ' ' {
		end--
	}
	switch {
	case end-2 >= sc.done && sc.s[end-2:end] == `\"`:
		quote, end = `\"`, end-2
	case end-1 >= sc.done && (sc.s[end-1] == '"' || sc.s[end-1] == '\''):
		quote, end = sc.s[end-1:end], end-1
	}
	start := end
	for start > sc.done && end-start < maxNameBytes && isNameByte(sc.s[start-1]) {
		start--
	}
	return sc.s[start:end], quote
}

func isNameByte(c byte) bool { return token.has[c] || c == '.' }

// fieldValue returns the value after the sign at i as a finding.
func (sc *scan) fieldValue(i int, sign byte, quote string, kind nameKind) (finding, bool) {
	at := i + 1
	if sc.byteAt(at) == '>' { // =>
		at++
	}
	spaces := sc.skipSpaces(at)
	at += spaces
	rest := sc.s[at:]
	open := openQuote(rest)
	at += len(open)
	end := sc.valueEnd(at, open, sign)
	value := sc.s[at:end]
	if strings.HasPrefix(value, markerPrefix) || placeholder(value) {
		return finding{}, false
	}
	if open == "" && hasAuthScheme(value) {
		// "Authorization: Bearer x": the credentials follow the scheme.
		skip := end + sc.skipSpaces(end)
		if credEnd := sc.valueEnd(skip, "", sign); credEnd > skip && !strings.HasPrefix(sc.s[skip:], markerPrefix) {
			return found(Field, skip, credEnd)
		}
		return finding{}, false
	}
	bare := open == "" && quote == ""
	if bare && (sign == ':' || spaces > 0) && !worthHiding(value) {
		return finding{}, false // prose: "the secret: be kind"
	}
	if kind == weak && (len(value) < 8 || len(value) < 16 && allDigits(value)) {
		return finding{}, false // a count, not a credential: "token: 512"
	}
	f := finding{start: at, end: end, detector: Field}
	if open == "" && quote != "" && quote != "'" {
		f.quote = quote // a bare JSON value: keep the text JSON
	}
	return f, true
}

func (sc *scan) skipSpaces(at int) int {
	n := 0
	for n < maxValueSkip && sc.byteAt(at+n) == ' ' {
		n++
	}
	return n
}

func openQuote(rest string) string {
	switch {
	case strings.HasPrefix(rest, `\"`):
		return `\"`
	case strings.HasPrefix(rest, `"`), strings.HasPrefix(rest, `'`):
		return rest[:1]
	}
	return ""
}

// valueEnd returns the end of a value that begins at i: its closing quote, or
// for a bare one the first byte that separates.
func (sc *scan) valueEnd(i int, open string, sign byte) int {
	if open == "" {
		return sc.bareEnd(i, sign)
	}
	for k := i; k < len(sc.s); k++ {
		c := sc.s[k]
		switch {
		case open == `\"`:
			if c == '"' && k > i && sc.s[k-1] == '\\' {
				return k - 1
			}
		case c == open[0] || c == '\n':
			return k
		case c == '\\' && k+1 < len(sc.s):
			k++
		}
	}
	return len(sc.s)
}

// bareEnd returns the end of a value without quotes. A value after = may be
// part of a query string: then it ends at an & that begins the next name=,
// which a password is unlikely to hold.
func (sc *scan) bareEnd(i int, sign byte) int {
	if strings.HasPrefix(sc.s[i:], markerPrefix) {
		return i + strings.IndexByte(sc.s[i:]+"]", ']')
	}
	end := sc.runEnd(i, &bareValue)
	if sign != '=' || sc.amp >= end {
		return end
	}
	for sc.amp = max(sc.amp, i); sc.amp < end; sc.amp++ {
		if sc.s[sc.amp] == '&' && sc.beginsName(sc.amp+1) {
			return sc.amp
		}
	}
	return end
}

// beginsName reports whether a name and = stand at i.
func (sc *scan) beginsName(i int) bool {
	end := i
	for end < len(sc.s) && end-i < maxNameBytes && isNameByte(sc.s[end]) {
		end++
	}
	return end > i && sc.byteAt(end) == '='
}

// placeholder reports whether a value stands for a secret rather than being
// one: empty, masked, a variable, a word that means nothing is there.
func placeholder(v string) bool {
	v = strings.TrimRight(v[:min(len(v), maxJudged)], ".!?")
	if strings.Trim(v, "*•xX.-") == "" {
		return true
	}
	switch strings.ToLower(v[:min(len(v), 12)]) {
	case "null", "nil", "none", "true", "false", "undefined", "redacted", "unset", "set", "missing", "required", "changeme", "string":
		return true
	}
	switch v[0] {
	case '<', '%':
		return true
	case '{':
		return strings.HasPrefix(v, "{{")
	case '$':
		return len(v) == 1 || v[1] == '{' || v[1] == '(' || isUpper(v[1])
	}
	return strings.HasPrefix(v, "os.") || strings.HasPrefix(v, "process.env")
}

func hasAuthScheme(v string) bool {
	switch strings.ToLower(v[:min(len(v), 8)]) {
	case "bearer", "basic", "digest", "token", "apikey", "negotiat":
		return true
	}
	return false
}

// worthHiding reports whether a bare value reads like a secret rather than a
// word of a sentence.
func worthHiding(v string) bool {
	v = strings.TrimRight(v[:min(len(v), maxJudged)], ".!?:")
	if len(v) < 4 {
		return false
	}
	for k := 1; k < len(v); k++ {
		if !isLower(v[k]) && v[k] != '-' && v[k] < 0x80 && v[k] != '/' {
			return true
		}
	}
	return false
}

func allDigits(v string) bool {
	for k := range len(v) {
		if !isDigit(v[k]) {
			return false
		}
	}
	return true
}

// azure takes sig=<base64 of a SHA-256 HMAC> of a shared access link.
func (sc *scan) azure(i int) (finding, bool) {
	at := i + 1
	end := sc.runEnd(at, &base64Set)
	if !sc.r.has(Azure) || end-at < 40 || !random(sc.s[at:end]) {
		return finding{}, false
	}
	return found(Azure, at, end)
}
