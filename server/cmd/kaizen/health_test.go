package main

import "testing"

func TestOwnAddress(t *testing.T) {
	tests := []struct {
		name, listen string
		tls          bool
		want         string
	}{
		{"default", "", false, "http://127.0.0.1:7070"},
		{"all addresses", "0.0.0.0:7070", false, "http://127.0.0.1:7070"},
		{"all addresses, short", ":8080", true, "https://127.0.0.1:8080"},
		{"IPv6", "[::]:7070", false, "http://127.0.0.1:7070"},
		{"one address", "10.1.2.3:7070", true, "https://10.1.2.3:7070"},
		{"no port", "localhost", false, ""},
	}
	for _, tc := range tests {
		if got := ownAddress(tc.listen, tc.tls); got != tc.want {
			t.Errorf("%s: ownAddress(%q) = %q, want %q", tc.name, tc.listen, got, tc.want)
		}
	}
}
