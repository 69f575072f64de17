package auth

import (
	"fmt"
	"net"
	"net/netip"
)

// CheckListen refuses an address that other machines can reach while the
// server has no key: the error wraps [ErrKeyRequired]. It also refuses what is
// not host:port. A name is looked up only if it is not localhost; every address
// it stands for has to be a loopback one.
func CheckListen(addr string, keyed bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("auth: listen address %q: %w", addr, err)
	}
	if keyed || loopback(host) {
		return nil
	}
	return fmt.Errorf("auth: listen on %s: %w", addr, ErrKeyRequired)
}

func loopback(host string) bool {
	if host == "" {
		return false // all interfaces
	}
	if loopbackName(host) {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	ips, err := net.LookupIP(host)
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, ip := range ips {
		if !ip.IsLoopback() {
			return false
		}
	}
	return true
}
