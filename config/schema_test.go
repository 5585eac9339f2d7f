package config

import (
	"reflect"
	"testing"
)

// each calls visit for every setting below fields, by its name in the schema.
func each(fields []*field, key string, visit func(key string, f *field)) {
	for _, f := range fields {
		full := join(key, f.name)
		visit(full, f)
		each(f.fields, full, visit)
		if f.elem != nil {
			each(f.elem.fields, full, visit)
		}
	}
}

func TestTagsAreSound(t *testing.T) {
	c := &checker{report: newReport("", nil), root: &node{kind: mapping}, effective: map[string]string{}}
	top := schema(reflect.TypeFor[Config]())
	each(top, "", func(key string, f *field) {
		defer func() {
			if v := recover(); v != nil {
				t.Errorf("%s: %v", key, v)
			}
		}()
		scalar := f
		if f.elem != nil {
			scalar = f.elem
		}
		if scalar.fields != nil || scalar.typ.Kind() == reflect.Map {
			return
		}
		if f.hasStd && f.ref == "" {
			c.setting(f, standard(f), key)
		}
		if f.ref != "" && named(top, f.ref) == nil {
			t.Errorf("%s refers to %s, which does not exist", key, f.ref)
		}
		if scalar.min != "" {
			c.bound(scalar, scalar.min)
		}
		if scalar.max != "" {
			c.bound(scalar, scalar.max)
		}
		switch scalar.unit {
		case "", "bytes", "duration", "ratio", "money":
		default:
			t.Errorf("%s has the unknown unit %s", key, scalar.unit)
		}
		c.form(scalar.format, "/x") // panics for an unknown form
	})
	for _, p := range c.problems {
		t.Errorf("the default does not pass: %s", p)
	}
}
