package main

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestStateHasOneStyleOfKeys walks what /status answers.
func TestStateHasOneStyleOfKeys(t *testing.T) {
	plain := regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(typ.Elem(), path)
		case reflect.Struct:
			if typ == reflect.TypeFor[time.Time]() {
				return
			}
			for f := range typ.Fields() {
				key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				melted := f.Anonymous && key == "" // its keys stand beside the others
				if f.IsExported() && key != "-" && !melted && !plain.MatchString(key) {
					t.Errorf("%s.%s has the key %q", path, f.Name, key)
				}
				walk(f.Type, path+"."+f.Name)
			}
		}
	}
	walk(reflect.TypeFor[nodeState](), "state")
}
