package web_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// missing skips the test, and fails it where the environment says CI=true.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what, "(CI=true forbids the skip)")
	}
	t.Skip(what)
}

func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		missing(t, "no node: the unit tests of the page's modules need it")
	}
	files, err := os.ReadDir("test")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--test"}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".test.js") {
			args = append(args, "test/"+f.Name())
		}
	}
	if out, err := exec.CommandContext(t.Context(), "node", args...).CombinedOutput(); err != nil {
		t.Errorf("node %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestTypes(t *testing.T) {
	const tsc = "node_modules/.bin/tsc"
	if _, err := os.Stat(tsc); err != nil {
		if out, err := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--silent").CombinedOutput(); err != nil {
			missing(t, "the type checker is not installed and npm cannot get it: "+err.Error()+" "+string(out))
		}
	}
	if out, err := exec.CommandContext(t.Context(), tsc, "-p", ".").CombinedOutput(); err != nil {
		t.Errorf("tsc: %v\n%s", err, out)
	}
}
