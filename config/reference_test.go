package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// optional is a key that the reference leaves out: a # without a space.
var optional = regexp.MustCompile(`(?m)^(\s*)#([a-z_0-9]+:)`)

func readReference(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("spillway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestReferenceLoads(t *testing.T) {
	if _, err := Load("spillway.yaml", nil); err != nil {
		t.Error(err)
	}
}

// documented holds what the reference says of a key.
type documented struct {
	values []string
	line   string // as written, with the comment
}

func TestReferenceDocumentsEveryKey(t *testing.T) {
	data := optional.ReplaceAll(readReference(t), []byte("$1$2"))
	r := newReport("spillway.yaml", data)
	file, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	// The tree drops keys that stand twice; here, limit and ramp show both of their forms.
	root := (&treeBuilder{report: r}).node(file.Docs[0].Body, "")
	keys := map[string]*documented{}
	collect(keys, schema(reflect.TypeFor[Config]()), root, "", r.lines)
	for _, p := range r.problems {
		if !strings.Contains(p.Message, "stands twice") {
			t.Error(p)
		}
	}
	// What is auto stands twice: as a word, and as a struct.
	for key, defaults := range map[string][][2]string{
		"origins.limit": {{"min", "1"}, {"max", "10000"}}, "functions.ramp": {{"burst", "auto"}, {"per_second", "auto"}},
	} {
		var fields []string
		for _, d := range defaults {
			keys[join(key, d[0])] = &documented{values: []string{d[1]}}
			fields = append(fields, d[0]+": "+d[1])
		}
		_, name, _ := strings.Cut(key, ".")
		if !strings.Contains(string(data), name+": {"+strings.Join(fields, ", ")+"}") {
			t.Errorf("%s is not documented as a struct with its defaults", key)
		}
	}

	each(schema(reflect.TypeFor[Config]()), "", func(key string, f *field) {
		d := keys[key]
		switch {
		case d == nil:
			t.Errorf("%s is not documented in spillway.yaml", key)
		case f.hasStd && !slices.Contains(d.values, f.standard) && !strings.Contains(d.line, "default: "+f.standard):
			t.Errorf("%s: spillway.yaml says %v; the default is %s", key, d.values, f.standard)
		}
	})
}

// collect notes every key of the tree by its name in the schema, without the
// names of entries.
func collect(keys map[string]*documented, fields []*field, n *node, key string, lines []string) {
	for _, e := range n.entries {
		f := named(fields, e.name)
		if f == nil {
			continue
		}
		full := join(key, e.name)
		if keys[full] == nil {
			keys[full] = &documented{}
		}
		d := keys[full]
		d.values = append(d.values, written(e.value))
		d.line += lines[e.at.line-1] + "\n"
		// The comment above may carry on to the line.
		if e.at.line > 1 {
			d.line += lines[e.at.line-2]
		}
		collect(keys, f.fields, e.value, full, lines)
		if f.elem != nil {
			for _, item := range e.value.items {
				collect(keys, f.elem.fields, item, full, lines)
			}
			for _, entry := range e.value.entries {
				collect(keys, f.elem.fields, entry.value, full, lines)
			}
		}
	}
}

func written(n *node) string {
	if n.kind != list {
		return n.text
	}
	var items []string
	for _, item := range n.items {
		items = append(items, item.text)
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func TestReferenceSaysWhatKeysAreFor(t *testing.T) {
	lines := strings.Split(string(readReference(t)), "\n")
	for i, line := range lines {
		bare := strings.TrimSpace(line)
		name, value, isKey := strings.Cut(strings.TrimPrefix(bare, "#"), ":")
		if !isKey || strings.HasPrefix(bare, "# ") || strings.TrimSpace(value) == "" || strings.Contains(name, " ") {
			continue
		}
		above := i > 0 && strings.HasPrefix(strings.TrimSpace(lines[i-1]), "#")
		if !above && !strings.Contains(value, " # ") {
			t.Errorf("spillway.yaml:%d: nothing says what %s is for", i+1, name)
		}
	}
}

// smallest is the configuration of the README.
const smallest = `tls: { self_signed: true }
origins: { app: { servers: ["http://10.0.0.5:8080"] } }
functions: { thumb: { provider: process, function: thumb } }
sites:
  - hosts: [img.example.com]
    routes:
      - { origin: app, overflow: { to: [thumb] } }
`

func TestSmallestUsefulFile(t *testing.T) {
	if lines := strings.Count(smallest, "\n"); lines > 10 {
		t.Errorf("it has %d lines", lines)
	}
	c, err := Parse("spillway.yaml", []byte(smallest), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Edge.Listen != ":443" || c.Sites[0].Routes[0].Overflow.To[0] != "thumb" {
		t.Errorf("%+v", c)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), smallest) {
		t.Error("the README shows another smallest configuration")
	}
}
