package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestBill reads a small program of the repository, with modules in it.
func TestBill(t *testing.T) {
	file := filepath.Join(t.TempDir(), "thumbnail")
	output(t, "go", "build", "-o", file, "spillway/cmd/thumbnail")
	b, err := newBill(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("tells of every module", func(t *testing.T) { checkModules(t, file, b) })
	t.Run("names the file", func(t *testing.T) { checkFile(t, file, b) })
	t.Run("keeps to the schema", func(t *testing.T) { checkSchema(t, b) })
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// checkModules compares the bill with what the go command says of the program.
func checkModules(t *testing.T, file string, b *bill) {
	var want []component
	for line := range strings.Lines(output(t, "go", "version", "-m", file)) {
		fields := strings.Fields(line)
		switch {
		case len(want) == 0: // FILE: go1.26.8
			version := strings.TrimPrefix(fields[1], "go")
			want = append(want, component{Type: "library", Ref: "std", Name: "std", Version: version, PURL: "pkg:golang/std@" + version})
		case fields[0] == "dep":
			purl := "pkg:golang/" + fields[1] + "@" + fields[2]
			want = append(want, component{
				Type: "library", Ref: purl, Name: fields[1], Version: fields[2], PURL: purl, Properties: []property{{"go:sum", fields[3]}},
			})
		}
	}
	if len(want) < 3 || !reflect.DeepEqual(b.Components, want) {
		t.Errorf("the bill has\n%+v\nand the go command says\n%+v", b.Components, want)
	}
}

// checkFile asks for its name and the hash of its bytes.
func checkFile(t *testing.T, file string, b *bill) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	c := b.Metadata.Component
	if want := []hash{{"SHA-256", hex.EncodeToString(sum.Sum(nil))}}; c.Name != filepath.Base(file) || !slices.Equal(c.Hashes, want) {
		t.Errorf("%+v, want %s with %v", c, filepath.Base(file), want)
	}
	if !slices.Contains(c.Properties, property{"go:build:GOOS", runtime.GOOS}) {
		t.Errorf("%v do not name the system", c.Properties)
	}
}

// An object is what the schema of CycloneDX 1.5 says of one: the forms of its
// fields, and which of them must be there. Others are not allowed.
type object struct {
	required []string
	fields   map[string]any // an object, a list with the one for its entries, or a form
}

var (
	anyText = form(`".+"`)
	hashes  = object{[]string{"alg", "content"}, map[string]any{"alg": form(`"SHA-256"`), "content": form(`"[0-9a-f]{64}"`)}}
	named   = object{nil, map[string]any{"name": anyText, "value": form(`".*"`)}}
	part    = object{[]string{"type", "name"}, map[string]any{
		"type": form(`"(application|library)"`), "bom-ref": anyText, "name": anyText, "version": anyText,
		"purl": form(`"pkg:golang/[^@"]+@[^@"]+"`), "hashes": []object{hashes}, "properties": []object{named},
	}}
	whole = object{[]string{"bomFormat", "specVersion"}, map[string]any{
		"bomFormat": form(`"CycloneDX"`), "specVersion": form(`"1\.5"`), "version": form(`[1-9]\d*`),
		"metadata": object{nil, map[string]any{"component": part}}, "components": []object{part},
	}}
)

// form is that of the JSON text of a value.
func form(pattern string) *regexp.Regexp { return regexp.MustCompile("^" + pattern + "$") }

// check compares JSON with what may be there.
func (o object) check(t *testing.T, where string, text json.RawMessage) {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	for _, name := range o.required {
		if fields[name] == nil {
			t.Errorf("%s has no %s", where, name)
		}
	}
	for name, value := range fields {
		switch want := o.fields[name].(type) {
		case object:
			want.check(t, where+"."+name, value)
		case []object:
			var list []json.RawMessage
			if err := json.Unmarshal(value, &list); err != nil {
				t.Errorf("%s.%s: %v", where, name, err)
			}
			for _, entry := range list {
				want[0].check(t, where+"."+name, entry)
			}
		case *regexp.Regexp:
			if !want.Match(value) {
				t.Errorf("%s.%s is %s", where, name, value)
			}
		default:
			t.Errorf("%s.%s is not in the schema", where, name)
		}
	}
}

// checkSchema asks that what is required is there, nothing else is, and that each
// reference names one component.
func checkSchema(t *testing.T, b *bill) {
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	whole.check(t, "bill", text)
	seen := map[string]bool{}
	for _, c := range append(b.Components, b.Metadata.Component) {
		if seen[c.Ref] {
			t.Errorf("two components are %s", c.Ref)
		}
		seen[c.Ref] = true
	}
}

func TestNoBillOfOtherFiles(t *testing.T) {
	if b, err := newBill("main.go"); err == nil {
		t.Errorf("main.go is made of %+v", b)
	}
}
