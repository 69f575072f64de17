package hook_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestBehavioursAreListed: the tests that docs/behaviours-hooks.md names are
// there, its rows are numbered, and no test of this package is left out.
func TestBehavioursAreListed(t *testing.T) {
	page, err := os.ReadFile("../docs/behaviours-hooks.md")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{"hook": ".", "kaizen": "..", "metrics": "../metrics", "agent": "../agent"}
	sources := make(map[string]string)
	for pkg, dir := range folders {
		sources[pkg] = testSource(t, dir)
	}
	rows := regexp.MustCompile("(?m)^\\| H(\\d+) \\| .+ \\| `(\\w+)\\.(\\w+)(?:/(\\w+))?` \\|$").FindAllStringSubmatch(string(page), -1)
	listed := make(map[string]bool)
	for i, row := range rows {
		pkg, name, sub := row[2], row[3], strings.ReplaceAll(row[4], "_", " ")
		if row[1] != strconv.Itoa(i+1) {
			t.Errorf("row %d is numbered H%s", i+1, row[1])
		}
		if !strings.Contains(sources[pkg], "\nfunc "+name+"(") || !strings.Contains(sources[pkg], `"`+sub) {
			t.Errorf("H%s: there is no test %s.%s/%s", row[1], pkg, name, row[4])
		}
		listed[name] = listed[name] || pkg == "hook"
	}
	if got, want := len(rows), strings.Count(string(page), "\n| H"); got != want || got == 0 {
		t.Errorf("%d of %d rows can be read", got, want)
	}
	for _, m := range regexp.MustCompile(`\nfunc ((?:Test|Fuzz)\w+)\(\w+ \*testing\.[TF]\)`).FindAllStringSubmatch(sources["hook"], -1) {
		if name := m[1]; !listed[name] && name != "TestBehavioursAreListed" {
			t.Errorf("no row for %s", name)
		}
	}
}

func testSource(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	var b strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}
