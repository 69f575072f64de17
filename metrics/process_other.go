//go:build !linux

package metrics

// readProcessUsage knows no source here.
func readProcessUsage() (processUsage, bool) { return processUsage{}, false }
