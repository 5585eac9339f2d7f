package config

import (
	"reflect"
	"strings"
)

// field is one setting, or a group of settings, as its owner declares it in the
// tags of its Config struct.
type field struct {
	name     string
	typ      reflect.Type // of the value, without the pointer
	pointer  bool
	provider string // the function provider that the field belongs to; empty for all
	unit     string // bytes, duration, ratio, money, or empty
	auto     bool   // the word auto stands for the zero value, or a struct of defaults
	format   string
	off      bool // the word off is allowed beside the format
	standard string
	hasStd   bool // a default is given: standard
	min, max string
	enum     []string
	ref      string // the top-level map that the value names an entry of
	required bool
	toggle   string   // of a struct: the setting in it that the words off and on are for
	fields   []*field // of a struct
	elem     *field   // of a list or a map
}

// schema returns the settings of a Config struct in the order of declaration;
// squashed structs are melted in.
func schema(t reflect.Type) []*field {
	var all []*field
	for sf := range t.Fields() {
		name, option, _ := strings.Cut(sf.Tag.Get("koanf"), ",")
		switch {
		case option == "squash":
			inner := schema(sf.Type)
			for _, f := range inner {
				if p := sf.Tag.Get("provider"); p != "" {
					f.provider = p
				}
			}
			all = append(all, inner...)
		case name != "":
			all = append(all, newField(name, sf))
		}
	}
	return all
}

func newField(name string, sf reflect.StructField) *field {
	f := &field{name: name, typ: sf.Type, ref: sf.Tag.Get("ref"), required: sf.Tag.Get("required") == "true", toggle: sf.Tag.Get("switch")}
	f.standard, f.hasStd = sf.Tag.Lookup("default")
	f.min, f.max = sf.Tag.Get("min"), sf.Tag.Get("max")
	if words := sf.Tag.Get("enum"); words != "" {
		f.enum = strings.Split(words, ",")
	}
	for word := range strings.SplitSeq(sf.Tag.Get("unit"), ",") {
		if word == "auto" {
			f.auto = true
		} else {
			f.unit = word
		}
	}
	f.format, f.off = strings.CutSuffix(sf.Tag.Get("format"), ",off")
	if f.typ.Kind() == reflect.Pointer {
		f.typ, f.pointer = f.typ.Elem(), true
	}
	switch f.typ.Kind() {
	case reflect.Struct:
		f.fields = schema(f.typ)
	case reflect.Slice, reflect.Map:
		elem := *f
		elem.typ, elem.hasStd, elem.required, elem.pointer = f.typ.Elem(), false, false, false
		if elem.typ.Kind() == reflect.Struct {
			elem.fields = schema(elem.typ)
		}
		f.elem = &elem
	}
	return f
}

// find returns the field of the name that belongs to the provider or to all.
func find(fields []*field, name, provider string) *field {
	for _, f := range fields {
		if f.name == name && (f.provider == "" || f.provider == provider) {
			return f
		}
	}
	return nil
}

// named returns a field of the name, whatever provider it belongs to.
func named(fields []*field, name string) *field {
	for _, f := range fields {
		if f.name == name {
			return f
		}
	}
	return nil
}

// providers lists the function providers that have a setting of the name.
func providers(fields []*field, name string) []string {
	var all []string
	for _, f := range fields {
		if f.name == name && f.provider != "" {
			all = append(all, f.provider)
		}
	}
	return all
}

// names lists the names of the fields that belong to the provider or to all.
func names(fields []*field, provider string) []string {
	var all []string
	for _, f := range fields {
		if f.provider == "" || f.provider == provider {
			all = append(all, f.name)
		}
	}
	return all
}
