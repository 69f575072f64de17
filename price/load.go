package price

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// maxFileBytes bounds a price file; the embedded one has a third of a MiB.
const maxFileBytes = 16 << 20

type bookFile struct {
	Version   string         `json:"version"`
	Source    string         `json:"source,omitempty"`
	Providers []providerFile `json:"providers"`
}

type providerFile struct {
	ID      string      `json:"id"`
	Name    string      `json:"name,omitempty"`
	Aliases []string    `json:"aliases,omitempty"`
	Match   *matchFile  `json:"match,omitempty"`
	Owns    *matchFile  `json:"owns,omitempty"`
	Hosts   []hostFile  `json:"hosts,omitempty"`
	Resells []string    `json:"resells,omitempty"`
	Models  []modelFile `json:"models,omitempty"`
}

type hostFile struct {
	Host  string `json:"host,omitempty"`
	Regex string `json:"regex,omitempty"`
	Name  string `json:"name,omitempty"`
}

type modelFile struct {
	ID     string      `json:"id"`
	Match  *matchFile  `json:"match,omitempty"`
	Prices []priceFile `json:"prices"`
}

type priceFile struct {
	From         string      `json:"from,omitempty"`
	Daily        []string    `json:"daily,omitempty"`
	Input        *tieredFile `json:"input,omitempty"`
	CacheRead    *tieredFile `json:"cache_read,omitempty"`
	CacheWrite   *tieredFile `json:"cache_write,omitempty"`
	CacheWrite1h *tieredFile `json:"cache_write_1h,omitempty"`
	Output       *tieredFile `json:"output,omitempty"`
	Reasoning    *tieredFile `json:"reasoning,omitempty"`
	Request      *tieredFile `json:"request,omitempty"`
}

// tieredFile is a number, or an object with a base and tiers.
type tieredFile struct {
	Base  json.Number `json:"base"`
	Tiers []struct {
		Start int64       `json:"start"`
		Price json.Number `json:"price"`
	} `json:"tiers"`
}

// UnmarshalJSON accepts both forms, and no unknown field in the second.
func (t *tieredFile) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '{' {
		return json.Unmarshal(b, &t.Base)
	}
	type plain tieredFile
	return strictJSON(b, (*plain)(t))
}

// Load reads a book of one table, in the format of the embedded one:
//
//	{
//	  "version": "example 2026-11",
//	  "providers": [{
//	    "id": "openai",
//	    "hosts": [{"host": "llm.example.org"}, {"host": "*.llm.example.org"}],
//	    "models": [{
//	      "id": "gpt-4o",
//	      "match": {"starts_with": "gpt-4o"},
//	      "prices": [
//	        {"input": 2.5, "cache_read": 1.25, "output": 10},
//	        {"from": "2026-12-01", "input": {"base": 2, "tiers": [{"start": 200000, "price": 4}]}, "output": 8},
//	        {"daily": ["22:00:00", "06:00:00"], "input": 1, "output": 4}
//	      ]
//	    }]
//	  }]
//	}
//
// Prices are in USD for a million tokens of a class (input, cache_read,
// cache_write, cache_write_1h, output, reasoning), and for a thousand calls
// (request): plain decimal numbers with at most nine digits after the point.
// A tier holds for prompts of more than start tokens. Of the prices of a model
// the last whose condition holds counts: from is a day or a time (RFC 3339),
// daily are two times of the day in UTC; the first has no condition.
//
// A match has one of equals, starts_with, ends_with, contains, regex (RE2, on
// the lower-case name), or and and (lists), not; without one, the name equals the
// id. The first model that matches counts. Empty prices ([]) say that the model
// is known and sold by something else than tokens: its cost is unknown. A provider may also have a name
// (of the GenAI conventions; if absent, its id), aliases, a match for other
// spellings of its name, owns (a match for models whose provider is unknown),
// resells (ids of providers whose models it sells at their price), and hosts
// with a host or a regex, each of which may have a name of its own.
//
// Anything else is an error that says where it is.
func Load(r io.Reader) (*Book, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("price: read book: %w", err)
	}
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("price: load book: longer than %d bytes", maxFileBytes)
	}
	var f bookFile
	if err := strictJSON(b, &f); err != nil {
		return nil, fmt.Errorf("price: load book: %w", err)
	}
	t, err := f.compile()
	if err != nil {
		return nil, fmt.Errorf("price: load book: %w", err)
	}
	return newBook([]*table{t}), nil
}

// strictJSON decodes one JSON value and refuses unknown fields and trailing data.
func strictJSON(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more data after the JSON value")
	}
	return nil
}

func (f *bookFile) compile() (*table, error) {
	if f.Version == "" {
		return nil, errors.New("version is missing")
	}
	t := &table{version: f.Version, byName: map[string]*providerEntry{}}
	for i := range f.Providers {
		pf := &f.Providers[i]
		if pf.ID == "" {
			return nil, fmt.Errorf("providers[%d]: id is missing", i)
		}
		p, err := pf.compile(f.Version)
		if err != nil {
			return nil, fmt.Errorf("provider %q: %w", pf.ID, err)
		}
		for _, name := range append([]string{pf.ID, p.name}, pf.Aliases...) {
			name = strings.ToLower(name)
			if other := t.byName[name]; other != nil && other != p {
				return nil, fmt.Errorf("provider %q: %q is a name of provider %q too", pf.ID, name, other.id)
			}
			t.byName[name] = p
		}
		t.providers = append(t.providers, p)
	}
	for _, p := range t.providers {
		for _, id := range p.resells {
			if t.byName[id] == nil {
				return nil, fmt.Errorf("provider %q: resells %q, which is not in this file", p.id, id)
			}
		}
	}
	return t, nil
}

