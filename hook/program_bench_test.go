//go:build unix

package hook_test

import "testing"

// BenchmarkProgram measures one event given to a program: the program here is
// this test binary, so most of it is the start of a Go process of some size.
func BenchmarkProgram(b *testing.B) {
	p := newProgram(b, selfConfig(b, "allow"))
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Handle(b.Context(), toolStart()); err != nil {
			b.Fatal(err)
		}
	}
}
