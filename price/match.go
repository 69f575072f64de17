package price

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// matcher tells whether a name, in lower case, is meant.
type matcher func(name string) bool

// matchFile is a match rule as it is written: exactly one of its fields.
type matchFile struct {
	Equals     *string     `json:"equals,omitempty"`
	StartsWith *string     `json:"starts_with,omitempty"`
	EndsWith   *string     `json:"ends_with,omitempty"`
	Contains   *string     `json:"contains,omitempty"`
	Regex      *string     `json:"regex,omitempty"`
	Or         []matchFile `json:"or,omitempty"`
	And        []matchFile `json:"and,omitempty"`
	Not        *matchFile  `json:"not,omitempty"`
}

// compile checks the rule. All comparisons are without case: the name comes
// in lower case, the rule's text is lowered here, except that a regular
// expression (RE2) is taken as it stands.
func (m *matchFile) compile() (matcher, error) {
	var made []matcher
	add := func(f matcher) { made = append(made, f) }
	text := func(s *string, f func(name, s string) bool) {
		if s != nil {
			want := strings.ToLower(*s)
			add(func(name string) bool { return f(name, want) })
		}
	}
	text(m.Equals, func(name, s string) bool { return name == s })
	text(m.StartsWith, strings.HasPrefix)
	text(m.EndsWith, strings.HasSuffix)
	text(m.Contains, strings.Contains)
	if m.Regex != nil {
		re, err := regexp.Compile(*m.Regex)
		if err != nil {
			return nil, fmt.Errorf("match: %w", err)
		}
		add(re.MatchString)
	}
	for _, list := range []struct {
		rules []matchFile
		until bool
	}{{m.Or, true}, {m.And, false}} {
		if len(list.rules) == 0 {
			continue
		}
		f, err := compileList(list.rules, list.until)
		if err != nil {
			return nil, err
		}
		add(f)
	}
	if m.Not != nil {
		f, err := m.Not.compile()
		if err != nil {
			return nil, err
		}
		add(func(name string) bool { return !f(name) })
	}
	if len(made) != 1 {
		return nil, errors.New("match: want exactly one of equals, starts_with, ends_with, contains, regex, or, and, not")
	}
	return made[0], nil
}

// compileList joins rules: the first that answers until decides.
func compileList(rules []matchFile, until bool) (matcher, error) {
	var fs []matcher
	for i := range rules {
		f, err := rules[i].compile()
		if err != nil {
			return nil, err
		}
		fs = append(fs, f)
	}
	return func(name string) bool {
		for _, f := range fs {
			if f(name) == until {
				return until
			}
		}
		return !until
	}, nil
}
