package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestComplianceNotes checks that each command, flag, script and test that
// docs/compliance.md names is there.
func TestComplianceNotes(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "compliance.md"))
	if err != nil {
		t.Fatal(err)
	}
	commands, scripts, tests := 0, 0, 0
	for _, quoted := range regexp.MustCompile("`[^`]+`").FindAllString(string(text), -1) {
		quoted = strings.ReplaceAll(strings.Trim(quoted, "`"), `\|`, "|")
		words := strings.Fields(quoted)
		switch {
		case words[0] == "kaizen" && len(words) > 1:
			commands++
			top, _ := newRoot()
			cmd, rest, err := top.Find(words[1:])
			if err != nil || cmd.Name() == "kaizen" {
				t.Errorf("%s: no such command", quoted)
				continue
			}
			for _, word := range rest {
				if name, ok := strings.CutPrefix(word, "--"); ok && cmd.Flags().Lookup(name) == nil {
					t.Errorf("%s: no flag --%s", quoted, name)
				}
			}
		case strings.HasPrefix(quoted, "S/") && strings.HasSuffix(quoted, ".txtar"):
			scripts++
			if _, err := os.Stat(filepath.Join("testdata", "script", quoted[2:])); err != nil {
				t.Error(err)
			}
		case strings.HasPrefix(quoted, "go test "):
			tests++
			checkTests(t, root, words[2:])
		}
	}
	if commands < 20 || scripts < 10 || tests < 8 {
		t.Errorf("the notes name %d commands, %d scripts and %d tests: is this the document?", commands, scripts, tests)
	}
}

// checkTests fails unless each package has a test that -run selects.
func checkTests(t *testing.T, root string, args []string) {
	t.Helper()
	run := "."
	for i, a := range args {
		if a == "-run" && i+1 < len(args) {
			run, args = strings.Trim(args[i+1], `"`), args[:i]
			break
		}
	}
	for _, pkg := range args {
		files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("go test %s: no tests, %v", pkg, err)
		}
		found := false
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found = found || regexp.MustCompile(`(?m)^func Test\w*(`+run+`)`).Match(text)
		}
		if !found {
			t.Errorf("go test %s -run %s selects no test", pkg, run)
		}
	}
}
