package config

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxNodes bounds what aliases may blow a file up to; not a knob. A node with a
// thousand sites stays far below it.
const maxNodes = 200_000

type kind int

const (
	broken kind = iota // reported already
	null
	scalar
	list
	mapping
)

// String names the kind as a problem does.
func (k kind) String() string {
	return [...]string{"this", "nothing", "a value", "a list", "keys"}[k]
}

// node is a value of the configuration as written, before its type is known.
type node struct {
	kind    kind
	text    string // of a scalar
	at      place
	items   []*node // of a list
	entries []entry // of a mapping, in the order of the file, without duplicates
	byName  map[string]int
}

type entry struct {
	name  string
	at    place // of the name
	value *node
}

// place is where to point for what is wrong with the value: at the value itself
// when it is short, else at its name.
func (e entry) place() place {
	if e.value.kind == scalar {
		return e.value.at
	}
	return e.at
}

// entry returns the entry of the name, or nil.
func (n *node) entry(name string) *entry {
	if n == nil {
		return nil
	}
	if i, ok := n.byName[name]; ok {
		return &n.entries[i]
	}
	return nil
}

// get returns the value of the name, or nil.
func (n *node) get(name string) *node {
	if e := n.entry(name); e != nil {
		return e.value
	}
	return nil
}

// set gives the name a value, in place of the one that it had.
func (n *node) set(e entry) {
	if old := n.entry(e.name); old != nil {
		*old = e
		return
	}
	if n.byName == nil {
		n.byName = map[string]int{}
	}
	n.byName[e.name] = len(n.entries)
	n.entries = append(n.entries, e)
}

// parseYAML reads one YAML document. What is wrong with its form goes to the
// report. It returns false when nothing could be read.
func parseYAML(data []byte, r *report) (*node, bool) {
	root := &node{kind: mapping}
	file, err := parse(data)
	if err != nil {
		r.addAt(syntaxError(err))
		return root, false
	}
	if len(file.Docs) > 1 {
		r.addAt(startOf(file.Docs[1]), "", "a second document starts here",
			"keep one: a file holds one configuration, without lines of --- or ...")
		return root, false
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return root, true
	}
	b := treeBuilder{report: r, anchors: map[string]ast.Node{}}
	return b.node(file.Docs[0].Body, ""), true
}

// parse guards against panics of the parser, and against texts that would take
// it long: the file comes from outside.
func parse(data []byte) (file *ast.File, err error) {
	if err := bound(data); err != nil {
		return nil, err
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("not YAML: %v", v)
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

func startOf(doc *ast.DocumentNode) place {
	if doc.Start == nil && doc.Body != nil {
		return placeOf(doc.Body.GetToken())
	}
	return placeOf(doc.Start)
}

func syntaxError(err error) (at place, key, message, remedy string) {
	if e, ok := errors.AsType[*excess](err); ok {
		return e.at, "", e.message, e.remedy
	}
	message = err.Error()
	if e, ok := errors.AsType[yaml.Error](err); ok {
		at, message = placeOf(e.GetToken()), e.GetMessage()
	}
	for _, s := range syntax {
		if strings.Contains(message, s.says) {
			return at, "", cmp.Or(s.message, message), s.remedy
		}
	}
	return at, "", message, "look at the brackets, quotes and indentation here and on the line above"
}

// syntax says in an operator's words what the parser says in its own. The first
// that fits counts.
var syntax = []struct{ says, message, remedy string }{
	{"'\t'", "a tab stands where YAML wants spaces", "indent with spaces"},
	{"tab character", "a tab stands where YAML wants spaces", "indent with spaces"},
	{"end character of", "the quote that opens here has no end", "close it, or remove it"},
	{"'}'", "the { before this has no end, or a comma is missing", "part entries by commas, and close it with }"},
	{"']'", "the [ before this has no end, or a comma is missing", "part entries by commas, and close it with ]"},
	{
		"mapping value is not allowed", "a second colon stands in this line, or it is indented unlike its group",
		"put a value that holds a colon in quotes, and indent the keys of a group alike",
	},
	{"value is not allowed", "this line is indented unlike its group", "indent the keys of a group alike"},
	{"non-map value", "this line is no key with a value", "write KEY: VALUE, with a space behind the colon"},
	{"reserved character", "", "put the value in quotes"},
	{"unexpected directive", "a value cannot begin with %", "put it in quotes"},
	{"invalid key", "this key is not a plain word", "write KEY: VALUE"},
	{"unexpected key name", "there is no key before the colon", "write KEY: VALUE"},
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{line: t.Position.Line, column: t.Position.Column}
}

// treeBuilder turns the syntax tree into nodes. Anchors, aliases and merge keys
// are resolved on the way.
type treeBuilder struct {
	report    *report
	anchors   map[string]ast.Node
	resolving []string // aliases being resolved, against cycles
	nodes     int
}

func (b *treeBuilder) node(n ast.Node, key string) *node {
	if b.nodes++; b.nodes > maxNodes {
		if b.nodes == maxNodes+1 {
			b.report.addAt(placeOf(n.GetToken()), key, "the aliases up to here stand for too many values", "write them out, or use fewer")
		}
		return &node{}
	}
	at := placeOf(n.GetToken())
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			at = placeOf(n.Values[0].Key.GetToken()) // its own token is the first colon
		}
		return b.mapping(n.Values, at, key)
	case *ast.MappingValueNode:
		return b.mapping([]*ast.MappingValueNode{n}, placeOf(n.Key.GetToken()), key)
	case *ast.SequenceNode:
		seq := &node{kind: list, at: at}
		for i, item := range n.Values {
			seq.items = append(seq.items, b.node(item, index(key, i)))
		}
		return seq
	case *ast.AnchorNode:
		b.anchors[n.Name.GetToken().Value] = n.Value
		return b.node(n.Value, key)
	case *ast.AliasNode:
		return b.alias(n, at, key)
	case *ast.NullNode:
		return &node{kind: null, at: at}
	case *ast.StringNode:
		return &node{kind: scalar, text: n.Value, at: at}
	case *ast.LiteralNode:
		return &node{kind: scalar, text: n.Value.Value, at: at}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return &node{kind: scalar, text: n.GetToken().Value, at: at}
	}
	b.report.addAt(at, key, fmt.Sprintf("YAML of the kind %s is not used here", n.Type()), "write a plain value")
	return &node{at: at}
}

