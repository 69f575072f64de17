package redact

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// nameKind says what a name tells about its value.
type nameKind uint8

const (
	harmless nameKind = iota
	// weak names also stand beside counts ("token: 512"): short numbers remain.
	weak
	// strong names stand beside secrets only.
	strong
)

// terms are the words, and runs of words joined by a space, that make a name
// telling wherever they stand in it: openai_api_key, dbPassword, X-Auth-Token.
var terms = map[string]nameKind{
	"password": strong, "passwords": strong, "passwd": strong, "pwd": strong, "pw": strong, "passphrase": strong, "passcode": strong,
	"secret": strong, "secrets": strong, "credential": strong, "credentials": strong, "apikey": strong, "apikeys": strong,
	"cvv": strong, "cvc": strong, "cvv2": strong, "ssn": strong, "privatekey": strong, "secretkey": strong, "accesskey": strong,
	"creditcard": strong, "cardnumber": strong, "authorization": strong, "jwt": strong,
	"token": weak, "auth": weak, "cookie": weak, "cookies": weak, "bearer": weak,
	"api key": strong, "api keys": strong, "private key": strong, "access key": strong, "account key": strong, "signing key": strong,
	"encryption key": strong, "ssh key": strong, "master key": strong, "shared key": strong, "shared access": strong,
	"credit card": strong, "card number": strong, "social security": strong, "connection string": strong, "session key": strong,
	"access tokens": strong, "api tokens": strong, "auth tokens": strong, "refresh tokens": strong, "session cookie": strong,
}

// endings are terms that are also recognised at the end of a longer word.
var endings = []struct {
	text string
	kind nameKind
}{
	{"password", strong}, {"passwd", strong}, {"passphrase", strong}, {"apikey", strong}, {"secretkey", strong},
	{"privatekey", strong}, {"accesskey", strong}, {"secret", strong}, {"token", weak},
}

// about are words that, as the last of a name, say something about a secret
// rather than holding one: token_count, password_policy, auth_method.
var about = map[string]bool{
	"count": true, "counts": true, "limit": true, "limits": true, "type": true, "usage": true, "used": true, "budget": true,
	"total": true, "size": true, "length": true, "len": true, "policy": true, "method": true, "mode": true, "enabled": true,
	"required": true, "present": true, "expires": true, "expiry": true, "expired": true, "ttl": true, "at": true, "age": true,
	"status": true, "url": true, "uri": true, "endpoint": true, "version": true, "provider": true, "scheme": true, "rate": true,
	"price": true, "cost": true, "index": true, "ms": true, "seconds": true, "duration": true, "valid": true, "error": true, "name": true,
}

// cacheSize bounds the names whose verdict is remembered. Programs use few.
const cacheSize = 2048

// cacheWays is how many neighbouring places a name can have. With one, two of
// ten names share theirs in one process of fifty, and are judged anew each time.
const cacheWays = 4

// names judges field names and remembers its verdicts: a log line asks about
// the same ten names each time.
type names struct {
	extra []string // normalised
	keep  []string // normalised
	seed  maphash.Seed
	cache [cacheSize]atomic.Pointer[verdict]
	// near has verdicts of the cache by a hash that costs next to nothing. Names
	// may share a place in it: then the cache is asked.
	near [nearSize]atomic.Pointer[verdict]
}

// nearSize is a power of two.
const nearSize = 512

// nearHash mixes the length and three letters of a name of at least two.
func nearHash(name string) uint32 {
	n := len(name)
	h := uint32(n)*0x9e3779b1 ^ uint32(name[0]) ^ uint32(name[n/2])<<8 ^ uint32(name[n-1])<<16 ^ uint32(name[n-2])<<24
	return h * 0x85ebca6b >> 23
}

type verdict struct {
	name string
	kind nameKind
}

func (n *names) init(extra, keep []string) {
	n.seed = maphash.MakeSeed()
	for _, name := range extra {
		n.extra = append(n.extra, strings.Join(words(name), " "))
	}
	for _, name := range keep {
		n.keep = append(n.keep, strings.Join(words(name), " "))
	}
}

// kind judges a name.
func (n *names) kind(name string) nameKind {
	if len(name) < 2 || len(name) > maxNameBytes {
		if len(name) > maxNameBytes {
			return n.judge(name[len(name)-maxNameBytes:])
		}
		return n.judge(name)
	}
	near := &n.near[nearHash(name)%nearSize]
	if v := near.Load(); v != nil && v.name == name {
		return v.kind
	}
	v := n.remembered(name)
	near.Store(v)
	return v.kind
}

// remembered is the verdict on a name of up to maxNameBytes, old or new.
func (n *names) remembered(name string) *verdict {
	h := maphash.String(n.seed, name)
	slot := &n.cache[(h+h>>32%cacheWays)%cacheSize] // the one to give up if all are taken
	for i := range uint64(cacheWays) {
		near := &n.cache[(h+i)%cacheSize]
		v := near.Load()
		if v == nil {
			slot = near
			break
		}
		if v.name == name {
			return v
		}
	}
	v := &verdict{name: strings.Clone(name), kind: n.judge(name)}
	slot.Store(v)
	return v
}

func (n *names) judge(name string) nameKind {
	parts := words(name)
	if len(parts) == 0 {
		return harmless
	}
	if whole := strings.Join(parts, " "); len(n.extra)+len(n.keep) > 0 {
		if containsAny(n.keep, whole) {
			return harmless
		}
		for _, e := range n.extra {
			if e != "" && strings.Contains(" "+whole+" ", " "+e+" ") {
				return strong
			}
		}
	}
	if len(parts) > 1 && about[parts[len(parts)-1]] {
		return harmless
	}
	kind := harmless
	for k, part := range parts {
		kind = max(kind, terms[part], ending(part))
		if k > 0 {
			kind = max(kind, terms[parts[k-1]+" "+part])
		}
	}
	if kind == weak && parts[0] == "auth" && len(parts) > 1 {
		return harmless // auth_user, auth_flow
	}
	return kind
}

func ending(word string) nameKind {
	for _, e := range endings {
		if len(word) > len(e.text) && strings.HasSuffix(word, e.text) {
			return e.kind
		}
	}
	return harmless
}

// words takes a name apart at signs and at changes of case, in lower case:
// "OpenAI-apiKey2" is open, ai, api, key2.
func words(name string) []string {
	var out []string
	start := 0
	cut := func(end int) {
		if end > start {
			out = append(out, strings.ToLower(name[start:end]))
		}
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case !isAlnum[c] && c < 0x80:
			cut(i)
			start = i + 1
		case i > start && isUpper(c) && (isLower(name[i-1]) || isDigit(name[i-1])),
			i > start && isUpper(c) && i+1 < len(name) && isLower(name[i+1]):
			cut(i)
			start = i
		}
	}
	cut(len(name))
	return out
}
