//go:build race

package audit

// raced says that the race detector watches, which makes all of this ten to
// twenty times as slow: exhaustive tests then take samples. scripts/test.sh
// runs them in full without it.
const raced = true
