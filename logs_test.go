package kaizen

import (
	"strconv"
	"sync"
	"testing"

	"github.com/kaizen-go/kaizen/genai"
)

// TestRunAttributes: lines of runs that log at once have each the ids of their own.
func TestRunAttributes(t *testing.T) {
	var s exportSink
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				ids := runIDs{agent: "a", run: strconv.Itoa((g + i/3) % 5), session: "s"}
				kvs := s.of(ids)
				if len(kvs) != 3 || kvs[1].Key != genai.RunID || kvs[1].Value.AsString() != ids.run {
					t.Errorf("attributes %v for %v", kvs, ids)
				}
			}
		})
	}
	wg.Wait()
	if kvs := s.of(runIDs{}); len(kvs) != 0 {
		t.Errorf("attributes %v without a run", kvs)
	}
}
