//go:build !race

package agentlog

const raceDetector = false
