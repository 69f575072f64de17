//go:build race

package agentlog

// raceDetector: under it a sync.Pool forgets at random, so allocations cannot be
// counted. The tests run without it as well: see scripts/test.sh.
const raceDetector = true
