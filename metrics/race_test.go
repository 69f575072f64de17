//go:build race

package metrics

// millions is how many million observations TestMemoryIsFlat makes. Each is
// ten times slower under the race detector, and the bytes are the same.
const millions = 1
