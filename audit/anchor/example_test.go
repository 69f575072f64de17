package anchor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/anchor"
)

// note is a checkpoint to keep.
var note = audit.Checkpoint{Size: 1, Note: "example.org/agents\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"}

// Each attempt is counted, for a metric.
func ExampleCount() {
	dir, err := os.MkdirTemp("", "anchors")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := &audit.FileAnchor{Path: filepath.Join(dir, "anchors")}
	fmt.Println(anchor.Target(file))
	for _, a := range anchor.Count([]audit.Anchor{file}, func(target, result string) { fmt.Println(target, result) }) {
		fmt.Println(a.Anchor(context.Background(), note))
	}
	// Output:
	// file
	// file success
	// <nil>
}

func ExampleCountWitness() {
	fmt.Println(anchor.CountWitness(nil, nil) == nil) // no witness stays none
	// Output: true
}
