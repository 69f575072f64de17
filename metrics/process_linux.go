package metrics

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// readProcessUsage reads getrusage(2) and /proc/self/io; the latter may be
// hidden in a container.
func readProcessUsage() (u processUsage, ok bool) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return u, false
	}
	u.voluntary, u.involuntary = float64(r.Nvcsw), float64(r.Nivcsw)
	if b, err := os.ReadFile("/proc/self/io"); err == nil {
		u.read, u.written, u.hasIO = parseProcIO(b)
	}
	return u, true
}

// parseProcIO finds read_bytes and write_bytes in the text of /proc/PID/io.
func parseProcIO(b []byte) (read, written float64, ok bool) {
	found := 0
	for line := range bytes.Lines(b) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			continue
		}
		switch string(name) {
		case "read_bytes":
			read = float64(n)
			found++
		case "write_bytes":
			written = float64(n)
			found++
		}
	}
	return read, written, found == 2
}
