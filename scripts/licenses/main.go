// Command licenses writes the licences of all that is linked into the program:
// a list, and then the texts, as they stand beside the sources. It fails for a
// module without a licence that it knows, which is for a human to look at.
//
//	go run ./scripts/licenses ./cmd/spillway > LICENSES/THIRD-PARTY.txt
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A module is one that is linked, and what it may be used under.
type module struct {
	path, version string
	license       string // by its SPDX name
	text          []byte
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: licenses PACKAGE")
		os.Exit(2)
	}
	modules, err := linked(os.Args[1])
	if err == nil {
		out := bufio.NewWriter(os.Stdout)
		list(out, modules)
		err = out.Flush()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

// linked returns the modules that a package needs, the standard library first.
func linked(name string) ([]module, error) {
	out, err := output("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}", name)
	if err != nil {
		return nil, err
	}
	goroot, err := output("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	lines := strings.Fields(strings.ReplaceAll(out, "\t", "|"))
	slices.Sort(lines)
	lines = append([]string{"std||" + strings.TrimSpace(goroot)}, slices.Compact(lines)...)
	modules := make([]module, len(lines))
	for i, line := range lines {
		fields := strings.Split(line, "|")
		modules[i] = module{path: fields[0], version: fields[1]}
		if err := modules[i].read(fields[2]); err != nil {
			return nil, fmt.Errorf("licence of %s: %w", fields[0], err)
		}
	}
	return modules, nil
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	// What is linked depends on the platform, and we ship for this one.
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// read takes the licence and the notices out of a module's folder. Apache-2.0
// wants notices to be passed on (section 4d); they are no licence, though they may
// name one.
func (m *module) read(dir string) error {
	const notices = "NOTICE*"
	for _, pattern := range []string{"LICEN[CS]E*", "COPYING*", notices} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if m.license == "" && pattern != notices {
				m.license = classify(text)
			}
			m.text = append(append(m.text, bytes.TrimSpace(text)...), "\n\n"...)
		}
	}
	if m.license == "" {
		return errors.New("none that is known; look at it")
	}
	return nil
}

// classify names a licence by words that only it has.
func classify(text []byte) string {
	has := func(words string) bool {
		return bytes.Contains(bytes.Join(bytes.Fields(text), []byte(" ")), []byte(words))
	}
	switch {
	case has("Apache License") && has("Version 2.0"):
		return "Apache-2.0"
	case has("Mozilla Public License"):
		return "MPL-2.0"
	case has("GNU"):
		return "GNU"
	case has("Permission is hereby granted, free of charge"):
		return "MIT"
	case has("Redistribution and use in source and binary forms") && has("Neither the name"):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	case has("Permission to use, copy, modify, and"):
		return "ISC"
	}
	return ""
}

func list(w io.Writer, modules []module) {
	fmt.Fprint(w, "What is linked into bin/spillway, and its licences. make licenses writes this file.\n\n")
	for _, m := range modules {
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.license, m.path, m.version)
	}
	for _, m := range modules {
		fmt.Fprintf(w, "\n%s\n%s %s (%s)\n%[1]s\n\n%[5]s", strings.Repeat("=", 79), m.path, m.version, m.license, m.text)
	}
}
