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
	walkCode(t, folder, func(_ string, _ token.Position, n ast.Node) {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			texts = append(texts, strings.Trim(lit.Value, "\"`"))
		}
	})
	return texts
}

// walkCode visits what the code below the folder is made of, tests excluded.
func walkCode(t *testing.T, folder string, visit func(file string, at token.Position, n ast.Node)) {
	t.Helper()
	err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, file, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if n != nil {
				visit(file, files.Position(n.Pos()), n)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOutcomesAreDocumented(t *testing.T) {
	readme := readFile(t, "../../README.md")
	for _, o := range outcome.All {
		if !strings.Contains(readme, "| `"+string(o)+"` |") {
			t.Errorf("README.md has no line for the outcome %s", o)
		}
	}
}

// TestReasonsAreDocumented compares the reasons with the table of README.md.
func TestReasonsAreDocumented(t *testing.T) {
	_, table, _ := strings.Cut(readFile(t, "../../README.md"), "\n| reason |")
	table, _, _ = strings.Cut(table, "\n\n")
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		words, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		for _, word := range regexp.MustCompile("`[a-z-]+`").FindAllString(words, -1) {
			documented[strings.Trim(word, "`")] = true
		}
	}
	for _, word := range reasons(t) {
		if word != "" && !documented[word] {
			t.Errorf("README.md has no line for the reason %s", word)
		}
		delete(documented, word)
	}
	for word := range documented {
		t.Errorf("README.md tells of the reason %s, which does not exist", word)
	}
}

// reasons returns the words of the vocabulary.
func reasons(t *testing.T) (words []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../edge/outcome/outcome.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				words = append(words, strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
			}
		}
		return true
	})
	if len(words) == 0 {
		t.Fatal("there are no reasons")
	}
	return words
}

// TestReasonsAreOfTheVocabulary asks that no reason is written down but as one of
// the constants: a literal, or a text turned into a reason, would be a word that no
// table knows.
func TestReasonsAreOfTheVocabulary(t *testing.T) {
	holders := regexp.MustCompile(`^(reason|Reason|why|Refusal|NoOrigin|Barred|Waited)$`)
	takers := regexp.MustCompile(`^x\.(refuse|shed|fail|cancel|wait|entry)|l\.(end|fall)$`) // of exchanges and ladders
	literal := func(e ast.Expr) bool {
		lit, ok := e.(*ast.BasicLit)
		return ok && lit.Kind == token.STRING && lit.Value != `""`
	}
	seen := 0
	for _, folder := range []string{".", "../../edge", "../../origin"} {
		walkCode(t, folder, func(file string, at token.Position, n ast.Node) {
			switch n := n.(type) {
			case *ast.CallExpr:
				called, ok := n.Fun.(*ast.SelectorExpr)
				if !ok {
					return
				}
				name := lastName(called.X) + "." + called.Sel.Name
				if name == "outcome.Reason" {
					t.Errorf("%s:%d: a text is turned into a reason", file, at.Line)
				}
				for _, arg := range n.Args {
					if takers.MatchString(name) && literal(arg) {
						t.Errorf("%s:%d: %s is given a text", file, at.Line, name)
					}
				}
			case *ast.KeyValueExpr:
				if holders.MatchString(lastName(n.Key)) && literal(n.Value) {
					t.Errorf("%s:%d: %s is a text", file, at.Line, lastName(n.Key))
				}
			case *ast.SelectorExpr:
				if lastName(n.X) == "outcome" {
					seen++
				}
			}
		})
	}
	if seen == 0 {
		t.Error("no code uses the vocabulary")
	}
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestCommandsOfDocumentsExist looks up each command that the papers tell people to
// type, with its flags.
func TestCommandsOfDocumentsExist(t *testing.T) {
	typed := regexp.MustCompile("(?:`|^    |^    sudo |\"sudo |#   )(?:sudo )?spillway ([a-z][^`|#\"]*)")
	seen := 0
	for _, file := range []string{"../../README.md", "../../SECURITY.md", "../../edge/README.md", "../../config/install.yaml"} {
		for line := range strings.Lines(readFile(t, file)) {
			for _, match := range typed.FindAllStringSubmatch(line, -1) {
				seen++
				if bad := unknownIn(strings.Fields(match[1])); bad != "" {
					t.Errorf("%s: spillway %s: %s", file, strings.TrimSpace(match[1]), bad)
				}
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d commands were found", seen)
	}
}

// unknownIn says what the program does not know of a command line, or nothing.
func unknownIn(words []string) string {
	for i, word := range words { // several that are named at once stand for the first
		words[i], _, _ = strings.Cut(strings.TrimRight(word, ",.;)"), "|")
	}
	cmd, rest, err := newRootCommand().Find(words)
	if err != nil {
		return err.Error()
	}
	for _, word := range rest {
		name, isFlag := strings.CutPrefix(word, "--")
		if name, _, _ = strings.Cut(name, "="); isFlag && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
			return "there is no flag " + word
		}
	}
	if cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") && cmd.Args(cmd, rest[:1]) != nil {
		return "there is no command " + rest[0]
	}
	return ""
}
