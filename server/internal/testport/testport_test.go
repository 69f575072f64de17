package testport_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/kaizen-go/kaizen/server/internal/testport"
)

// TestClaim: no two claims share a port, not even while nobody listens, and
// what is claimed can be listened on, again and again.
func TestClaim(t *testing.T) {
	seen := map[int]bool{}
	for range 20 {
		c, err := testport.Claim(4, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Release(); err != nil {
				t.Error(err)
			}
		})
		if len(c.Ports) != 4 {
			t.Fatalf("ports = %v, want 4", c.Ports)
		}
		for _, text := range c.Ports {
			low, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []int{low, low + 10_000} {
				if seen[p] {
					t.Errorf("port %d is claimed twice", p)
				}
				seen[p] = true
				listen(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
			}
		}
	}
	addr := testport.Addr(t)
	listen(t, addr)
	listen(t, addr)
}

func listen(t *testing.T, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
}