func (f *providerFile) compile(version string) (*providerEntry, error) {
	p := &providerEntry{id: strings.ToLower(f.ID), name: f.Name, resells: f.Resells}
	if p.name == "" {
		p.name = f.ID
	}
	var err error
	if p.match, err = optional(f.Match); err != nil {
		return nil, err
	}
	if p.models, err = optional(f.Owns); err != nil {
		return nil, fmt.Errorf("owns: %w", err)
	}
	for i, h := range f.Hosts {
		rule, err := h.compile(p.name)
		if err != nil {
			return nil, fmt.Errorf("hosts[%d]: %w", i, err)
		}
		p.hosts = append(p.hosts, rule)
	}
	for i := range f.Models {
		m := &f.Models[i]
		if m.ID == "" {
			return nil, fmt.Errorf("models[%d]: id is missing", i)
		}
		rule, err := m.compile(version, p.id)
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", m.ID, err)
		}
		p.rules = append(p.rules, rule)
	}
	return p, nil
}

func optional(m *matchFile) (matcher, error) {
	if m == nil {
		return nil, nil
	}
	return m.compile()
}

func (f *hostFile) compile(name string) (hostRule, error) {
	h := hostRule{name: name}
	if f.Name != "" {
		h.name = f.Name
	}
	switch {
	case (f.Host == "") == (f.Regex == ""):
		return h, errors.New("want one of host and regex")
	case f.Regex != "":
		re, err := regexp.Compile("^(?:" + f.Regex + ")$")
		h.regex = re
		return h, err
	case strings.HasPrefix(f.Host, "*."):
		h.suffix = strings.ToLower(f.Host[1:])
	default:
		h.exact = strings.ToLower(f.Host)
	}
	if strings.ContainsAny(h.exact+h.suffix, "*:/ ") {
		return h, fmt.Errorf("host %q: want a name, without port and scheme, or *. and a name", f.Host)
	}
	return h, nil
}

func (f *modelFile) compile(version, provider string) (modelRule, error) {
	match := f.Match
	if match == nil {
		match = &matchFile{Equals: &f.ID}
	}
	m, err := match.compile()
	if err != nil {
		return modelRule{}, err
	}
	if f.Prices == nil {
		return modelRule{}, errors.New("prices are missing")
	}
	r := &rule{table: version, id: provider + "/" + f.ID}
	for i := range f.Prices {
		d, err := f.Prices[i].compile(i == 0)
		if err != nil {
			return modelRule{}, fmt.Errorf("prices[%d]: %w", i, err)
		}
		r.prices = append(r.prices, d)
	}
	return modelRule{match: m, rule: r}, nil
}

func (f *priceFile) compile(first bool) (datedRates, error) {
	var d datedRates
	if first && (f.From != "" || f.Daily != nil) {
		return d, errors.New("the first price holds always: it takes no from and no daily")
	}
	if err := f.condition(&d); err != nil {
		return d, err
	}
	priced := false
	for c, tf := range [classes]*tieredFile{f.Input, f.CacheRead, f.CacheWrite, f.CacheWrite1h, f.Output, f.Reasoning, f.Request} {
		if tf == nil {
			continue
		}
		t, err := tf.compile()
		if err != nil {
			return d, fmt.Errorf("%s: %w", classNames[c], err)
		}
		d.perClass[c], priced = t, true
	}
	if !priced {
		return d, errors.New("no price in it")
	}
	return d, nil
}

func (f *priceFile) condition(d *datedRates) error {
	if f.From != "" {
		layout := time.RFC3339
		if len(f.From) == len(time.DateOnly) {
			layout = time.DateOnly
		}
		from, err := time.Parse(layout, f.From)
		if err != nil {
			return fmt.Errorf("from %q: want a day (2026-11-22) or an RFC 3339 time", f.From)
		}
		d.from = from
	}
	if f.Daily == nil {
		return nil
	}
	if len(f.Daily) != 2 {
		return errors.New("daily: want two times of the day, start and end")
	}
	for i, into := range []*time.Duration{&d.start, &d.end} {
		at, err := time.Parse(time.TimeOnly, f.Daily[i])
		if err != nil {
			return fmt.Errorf("daily %q: want a UTC time such as 16:30:00", f.Daily[i])
		}
		*into = at.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	d.daily = true
	return nil
}

func (f *tieredFile) compile() (*tiered, error) {
	base, err := parsePrice(f.Base.String())
	if err != nil {
		return nil, err
	}
	t := &tiered{base: base}
	last := int64(-1)
	for i, tr := range f.Tiers {
		p, err := parsePrice(tr.Price.String())
		if err != nil {
			return nil, fmt.Errorf("tiers[%d]: %w", i, err)
		}
		if tr.Start <= last {
			return nil, fmt.Errorf("tiers[%d]: start %d does not rise", i, tr.Start)
		}
		last = tr.Start
		t.tiers = append(t.tiers, tier{start: tr.Start, price: p})
	}
	return t, nil
}
