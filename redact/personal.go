package redact

import (
	"net/netip"
	"strings"
)

// number looks for what begins with a digit. The byte before is no letter and
// no digit.
func (sc *scan) number(i int) (finding, bool) {
	if f, ok := sc.ipv4(i); ok {
		return f, true
	}
	if p := sc.prev(i); p == '.' || p == '_' || p == '-' && i >= 2 && isAlnum[sc.s[i-2]] {
		return finding{}, false // part of something longer: a version, a UUID
	}
	if f, ok := sc.ssn(i); ok {
		f.quote = sc.jsonQuote(i)
		return f, true
	}
	if f, ok := sc.card(i); ok {
		f.quote = sc.jsonQuote(i)
		return f, true
	}
	if isDigit(sc.byteAt(i+1)) && isDigit(sc.byteAt(i+2)) {
		return sc.northAmerican(i, i)
	}
	return finding{}, false
}

// jsonQuote returns the quote that a marker needs in place of a bare number
// after a quoted name, so that a JSON text remains one.
func (sc *scan) jsonQuote(i int) string {
	end := i
	for end > sc.done && i-end < maxValueSkip && sc.s[end-1] == ' ' {
		end--
	}
	if end == sc.done || sc.s[end-1] != ':' {
		return ""
	}
	if _, quote := sc.nameBefore(end - 1); quote != "'" {
		return quote
	}
	return ""
}

// edge reports whether what ends at i is not part of something longer.
func (sc *scan) edge(i int) bool {
	switch c := sc.byteAt(i); c {
	case '.', '-', ',':
		return !isAlnum[sc.byteAt(i+1)]
	case '_':
		return false
	default:
		return !isAlnum[c]
	}
}

// card takes 13 to 19 digits, in groups or not, that a card brand uses and
// whose Luhn digit is right. Ungrouped digits after a word such as "order" are
// left alone: one in ten order numbers passes Luhn.
func (sc *scan) card(i int) (finding, bool) {
	if !sc.r.has(Card) {
		return finding{}, false
	}
	var digits [20]byte
	n, end, separators := 0, i, 0
	sep := byte(0)
	for k := i; k < len(sc.s) && n < len(digits); k++ {
		c := sc.s[k]
		if isDigit(c) {
			digits[n] = c - '0'
			n++
			end = k + 1
			continue
		}
		if c != ' ' && c != '-' || sep != 0 && c != sep || !isDigit(sc.byteAt(k+1)) {
			break
		}
		sep = c
		separators++
	}
	if n < 13 || n > 19 || separators > 5 || !sc.edge(end) || !luhn(digits[:n]) || !brand(digits[:n]) {
		return finding{}, false
	}
	if separators == 0 && sc.isOrdinal(i) {
		return finding{}, false
	}
	return found(Card, i, end)
}

