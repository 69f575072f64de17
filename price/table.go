package price

import (
	"net"
	"regexp"
	"strings"
	"time"
)

// table is one price file, ready to be asked.
type table struct {
	version   string
	providers []*providerEntry
	byName    map[string]*providerEntry // id, name and aliases, lower case
}

type providerEntry struct {
	id      string
	name    string // of the GenAI conventions
	hosts   []hostRule
	match   matcher // other spellings of its name; nil for none
	models  matcher // models that are its own when nothing names the provider; nil for none
	resells []string
	rules   []modelRule
}

type modelRule struct {
	match matcher
	rule  *rule
}

type hostRule struct {
	exact  string         // or
	suffix string         // ".example.org", or
	regex  *regexp.Regexp // one of the three
	name   string
}

// provider returns the entry that goes by name, or, if name is empty, the one
// that the model belongs to.
func (t *table) provider(name, model string) *providerEntry {
	if p := t.byName[name]; p != nil {
		return p
	}
	for _, p := range t.providers {
		if name != "" && p.match != nil && p.match(name) {
			return p
		}
		if name == "" && p.models != nil && p.models(model) {
			return p
		}
	}
	return nil
}

// find returns the first rule that matches the model at one of the providers.
func (t *table) find(names []string, model string) *rule {
	for _, name := range names {
		p := t.byName[name]
		if p == nil {
			continue
		}
		if r := t.findAt(p, model); r != nil {
			return r
		}
		if spelled := dashDates(model); spelled != model {
			if r := t.findAt(p, spelled); r != nil {
				return r
			}
		}
	}
	return nil
}

func (t *table) findAt(p *providerEntry, model string) *rule {
	if r := p.find(model); r != nil {
		return r
	}
	for _, id := range p.resells {
		if r := t.byName[id].find(model); r != nil {
			return r
		}
	}
	return nil
}

func (p *providerEntry) find(model string) *rule {
	for _, m := range p.rules {
		if m.match(model) {
			return m.rule
		}
	}
	return nil
}

func (p *providerEntry) serves(host string) (name string, ok bool) {
	for _, h := range p.hosts {
		switch {
		case h.exact != "":
			ok = host == h.exact
		case h.suffix != "":
			ok = strings.HasSuffix(host, h.suffix) && len(host) > len(h.suffix)
		default:
			ok = h.regex.MatchString(host)
		}
		if ok {
			return h.name, true
		}
	}
	return "", false
}

// bareHost returns host in lower case without port and final dot.
func bareHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

var compactDate = regexp.MustCompile(`-20\d{6}`)

// dashDates writes each real date -YYYYMMDD in a model's name as -YYYY-MM-DD.
func dashDates(model string) string {
	return replaceIndexed(compactDate, model, func(found, after string) string {
		if after != "" && after[0] != '-' && after[0] != ':' {
			return found
		}
		d, err := time.Parse("-20060102", found)
		if err != nil {
			return found
		}
		return d.Format("-2006-01-02")
	})
}

// replaceIndexed is ReplaceAllStringFunc with what follows the match, which
// RE2 has no look-ahead for.
func replaceIndexed(re *regexp.Regexp, s string, f func(found, after string) string) string {
	var out strings.Builder
	last := 0
	for _, at := range re.FindAllStringIndex(s, -1) {
		out.WriteString(s[last:at[0]])
		out.WriteString(f(s[at[0]:at[1]], s[at[1]:]))
		last = at[1]
	}
	out.WriteString(s[last:])
	return out.String()
}
