package audit

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestLedgerBehavioursAreListed: the tests that docs/behaviours-ledger.md names
// are there, and its rows are numbered.
func TestLedgerBehavioursAreListed(t *testing.T) {
	page, err := os.ReadFile("../docs/behaviours-ledger.md")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{
		"audit": ".", "shard": "shard", "witness": "witness", "anchor": "anchor", "kaizentest": "../kaizentest",
		"merkle": "../internal/merkle", "durable": "../internal/durable", "peers": "../peers/*",
		"server": "../server", "cmd": "../server/cmd/kaizen", "postgres": "../server/backend/postgres", "s3": "../server/backend/s3",
		"tlog": "../server/internal/tlog", "evidence": "../server/internal/evidence",
	}
	sources := make(map[string]string)
	for pkg, dir := range folders {
		sources[pkg] = testsIn(t, dir)
	}
	rows := regexp.MustCompile("(?m)^\\| L(\\d+) \\| .+ \\| (`[^|]+`) \\|$").FindAllStringSubmatch(string(page), -1)
	for i, row := range rows {
		if row[1] != strconv.Itoa(i+1) {
			t.Errorf("row %d is numbered L%s", i+1, row[1])
		}
		for _, name := range strings.Split(row[2], ", ") {
			name = strings.Trim(name, "`")
			if pkg, test, ok := strings.Cut(name, "."); test == "txtar" {
				if _, err := os.Stat("../server/cmd/kaizen/testdata/script/" + name); err != nil {
					t.Errorf("L%s: %v", row[1], err)
				}
			} else if !ok || !strings.Contains(sources[pkg], "\nfunc "+test+"(") {
				t.Errorf("L%s: there is no test %s", row[1], name)
			}
		}
	}
	if got, want := len(rows), strings.Count(string(page), "\n| L"); got != want || got == 0 {
		t.Errorf("%d of %d rows can be read", got, want)
	}
}

// testsIn is the text of the test files in the folders that match.
func testsIn(t *testing.T, dir string) string {
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
		b.WriteString("\n")
		b.Write(text)
	}
	return b.String()
}
