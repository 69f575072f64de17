//go:build !race

package metrics

// millions is how many million observations TestMemoryIsFlat makes.
const millions = 10
