package kaizen_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEntryPointsHaveExamples holds that every exported function of the SDK,
// and every exported method of Observer, is called in an Example whose output
// is checked: the documents show only what runs.
func TestEntryPointsHaveExamples(t *testing.T) {
	for dir := range layers {
		if strings.HasPrefix(dir, "internal/") {
			continue
		}
		t.Run("package "+dir, func(t *testing.T) {
			called := calledInExamples(t, dir)
			for _, name := range entryPoints(t, dir) {
				if !called[name] {
					t.Errorf("%s: no Example with output calls it", name)
				}
			}
		})
	}
}

// entryPoints are the names of the exported functions of the package in dir,
// and of the methods of Observer.
func entryPoints(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for _, file := range parseDir(t, dir, func(name string) bool { return !strings.HasSuffix(name, "_test.go") }) {
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || !fn.Name.IsExported() || ast.IsGenerated(file) {
				continue
			}
			if takesTest(fn) {
				continue // an Example has no *testing.T to give
			}
			if fn.Recv == nil || isObserver(fn.Recv) {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

func takesTest(fn *ast.FuncDecl) bool {
	for _, p := range fn.Type.Params.List {
		typ := p.Type
		if star, ok := typ.(*ast.StarExpr); ok {
			typ = star.X
		}
		if sel, ok := typ.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "testing" {
				return true
			}
		}
	}
	return false
}

func isObserver(recv *ast.FieldList) bool {
	star, ok := recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	id, ok := star.X.(*ast.Ident)
	return ok && id.Name == "Observer"
}

// calledInExamples are the functions and methods, by their last name, that the
// Examples of dir with a checked output call, themselves or through a type
// that stands beside them.
func calledInExamples(t *testing.T, dir string) map[string]bool {
	t.Helper()
	called := map[string]bool{}
	for _, file := range parseDir(t, dir, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
		var examples bool
		var bodies []*ast.FuncDecl
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			isExample := strings.HasPrefix(fn.Name.Name, "Example")
			examples = examples || isExample && hasOutput(file, fn)
			if isExample && hasOutput(file, fn) || fn.Recv != nil {
				bodies = append(bodies, fn)
			}
		}
		for _, fn := range bodies {
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && examples {
					called[sel.Sel.Name] = true
				}
				return true
			})
		}
	}
	return called
}

func hasOutput(file *ast.File, fn *ast.FuncDecl) bool {
	for _, group := range file.Comments {
		text := strings.ToLower(group.Text())
		if group.Pos() > fn.Pos() && group.End() <= fn.End() && (strings.HasPrefix(text, "output:") || strings.HasPrefix(text, "unordered output:")) {
			return true
		}
	}
	return false
}

func parseDir(t *testing.T, dir string, want func(name string) bool) []*ast.File {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(".", dir))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".go" || e.Type()&fs.ModeType != 0 || !want(e.Name()) {
			continue
		}
		file, err := parser.ParseFile(set, filepath.Join(dir, e.Name()), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}
