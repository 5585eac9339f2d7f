package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// checker holds a tree against the schema: it knows every key, converts every
// value to the type of its field, fills in defaults, and reports what does not
// fit.
type checker struct {
	*report
	environ   []string
	dir       string            // of the file; relative file names start there
	root      *node             // what references look into
	effective map[string]string // every setting in force, by its full name
}

// group checks the keys of a struct and returns its values by key.
func (c *checker) group(fields []*field, n *node, key string) map[string]any {
	values := map[string]any{}
	if n != nil && n.kind != mapping && n.kind != null {
		c.add(key, "this wants keys of its own, not "+n.kind.String(), "write them below it; keys are "+strings.Join(names(fields, ""), ", "))
		return values
	}
	provider := ""
	if p, f := n.get("provider"), named(fields, "provider"); p != nil && f != nil && slices.Contains(f.enum, p.text) {
		provider = p.text // of an unknown one, no key is known to be wrong
	}
	c.known(fields, n, key, provider)
	for _, f := range fields {
		if f.provider != "" && f.provider != provider {
			continue
		}
		if v, ok := c.setting(f, n.get(f.name), join(key, f.name)); ok {
			values[f.name] = v
		}
	}
	return values
}

// known notes where each key stands, and reports those that the schema does not
// have.
func (c *checker) known(fields []*field, n *node, key, provider string) {
	if n == nil {
		return
	}
	for _, e := range n.entries {
		full := join(key, e.name)
		if find(fields, e.name, provider) != nil {
			c.places[full] = e.place()
			continue
		}
		c.places[full] = e.at
		switch f := named(fields, e.name); {
		case f == nil:
			c.add(full, "no setting has this name", meantOr(e.name, names(fields, provider), "keys here are "))
		case provider != "":
			c.add(full, fmt.Sprintf("this key belongs to provider %s, not to %s", oneOf(providers(fields, e.name)), provider), "remove it")
		}
	}
}

// setting checks one setting. It returns false when the setting is absent and
// has no default, and when it is wrong.
func (c *checker) setting(f *field, n *node, key string) (any, bool) {
	if n == nil {
		return c.absent(f, key)
	}
	if n.kind == broken {
		return nil, false
	}
	switch f.typ.Kind() {
	case reflect.Struct:
		if f.auto && n.kind == scalar && n.text == "auto" {
			n = nil
		}
		return c.group(f.fields, switched(f, n), key), true
	case reflect.Map:
		return c.table(f, n, key)
	case reflect.Slice:
		return c.list(f, n, key)
	}
	return c.scalar(f, n, key)
}

// switched returns what the words off and on, or false and true, stand for where
// keys could be: the setting that switches the group off, or all of its defaults.
func switched(f *field, n *node) *node {
	if f.toggle == "" || n.kind != scalar {
		return n
	}
	group := &node{kind: mapping, at: n.at}
	switch n.text {
	case "off", "false":
		group.set(entry{f.toggle, n.at, &node{kind: scalar, text: "true", at: n.at}})
	case "on", "true":
	default:
		return n
	}
	return group
}

// absent returns the default of a setting that the file does not have.
func (c *checker) absent(f *field, key string) (any, bool) {
	switch {
	case f.required:
		c.add(key, "this key is missing", "add "+f.written())
	case f.typ.Kind() == reflect.Struct && !f.pointer:
		return c.group(f.fields, nil, key), true
	case f.hasStd:
		return c.setting(f, standard(f), key)
	}
	return nil, false
}

// standard returns the default of the field as if it stood in the file.
func standard(f *field) *node {
	if f.typ.Kind() == reflect.Slice {
		return flow(f.standard, place{}, newReport("", nil))
	}
	return &node{kind: scalar, text: f.standard}
}

// table checks a map from names to settings.
func (c *checker) table(f *field, n *node, key string) (any, bool) {
	if n.kind != mapping && n.kind != null {
		c.add(key, "this wants names with settings below them, not "+n.kind.String(), "write "+f.written())
		return nil, false
	}
	if f.required && len(n.entries) == 0 {
		c.add(key, "this must not be empty", "write "+f.written())
		return nil, false
	}
	values := map[string]any{}
	for _, e := range n.entries {
		full := join(key, e.name)
		c.places[full] = e.place()
		if bad := checkName(e.name, f.elem.format); bad != nil {
			c.addAt(e.at, full, bad.message, bad.remedy)
			continue
		}
		if v, ok := c.setting(f.elem, e.value, full); ok {
			values[e.name] = v
		}
	}
	return values, true
}

// list checks a list of settings.
func (c *checker) list(f *field, n *node, key string) (any, bool) {
	if n.kind == scalar || n.kind == mapping {
		c.add(key, "this wants a list", listRemedy(f, n))
		return nil, false
	}
	if f.required && len(n.items) == 0 {
		c.add(key, "this must not be empty", "write "+f.written())
		return nil, false
	}
	values := []any{}
	for i, item := range n.items {
		full := index(key, i)
		c.places[full] = item.at
		if v, ok := c.setting(f.elem, item, full); ok {
			values = append(values, v)
		}
	}
	return values, true
}

func listRemedy(f *field, n *node) string {
	if n.kind == scalar && f.elem.fields == nil {
		return fmt.Sprintf("write [%s]", n.text)
	}
	return "put a dash before each entry"
}

// scalar checks a single value.
func (c *checker) scalar(f *field, n *node, key string) (any, bool) {
	switch {
	case n.kind == null:
		c.add(key, "this key has no value", "give it one, or remove the key")
		return nil, false
	case n.kind != scalar:
		c.add(key, "this wants a single value, not "+n.kind.String(), "write "+f.written())
		return nil, false
	case f.required && n.text == "":
		c.add(key, "this must not be empty", "write "+f.written())
		return nil, false
	}
	if f.format == "secret" && !refersElsewhere(n.text) {
		c.hide(n.at.line)
	}
	v, bad := c.convert(f, n.text)
	if bad == nil {
		bad = c.reference(f, n.text)
	}
	if bad != nil {
		c.add(key, bad.message, bad.remedy)
		return nil, false
	}
	c.effective[key] = n.text
	if v != nil {
		c.effective[key] = fmt.Sprint(v)
	}
	return v, v != nil
}

// reference checks that the entry that the value names exists.
func (c *checker) reference(f *field, name string) *fault {
	if f.ref == "" || name == "" {
		return nil
	}
	table := c.root.get(f.ref)
	if table.entry(name) != nil {
		return nil
	}
	var have []string
	if table != nil {
		for _, e := range table.entries {
			have = append(have, e.name)
		}
	}
	remedy := meant(name, have)
	if remedy == "" {
		remedy = fmt.Sprintf("add %s under %s", name, f.ref)
		if len(have) > 0 {
			remedy += ", which has " + strings.Join(have, ", ")
		}
	}
	return faultf(remedy, "%s has no entry %q", f.ref, name)
}
