// Logbench compares agentlog with phuslu's and zerolog's handlers behind slog,
// and with slog's own: a line with the context of a run and ten fields, and a
// line below the level.
//
// All contenders run in each round, a few thousand lines each, one after the
// other and in another order each time; a line's cost is the processor time of
// the thread that logs. What is compared are costs of the same round; the
// medians over all rounds are printed, with PASS or MISS. Absolute figures are
// of this machine at this hour.
//
//	go run ./logbench -rounds 200 -lines 2000
//	go run ./logbench -short
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "logbench:", err)
		os.Exit(1)
	}
}

func run() error {
	rounds := flag.Int("rounds", 200, "rounds; the medians over them are printed")
	lines := flag.Int("lines", 2000, "lines that each contender writes in a round")
	short := flag.Bool("short", false, "10 rounds of 200 lines: shows that it runs, no more")
	show := flag.Bool("show", false, "print one line of each contender and end")
	strict := flag.Bool("strict", false, "fail if a target is missed")
	flag.Parse()
	if *short {
		*rounds, *lines = 10, 200
	}
	if *show {
		return showLines(os.Stdout)
	}
	missed, err := bench(os.Stdout, *rounds, *lines)
	if err != nil {
		return err
	}
	if missed > 0 && *strict {
		return fmt.Errorf("%d targets missed", missed)
	}
	return nil
}
