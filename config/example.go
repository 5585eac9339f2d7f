package config

import (
	"cmp"
	"reflect"
	"strings"
)

// written shows how the setting is written, for the remedy of one that is
// missing. What the operator has to think of stands in capitals.
func (f *field) written() string { return f.name + ": " + f.example() }

func (f *field) example() string {
	switch f.typ.Kind() {
	case reflect.Struct:
		return "{" + strings.Join(essential(f.fields), ", ") + "}"
	case reflect.Map:
		if f.elem.fields == nil {
			return "{NAME: VALUE}"
		}
		return "{NAME: " + f.elem.example() + "}"
	case reflect.Slice:
		return "[" + f.elem.example() + "]"
	case reflect.Bool:
		return "true"
	case reflect.Int, reflect.Int64, reflect.Float64:
		return f.number()
	}
	switch {
	case f.enum != nil:
		return oneOf(f.enum)
	case f.format != "":
		return map[string]string{
			"address": `":443"`, "server": "http://10.0.0.5:8080", "admin": "unix:/run/spillway/admin.sock", "url": "http://10.0.0.5:8080",
			"path": "/PATH", "target": "/PATH", "file": "/etc/spillway/FILE", "glob": "/*", "method": "GET", "prefix": "10.0.0.0/8", "secret": "env:NAME", "time": "2026-12-01T18:00Z",
		}[f.format]
	}
	return strings.ToUpper(strings.TrimSuffix(cmp.Or(f.ref, f.name), "s"))
}

// number is an example of a number with its unit.
func (f *field) number() string {
	switch {
	case f.hasStd:
		return f.standard
	case f.min != "":
		return f.min
	}
	return map[string]string{"bytes": "64MiB", "duration": "5s", "ratio": "80%", "money": "$2", "": "1"}[f.unit]
}

// essential shows the settings that a group cannot be without. Those of
// providers are left out: which ones are needed is not known yet.
func essential(fields []*field) []string {
	var all []string
	for _, f := range fields {
		if f.required && f.provider == "" {
			all = append(all, f.written())
		}
	}
	if len(all) == 0 {
		return []string{fields[0].written()}
	}
	return all
}

// allowed says what a number may be.
func (f *field) allowed() string {
	switch {
	case f.min != "" && f.max != "":
		return f.min + " to " + f.max
	case f.min != "":
		return f.min + " or more"
	case f.max != "":
		return "at most " + f.max
	}
	return "a number such as " + f.number()
}