func (b *treeBuilder) alias(n *ast.AliasNode, at place, key string) *node {
	name := n.Value.GetToken().Value
	target, known := b.anchors[name]
	for _, outer := range b.resolving {
		known = known && outer != name
	}
	if !known {
		b.report.addAt(at, key, fmt.Sprintf("no value is marked &%s before this line", name),
			fmt.Sprintf("mark one, or put the value in quotes if it begins with a star: \"*%s\"", name))
		return &node{at: at}
	}
	b.resolving = append(b.resolving, name)
	defer func() { b.resolving = b.resolving[:len(b.resolving)-1] }()
	return b.node(target, key)
}

func (b *treeBuilder) mapping(values []*ast.MappingValueNode, at place, key string) *node {
	m := &node{kind: mapping, at: at}
	var merges []*node
	for _, v := range values {
		nameAt := placeOf(v.Key.GetToken())
		if v.Key.IsMergeKey() {
			merges = append(merges, b.merged(v.Value, nameAt, key)...)
			continue
		}
		name, ok := keyText(v.Key)
		if !ok {
			b.report.addAt(nameAt, key, "this key is not a plain word", "write KEY: VALUE")
			continue
		}
		value := b.node(v.Value, join(key, name))
		if first := m.entry(name); first != nil {
			b.report.addAt(nameAt, join(key, name), fmt.Sprintf("this key stands twice; first on line %d", first.at.line), "keep one")
			continue
		}
		m.set(entry{name, nameAt, value})
	}
	// What stands in the mapping itself wins over what is merged into it.
	for _, merged := range merges {
		for _, e := range merged.entries {
			if m.entry(e.name) == nil {
				m.set(e)
			}
		}
	}
	return m
}

// merged returns the mappings that a merge key names: one, or a list of them.
func (b *treeBuilder) merged(n ast.Node, at place, key string) []*node {
	m := b.node(n, key)
	all := []*node{m}
	if m.kind == list {
		all = m.items
	}
	for _, m := range all {
		if m.kind != mapping && m.kind != broken {
			b.report.addAt(at, key, "<< takes in the keys of a group, and here is none", "write <<: *NAME, of a group that is marked &NAME")
			return nil
		}
	}
	return all
}

func keyText(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return k.GetToken().Value, true
	}
	return "", false
}

// join and index write the full name of a key.
func join(outer, name string) string {
	if outer == "" {
		return name
	}
	return outer + "." + name
}

func index(outer string, i int) string { return fmt.Sprintf("%s[%d]", outer, i) }
