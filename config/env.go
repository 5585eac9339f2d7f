package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Prefix starts the name of each environment variable that is a setting. The
// levels of a key are parted by two underscores: SPILLWAY_CACHE__MEMORY is
// cache.memory, SPILLWAY_SITES__0__HOSTS is sites[0].hosts.
const Prefix = "SPILLWAY_"

// notSettings are the variables with the prefix that steer tests.
var notSettings = []string{"SPILLWAY_REQUIRE", "SPILLWAY_NETNS"}

// overlay puts the settings of the environment over those of the file.
func (c *checker) overlay(fields []*field, environ []string) {
	environ = slices.Sorted(slices.Values(environ)) // so that an entry comes before what is below it
	for _, variable := range environ {
		name, text, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, Prefix) || slices.Contains(notSettings, name) {
			continue
		}
		path := strings.Split(strings.ToLower(strings.TrimPrefix(name, Prefix)), "__")
		c.override(fields, path, place{variable: name}, text)
	}
}

// override finds the place of the variable in the tree and puts its value
// there.
func (c *checker) override(fields []*field, path []string, at place, text string) {
	n, key := c.root, ""
	group := &field{typ: reflect.TypeFor[struct{}](), fields: fields}
	for i, level := range path {
		f, name := c.descend(group, n, level, key, at)
		if f == nil {
			return
		}
		if n.kind == list {
			key += "[" + name + "]"
		} else {
			key = join(key, name)
		}
		if i == len(path)-1 {
			put(n, name, at, c.envValue(f, text, at))
			return
		}
		if f.fields == nil && f.elem == nil {
			c.addAt(at, key, "nothing stands below this setting", "set "+variable(key))
			return
		}
		n, group = open(n, name, f, at), f
	}
}

// descend finds the field of one level of a variable's name, and the name of
// the level in the tree.
func (c *checker) descend(group *field, n *node, level, key string, at place) (*field, string) {
	switch group.typ.Kind() {
	case reflect.Struct:
		if f := named(group.fields, level); f != nil {
			return f, level
		}
		c.addAt(at, join(key, level), "no setting has this name",
			cmp.Or(c.meantVariable(at.variable), "names are as "+Prefix+"CACHE__MEMORY, with two underscores between levels"))
	case reflect.Map:
		for _, e := range n.entries {
			if strings.EqualFold(strings.ReplaceAll(e.name, "-", "_"), level) {
				return group.elem, e.name
			}
		}
		return group.elem, level
	case reflect.Slice:
		// A mapping where the list should be is reported when the tree is checked.
		if i, err := strconv.Atoi(level); err == nil && i >= 0 && i < len(n.items) {
			return group.elem, level
		}
		c.addAt(at, key, fmt.Sprintf("%q is not the number of an entry", level), fmt.Sprintf("entries count from 0, and there are %d", len(n.items)))
	}
	return nil, ""
}

// meantVariable is meant for the names of variables.
func (c *checker) meantVariable(name string) string {
	near := nearest(strings.TrimPrefix(name, Prefix), c.variables())
	if near == "" {
		return ""
	}
	return "did you mean " + Prefix + near + "?"
}

// variables lists the names of all variables that settings could have, without
// the prefix.
func (c *checker) variables() []string {
	var all []string
	var walk func(f *field, n *node, key string)
	walk = func(f *field, n *node, key string) {
		if key != "" {
			all = append(all, strings.TrimPrefix(variable(key), Prefix))
		}
		for _, inner := range f.fields {
			walk(inner, n.get(inner.name), join(key, inner.name))
		}
		if n == nil || f.elem == nil {
			return
		}
		for _, e := range n.entries {
			walk(f.elem, e.value, join(key, e.name))
		}
		for i, item := range n.items {
			walk(f.elem, item, index(key, i))
		}
	}
	walk(&field{fields: schema(reflect.TypeFor[Config]())}, c.root, "")
	return all
}

// variable returns the name of the variable that a setting could have.
func variable(key string) string {
	return Prefix + strings.ToUpper(strings.NewReplacer(".", "__", "[", "__", "]", "", "-", "_").Replace(key))
}

// open returns the node of the name, made into a group when it is none.
func open(n *node, name string, f *field, at place) *node {
	var inner *node
	if n.kind == list {
		i, _ := strconv.Atoi(name)
		inner = n.items[i]
	} else {
		inner = n.get(name)
	}
	switch {
	case inner != nil && (inner.kind == mapping || inner.kind == list):
		return inner
	case f.typ.Kind() == reflect.Slice:
		return &node{kind: list} // without entries, so that none is found
	}
	inner = &node{kind: mapping, at: at}
	put(n, name, at, inner)
	return inner
}

func put(n *node, name string, at place, value *node) {
	if n.kind == list {
		i, _ := strconv.Atoi(name)
		n.items[i] = value
		return
	}
	n.kind = mapping
	n.set(entry{name, at, value})
}

// envValue reads the text of a variable: plain for a single value, parted by
// commas for a list, YAML for anything deeper.
func (c *checker) envValue(f *field, text string, at place) *node {
	group := f.fields != nil && !(f.auto && text == "auto") || f.typ.Kind() == reflect.Map
	several := f.typ.Kind() == reflect.Slice
	switch {
	case group || several && (f.elem.fields != nil || strings.HasPrefix(strings.TrimSpace(text), "[")):
		return flow(text, at, c.report)
	case several:
		n := &node{kind: list, at: at}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				n.items = append(n.items, &node{kind: scalar, text: item, at: at})
			}
		}
		return n
	}
	return &node{kind: scalar, text: text, at: at}
}

// flow reads a value of YAML that stands outside of the file. Everything in it
// stands at the same place.
func flow(text string, at place, r *report) *node {
	inner := newReport("", nil)
	n, _ := parseYAML([]byte(text), inner)
	for _, p := range inner.problems {
		r.addAt(at, p.Key, p.Message, p.Remedy)
	}
	n.move(at)
	return n
}

func (n *node) move(at place) {
	n.at = at
	for _, item := range n.items {
		item.move(at)
	}
	for i := range n.entries {
		n.entries[i].at = at
		n.entries[i].value.move(at)
	}
}
