// Package conntrack stands in for the library of this name, of which the
// Prometheus packages that the server embeds link what is below for an
// HTTP client that the server never makes.
//
// The library pulls in golang.org/x/net/trace, which registers web pages made
// with html/template. Templates call methods by name, and a program that can do
// that keeps every exported method of every type it links: the binary grows from
// 52 to 85 MB, most of it methods of provider SDKs that nothing calls. See
// docs/adr/0005-a-small-binary.md.
package conntrack

import (
	"context"
	"net"
)

// DialFunc is the form of [net.Dialer.DialContext].
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// DialerOpt is an option of [NewDialContextFunc].
type DialerOpt func(*DialFunc)

// DialWithName would name the dialer in metrics.
func DialWithName(string) DialerOpt { return func(*DialFunc) {} }

// DialWithTracing would show the dialer's connections on a debug page.
func DialWithTracing() DialerOpt { return func(*DialFunc) {} }

// DialWithDialContextFunc dials with f.
func DialWithDialContextFunc(f DialFunc) DialerOpt { return func(dial *DialFunc) { *dial = f } }

// NewDialContextFunc returns a function that dials as the options say, or else
// like a zero [net.Dialer].
func NewDialContextFunc(opts ...DialerOpt) DialFunc {
	dial := new(net.Dialer).DialContext
	for _, opt := range opts {
		opt(&dial)
	}
	return dial
}
