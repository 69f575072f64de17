package kaizen

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"testing"

	"github.com/kaizen-go/kaizen/genai"
)

// TestSpanNames: a name from memory is the name that is made anew, also where
// many share a slot, and a known one is no allocation.
func TestSpanNames(t *testing.T) {
	names := &spanNames{seed: maphash.MakeSeed()}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for round := range 3 * numSpanNames {
				for _, op := range []string{genai.ExecuteTool, genai.Chat} {
					target := fmt.Sprint("t", round%(2*numSpanNames))
					if got, want := names.of(op, target), genai.SpanName(op, target); got != want {
						t.Errorf("of(%q, %q) = %q, want %q", op, target, got, want)
					}
				}
			}
		})
	}
	wg.Wait()
	long := strings.Repeat("x", 2*maxSpanNameBytes)
	if got, want := names.of(genai.Chat, long), genai.Chat+" "+long; got != want {
		t.Errorf("a long name = %q, want %q", got, want)
	}
	if got := names.of(genai.Chat, ""); got != genai.Chat {
		t.Errorf("without a target = %q, want %q", got, genai.Chat)
	}
	if n := testing.AllocsPerRun(100, func() { names.of(genai.Chat, "gpt") }); n != 0 {
		t.Errorf("%v allocations for a known name, want 0", n)
	}
}
