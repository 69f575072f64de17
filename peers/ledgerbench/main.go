// Ledgerbench compares the audit ledger with other ways to keep entries: one
// write and one sync each, Tessera's POSIX driver, SQLite, PostgreSQL.
//
// Every contender runs once in each round, for the same time, on an empty
// store of its own on the same disk. What is compared are rates of the same
// round; the medians over all rounds are printed with the targets, and PASS or
// MISS. Absolute figures are of this machine at this hour.
//
//	go run ./ledgerbench -rounds 7 -window 1s
//	go run ./ledgerbench -short
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ledgerbench:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		rounds = flag.Int("rounds", 7, "rounds; the medians over them are printed")
		window = flag.Duration("window", time.Second, "how long each contender runs in a round")
		short  = flag.Bool("short", false, "2 rounds of 200 ms: shows that it runs, no more")
		only   = flag.String("only", "", "run contenders whose name matches this expression, and those that they are compared with")
		dir    = flag.String("dir", os.TempDir(), "directory on the disk to measure")
		strict = flag.Bool("strict", false, "fail if a target is missed")
	)
	flag.Parse()
	if *short {
		*rounds, *window = 2, 200*time.Millisecond
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	base, err := os.MkdirTemp(*dir, "ledgerbench")
	if err != nil {
		return err
	}
	missed, err := bench(base, *rounds, *window, pattern)
	if err := errors.Join(err, os.RemoveAll(base)); err != nil {
		return err
	}
	if missed > 0 && *strict {
		return fmt.Errorf("%d targets missed", missed)
	}
	return nil
}

// bench runs all rounds and prints the results.
func bench(base string, rounds int, window time.Duration, pattern *regexp.Regexp) (missed int, err error) {
	all := contenders()
	var chosen []contender
	for _, c := range all {
		if c.reference || pattern.MatchString(c.name) {
			chosen = append(chosen, c)
		}
	}
	results := make(map[string][]result)
	for round := range rounds {
		for i := range chosen {
			// Begin each round elsewhere, so that nobody always comes after
			// the one that leaves most for the disk to do.
			c := chosen[(i+round)%len(chosen)]
			r, err := once(c, filepath.Join(base, "store"), window)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", c.name, err)
			}
			results[c.name] = append(results[c.name], r)
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, rounds)
	}
	printResults(chosen, results)
	return printTargets(results), nil
}

// once measures c on an empty store.
func once(c contender, dir string, window time.Duration) (r result, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	op, closer, err := c.open(dir)
	if err != nil {
		return r, err
	}
	r, err = measure(c, op, window)
	return r, errors.Join(err, closer())
}
