package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"spillway/edge/outcome"
)

var metricName = regexp.MustCompile(`spillway_[a-z_]+`)

// TestMetricsAreDocumented compares the names of metrics in the code with those
// in the READMEs of the folders.
func TestMetricsAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, file := range []string{"../../edge/README.md", "../../origin/README.md"} {
		for _, name := range metricName.FindAllString(readFile(t, file), -1) {
			documented[name] = true
		}
	}
	written := map[string]bool{}
	for _, folder := range []string{".", "../../edge", "../../origin"} {
		for _, text := range stringsIn(t, folder) {
			if strings.HasPrefix(text, "spillway_") {
				written[metricName.FindString(text)] = true
			}
		}
	}
	for name := range written {
		if !documented[name] {
			t.Errorf("the metric %s is in no README", name)
		}
	}
	for name := range documented {
		if !written[name] {
			t.Errorf("a README tells of the metric %s, which does not exist", name)
		}
	}
	for _, name := range metricName.FindAllString(readFile(t, "../../README.md"), -1) {
		if !written[name] {
			t.Errorf("README.md tells of the metric %s, which does not exist", name)
		}
	}
}

// stringsIn returns the string literals of the code below the folder.
func stringsIn(t *testing.T, folder string) []string {
	t.Helper()
	var texts []string
	err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				texts = append(texts, strings.Trim(lit.Value, "\"`"))
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func TestOutcomesAreDocumented(t *testing.T) {
	readme := readFile(t, "../../README.md")
	for _, o := range outcome.All {
		if !strings.Contains(readme, "| `"+string(o)+"` |") {
			t.Errorf("README.md has no line for the outcome %s", o)
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