// luhn checks the last digit (ISO/IEC 7812-1 annex B).
func luhn(digits []byte) bool {
	sum := 0
	for k := range digits {
		d := int(digits[len(digits)-1-k])
		if k%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// brand checks the first digits and the length against the card brands.
func brand(d []byte) bool {
	two := int(d[0])*10 + int(d[1])
	four := two*100 + int(d[2])*10 + int(d[3])
	n := len(d)
	switch {
	case d[0] == 4: // Visa
		return n == 13 || n == 16 || n == 19
	case two >= 51 && two <= 55, four >= 2221 && four <= 2720: // Mastercard
		return n == 16
	case two == 34, two == 37: // American Express
		return n == 15
	case four >= 3528 && four <= 3589: // JCB
		return n >= 16
	case two == 36, two == 38, two == 39, four >= 3000 && four <= 3059: // Diners
		return n == 14 || n == 16
	case four == 6011, two == 65, four >= 6440 && four <= 6499: // Discover
		return n >= 16
	case two == 62: // UnionPay
		return n >= 16
	}
	return false
}

// isOrdinal reports whether the word before i says that a number follows which
// counts or names: "order 4000…", "id=4000…", "#4000…".
func (sc *scan) isOrdinal(i int) bool {
	end := i
	for end > sc.done && i-end < 3 && strings.IndexByte(" :=#\"'", sc.s[end-1]) >= 0 {
		if sc.s[end-1] == '#' {
			return true
		}
		end--
	}
	start := end
	for start > sc.done && end-start < maxNameBytes && isNameByte(sc.s[start-1]) {
		start--
	}
	word := strings.ToLower(sc.s[start:end])
	if strings.HasSuffix(word, "id") || strings.HasSuffix(word, "order") {
		return true
	}
	switch word[strings.LastIndexAny(word, "_-.")+1:] {
	case "no", "number", "num", "ref", "reference", "invoice", "ticket", "tracking", "shipment", "sku", "seq", "offset",
		"index", "timestamp", "ts", "time", "nanos", "count", "size", "bytes", "hash", "checksum", "version", "build", "serial", "batch":
		return !strings.Contains(word, "card")
	}
	return false
}

// ssn takes ddd-dd-dddd as issued, and nine digits after "ssn" or "social
// security".
func (sc *scan) ssn(i int) (finding, bool) {
	if !sc.r.has(SSN) || i+9 > len(sc.s) {
		return finding{}, false
	}
	s := sc.s[i:]
	sep, n := s[3], 11
	var digits [9]byte
	switch {
	case sep == '-' || sep == ' ':
		if len(s) < n || s[6] != sep {
			return finding{}, false
		}
		copy(digits[:3], s)
		copy(digits[3:5], s[4:])
		copy(digits[5:], s[7:11])
	default:
		n = copy(digits[:], s)
	}
	text := string(digits[:])
	if !allDigits(text) || sep != '-' && !sc.afterSSN(i) {
		return finding{}, false
	}
	area := text[:3]
	issued := area != "000" && area != "666" && text[0] != '9' && text[3:5] != "00" && text[5:] != "0000"
	if !issued || !sc.edge(i+n) {
		return finding{}, false
	}
	return found(SSN, i, i+n)
}

// afterSSN reports whether the text before i speaks of a social security
// number.
func (sc *scan) afterSSN(i int) bool {
	before := strings.ToLower(sc.s[max(sc.done, i-32):i])
	return strings.Contains(before, "ssn") || strings.Contains(before, "social sec") || strings.Contains(before, "social_sec")
}

// ibanLengths are the lengths of the IBAN registry (SWIFT, release 99).
var ibanLengths = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22,
	"CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22,
	"GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30,
	"KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27,
	"MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31,
	"SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}

// iban takes an account number, in groups of four or not, of the length that
// its country uses and with the right check digits (ISO 13616, mod 97).
func (sc *scan) iban(i int) (finding, bool) {
	if !sc.r.has(IBAN) {
		return finding{}, false
	}
	want := ibanLengths[sc.s[i:i+2]]
	if want == 0 {
		return finding{}, false
	}
	var account [34]byte
	n, end := 0, i
	for end < len(sc.s) && n < want {
		c := sc.s[end]
		if c == ' ' && n%4 == 0 && n > 0 {
			end++
			continue
		}
		if !isDigit(c) && !isUpper(c) {
			return finding{}, false
		}
		account[n] = c
		n++
		end++
	}
	if n < want || !sc.edge(end) || mod97(account[:n]) != 1 {
		return finding{}, false
	}
	return found(IBAN, i, end)
}

func mod97(account []byte) int {
	rest := 0
	for k := range account {
		c := account[(k+4)%len(account)]
		if isDigit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest
}

// notTLD are endings of file names that follow an @ as in logo@2x.png.
var notTLD = []string{"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "html", "pdf", "go", "py", "git", "local", "service"}

// email looks on both sides of an @ for an address with a top-level domain.
func (sc *scan) email(i int) (finding, bool) {
	if !sc.r.has(Email) {
		return finding{}, false
	}
	start := i
	for start > sc.done && i-start < 64 && isLocal[sc.s[start-1]] {
		start--
	}
	for start < i && (sc.s[start] == '.' || sc.s[start] == '-' || sc.s[start] == '%' || sc.s[start] == '+') {
		start++
	}
	local := sc.s[start:i]
	if local == "" || local == "git" || start >= 3 && sc.s[start-3:start] == "://" || start > sc.done && isLocal[sc.s[start-1]] && i-start >= 64 {
		return finding{}, false
	}
	end, dot := i+1, -1
	for end < len(sc.s) && end-i < maxEmailBytes && (isAlnum[sc.s[end]] || sc.s[end] == '-' || sc.s[end] == '.' && isAlnum[sc.byteAt(end+1)]) {
		if sc.s[end] == '.' {
			dot = end
		}
		end++
	}
	if dot < 0 || !isAlnum[sc.s[i+1]] {
		return finding{}, false
	}
	tld := strings.ToLower(sc.s[dot+1 : end])
	if len(tld) < 2 || !allLetters(tld) && !strings.HasPrefix(tld, "xn--") || containsAny(notTLD, tld) {
		return finding{}, false
	}
	return found(Email, start, end)
}

func allLetters(v string) bool {
	for k := range len(v) {
		if !isLower(v[k]) && !isUpper(v[k]) {
			return false
		}
	}
	return true
}

// phoneStart looks for +<country> … and (ddd) ddd-dddd.
func (sc *scan) phoneStart(i int) (finding, bool) {
	if !sc.r.has(Phone) || isAlnum[sc.prev(i)] {
		return finding{}, false
	}
	if sc.s[i] == '(' {
		return sc.northAmerican(i, i+1)
	}
	if c := sc.byteAt(i + 1); c < '1' || c > '9' {
		return finding{}, false
	}
	n, end, groups := 0, i+1, 0
	for k := i + 1; k < len(sc.s) && n <= 15 && k < i+26; k++ {
		c := sc.s[k]
		if isDigit(c) {
			n++
			end = k + 1
			continue
		}
		next := sc.byteAt(k + 1)
		if strings.IndexByte(" -.()", c) < 0 || !isDigit(next) && next != '(' && c != ')' && next != ' ' {
			break
		}
		groups++
	}
	// ITU-T E.164: at most 15 digits; fewer than 8 are sums and offsets.
	if n < 8 || n > 15 || groups > 6 || !sc.edge(end) {
		return finding{}, false
	}
	return found(Phone, i, end)
}

// northAmerican takes ddd-ddd-dddd, ddd.ddd.dddd, (ddd) ddd-dddd whose area and
// exchange begin with 2 to 9. Without separators it is any number at all.
func (sc *scan) northAmerican(start, i int) (finding, bool) {
	if !sc.r.has(Phone) || i+10 > len(sc.s) {
		return finding{}, false
	}
	at := i
	group := func(n int) bool {
		if at+n > len(sc.s) || !allDigits(sc.s[at:at+n]) {
			return false
		}
		at += n
		return true
	}
	if !group(3) || sc.s[i] < '2' {
		return finding{}, false
	}
	sep := sc.byteAt(at)
	if start < i {
		if sep != ')' {
			return finding{}, false
		}
		at++
		if sc.byteAt(at) == ' ' {
			at++
		}
	} else {
		if sep != '-' && sep != '.' {
			return finding{}, false
		}
		at++
	}
	exchange := at
	if !group(3) || sc.s[exchange] < '2' {
		return finding{}, false
	}
	if c := sc.byteAt(at); c != '-' && c != '.' && (start == i || c != ' ') || start == i && c != sep {
		return finding{}, false
	}
	at++
	if !group(4) || !sc.edge(at) {
		return finding{}, false
	}
	return found(Phone, start, at)
}

// ipv4 takes a dotted quad unless it reads like a version.
func (sc *scan) ipv4(i int) (finding, bool) {
	if !sc.r.has(IP) {
		return finding{}, false
	}
	end := i
	for part := range 4 {
		if part > 0 {
			if sc.byteAt(end) != '.' {
				return finding{}, false
			}
			end++
		}
		n, value := 0, 0
		for n < 3 && isDigit(sc.byteAt(end)) {
			value = value*10 + int(sc.s[end]-'0')
			n++
			end++
		}
		if n == 0 || value > 255 || n > 1 && sc.s[end-n] == '0' {
			return finding{}, false
		}
	}
	if isAlnum[sc.byteAt(end)] || sc.byteAt(end) == '.' && isDigit(sc.byteAt(end+1)) || sc.byteAt(end) == '-' && isAlnum[sc.byteAt(end+1)] {
		return finding{}, false // longer than an address
	}
	text := sc.s[i:end]
	if strings.HasPrefix(text, "127.") || text == "0.0.0.0" || text == "255.255.255.255" || sc.isVersion(i) {
		return finding{}, false
	}
	return found(IP, i, end)
}

// isVersion reports whether the text before i announces a version: Chrome/…,
// pkg@…, pkg==…, "version …".
func (sc *scan) isVersion(i int) bool {
	p := sc.prev(i)
	switch {
	case p == '.' || p == '-' || p == '_' || p == '@' || p == '^' || p == '~':
		return p != '@' || i < 2 || isAlnum[sc.s[i-2]]
	case p == '/' && i >= 2 && isAlnum[sc.s[i-2]]:
		return true
	case p == '=' && i >= 2 && strings.IndexByte("=><~!", sc.s[i-2]) >= 0:
		return true
	}
	before := strings.ToLower(strings.TrimRight(sc.s[max(sc.done, i-48):i], " :=\"'"))
	for _, w := range []string{"version", "upgrad", "downgrad"} { // "upgraded a from 1.2.3.4 to"
		if strings.Contains(before, w) {
			return true
		}
	}
	switch before[strings.LastIndexAny(before, " \t\n\"'{,(")+1:] {
	case "v", "ver", "ver.", "release", "build", "firmware", "driver", "section", "chapter":
		return true
	}
	return false
}

// ipv6 looks around the first colon of a token for an address with at least
// three groups and a digit: "dead::beef" may be a path in a program.
func (sc *scan) ipv6(i int) (finding, bool) {
	if !sc.r.has(IP) {
		return finding{}, false
	}
	start := i
	for start > sc.done && i-start < 5 && isHex[sc.s[start-1]] {
		start--
	}
	if p := sc.prev(start); isAlnum[p] || p == ':' || p == '.' || p == '_' || i-start > 4 {
		return finding{}, false
	}
	end, colons, digits := i, 0, 0
	for end < len(sc.s) && end-start < 46 && (isHex[sc.s[end]] || sc.s[end] == ':' || sc.s[end] == '.') {
		if sc.s[end] == ':' {
			colons++
		} else if isDigit(sc.s[end]) {
			digits++
		}
		end++
	}
	for end > start && (sc.s[end-1] == '.' || sc.s[end-1] == ':' && (end < 2 || sc.s[end-2] != ':')) {
		end--
	}
	if colons < 3 || !sc.edge(end) {
		return finding{}, false
	}
	for k := start; k < i; k++ {
		if isDigit(sc.s[k]) {
			digits++
		}
	}
	addr, err := netip.ParseAddr(sc.s[start:end])
	if err != nil || addr.IsLoopback() || addr.IsUnspecified() || digits == 0 {
		return finding{}, false
	}
	return found(IP, start, end)
}
