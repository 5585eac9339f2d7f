package outcome

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// TestVocabulary asks that every word is a token that can stand bare in a
// structured field (RFC 9651 section 3.3.4), that no word means two things, and
// that All leaves no outcome out.
func TestVocabulary(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "outcome.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile(`^[a-z][a-z-]*$`)
	seen := map[string]bool{}
	outcomes := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil || len(spec.Values) == 0 {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		kind := spec.Type.(*ast.Ident).Name
		if kind == "Outcome" {
			outcomes++
			if !slices.Contains(All, Outcome(value)) {
				t.Errorf("All lacks %q", value)
			}
		}
		if spec.Names[0].Name != "None" && !word.MatchString(value) {
			t.Errorf("%s: %q is no bare word", spec.Names[0].Name, value)
		}
		if seen[kind+value] {
			t.Errorf("%q stands twice", value)
		}
		seen[kind+value] = true
		return true
	})
	if outcomes != len(All) || outcomes == 0 {
		t.Errorf("%d outcomes, %d in All", outcomes, len(All))
	}
}
