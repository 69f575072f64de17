package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// parseWhen reads a time as RFC 3339, or as a duration before now: 24h, 90m,
// 7d. The zero time stands for "".
func parseWhen(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC(), nil
	}
	ago, err := parseAgo(text)
	if err != nil {
		return time.Time{}, usage(fmt.Errorf("time %q is neither RFC 3339 nor a duration ago", text),
			"write it like 2026-01-31T12:00:00Z, 24h or 7d")
	}
	return now.Add(-ago).UTC(), nil
}

const day = 24 * time.Hour

// maxAgo keeps days times 24 h within a time.Duration.
const maxAgo = 100 * 365 * day

func parseAgo(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || !(n >= 0 && n <= float64(maxAgo/day)) {
			return 0, fmt.Errorf("%q is no number of days", days)
		}
		return time.Duration(n * float64(day)), nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && (d < 0 || d > maxAgo) {
		err = fmt.Errorf("%s is out of range", text)
	}
	return d, err
}

// period is --since and --until.
type period struct{ since, until string }

// times are its ends; the zero time stands for one that was not given.
func (p period) times(now time.Time) (since, until time.Time, err error) {
	if since, err = parseWhen(p.since, now); err != nil {
		return since, until, err
	}
	if until, err = parseWhen(p.until, now); err != nil {
		return since, until, err
	}
	if !since.IsZero() && !until.IsZero() && since.After(until) {
		return since, until, usage(fmt.Errorf("--since %s is after --until %s: nothing lies between", p.since, p.until),
			"--since is where the period begins, --until where it ends; 24h is 24 hours ago")
	}
	return since, until, nil
}

// into adds the period to a query of the API.
func (p period) into(q url.Values, now time.Time) error {
	since, until, err := p.times(now)
	if err != nil {
		return err
	}
	for name, t := range map[string]time.Time{"since": since, "until": until} {
		if !t.IsZero() {
			q.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	return nil
}
