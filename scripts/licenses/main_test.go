package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What tells the licences apart, in the lines that their texts are broken into.
const (
	mit    = "Permission is hereby granted, free of\ncharge, to any person obtaining a copy"
	apache = "                              Apache License\n                        Version 2.0, January 2004"
	bsd2   = "Redistribution and use in source and binary forms, with or\nwithout modification, are permitted"
	bsd3   = bsd2 + "\n * Neither the name of the author"
	isc    = "Permission to use, copy, modify, and/or distribute this software"
	gpl    = "GNU GENERAL PUBLIC LICENSE"
	mpl    = "Mozilla Public License Version 2.0"
)

// graph is a program with modules beside it, which need no network.
func graph(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	program := map[string]string{
		"go.mod": `module program.test
go 1.26
require (
	a.test/one v1.2.3
	b.test/two v0.1.0
	c.test/unused v1.0.0
	d.test/tested v1.0.0
)
replace (
	a.test/one => ./one
	b.test/two => ./two
	c.test/unused => ./unused
	d.test/tested => ./tested
)
`,
		"main.go":       "package main\nimport _ \"a.test/one\"\nfunc main() {}\n",
		"main_test.go":  "package main\nimport _ \"d.test/tested\"\n",
		"one/go.mod":    "module a.test/one\ngo 1.26\nrequire b.test/two v0.1.0\n",
		"one/one.go":    "package one\nimport _ \"b.test/two/inner\"\n",
		"two/go.mod":    "module b.test/two\ngo 1.26\n",
		"unused/go.mod": "module c.test/unused\ngo 1.26\n",
		"tested/go.mod": "module d.test/tested\ngo 1.26\n",
		"tested/t.go":   "package tested\n",
		// A package inside is linked, and the licence is that of the module.
		"two/inner/inner.go": "package inner\n",
	}
	for _, all := range []map[string]string{program, files} {
		for name, text := range all {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOPROXY", "off")
	t.Chdir(dir)
}

// TestEveryLinkedModule: of each module that is linked, directly or by another, the
// licence and the notices are found, and of no other.
func TestEveryLinkedModule(t *testing.T) {
	graph(t, map[string]string{"one/LICENSE.md": mit, "two/COPYING": apache, "two/NOTICE.txt": "two, made by us"})
	modules, err := linked(".")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range modules {
		got = append(got, m.license+" "+m.path+" "+m.version)
	}
	if want := []string{"BSD-3-Clause std ", "MIT a.test/one v1.2.3", "Apache-2.0 b.test/two v0.1.0"}; !slices.Equal(got, want) {
		t.Fatalf("linked %q, want %q", got, want)
	}
	var out strings.Builder
	list(&out, modules)
	for _, text := range []string{"\nMIT\ta.test/one\tv1.2.3\n", "\nApache-2.0\tb.test/two\tv0.1.0\n", mit, strings.TrimSpace(apache), "two, made by us"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("the list has no %q", text)
		}
	}
}

// TestUnknownLicences are for a human to look at.
func TestUnknownLicences(t *testing.T) {
	f := func(what string, files map[string]string) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			files["one/LICENSE"] = mit
			graph(t, files)
			if modules, err := linked("."); err == nil || !strings.Contains(err.Error(), "licence of b.test/two: ") {
				t.Errorf("got %d modules and %v", len(modules), err)
			}
		})
	}
	f("none", map[string]string{})
	f("of an unknown kind", map[string]string{"two/LICENSE": "Do what you like on Sundays."})
	f("a notice alone", map[string]string{"two/NOTICE": "parts are under the " + apache})
	f("beside a package", map[string]string{"two/inner/LICENSE": mit})
}

func TestClassify(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := classify([]byte(text)); got != want {
			t.Errorf("%.40q is %q, want %q", text, got, want)
		}
	}
	f(mit, "MIT")
	f(apache, "Apache-2.0")
	f(bsd2, "BSD-2-Clause")
	f(bsd3, "BSD-3-Clause")
	f(isc, "ISC")
	f(gpl, "GNU")
	f("GNU LESSER GENERAL PUBLIC LICENSE", "GNU")
	f(mpl, "MPL-2.0")
	f("All rights reserved.", "")
	f("", "")
}
