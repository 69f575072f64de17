// Package testport finds ports for the servers of tests that cannot listen on
// port 0: programs of others that do not say what they got, and servers that
// come back where they were.
//
//	addr := testport.Addr(t)
//
// The kernel gives a port that it found for port 0 to others as well, as the
// near end of any connection: between its release and its use, or while a
// server that was killed is away, somebody may have it. The ports here are none
// that it gives away, and each is claimed against other tests by a socket of
// the other kind, UDP, on the same port.
package testport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

// Addr returns an address on the loopback that nobody listens on, and that is
// the test's until it ends.
func Addr(t testing.TB) string {
	t.Helper()
	c, err := Claim(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Release(); err != nil {
			t.Error(err)
		}
	})
	return net.JoinHostPort(host, c.Ports[0])
}

// Claimed are ports that no other test gets.
type Claimed struct {
	Ports []string
	held  []net.PacketConn
}

const host = "127.0.0.1"

// Claim finds n ports. If above is not 0, the ports that many higher are free
// and claimed too. Release must be called when their servers have ended.
func Claim(n, above int) (*Claimed, error) {
	lowest, end := unassigned()
	end -= above
	c := &Claimed{}
	for range 10_000 {
		if len(c.Ports) == n {
			return c, nil
		}
		port := lowest + rand.IntN(end-lowest)
		if held, ok := take(port, above); ok {
			c.Ports = append(c.Ports, strconv.Itoa(port))
			c.held = append(c.held, held...)
		}
	}
	return nil, errors.Join(fmt.Errorf("testport: no %d free ports from %d to %d", n, lowest, end), c.Release())
}

// take claims port, and the one above it, if nobody uses them.
func take(port, above int) ([]net.PacketConn, bool) {
	var held []net.PacketConn
	for _, p := range []int{port, port + above} {
		if above == 0 && len(held) == 1 {
			break
		}
		at := net.JoinHostPort(host, strconv.Itoa(p))
		claim, err := net.ListenPacket("udp4", at)
		if err == nil {
			held = append(held, claim)
			var ln net.Listener
			if ln, err = net.Listen("tcp4", at); err == nil {
				err = ln.Close()
			}
		}
		if err != nil { // in use
			_ = (&Claimed{held: held}).Release()
			return nil, false
		}
	}
	return held, true
}

// unassigned is a range of ports that the kernel gives to nobody, or all ports
// of users where there is no such range.
func unassigned() (lowest, end int) {
	lowest, end = 12_000, 32_768 // Linux, as it comes; elsewhere its end is higher
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return lowest, end
	}
	var from, to int
	if _, err := fmt.Sscan(string(text), &from, &to); err != nil {
		return lowest, end
	}
	if from < lowest+15_000 {
		return 1024, 65_536
	}
	return lowest, from
}

// Release lets others have the ports.
func (c *Claimed) Release() error {
	var errs []error
	for _, h := range c.held {
		errs = append(errs, h.Close())
	}
	c.held = nil
	return errors.Join(errs...)
}
