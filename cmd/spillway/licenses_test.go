package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// acceptable are the licences that ask no more of those who pass the program on
// than to pass the text on too.
var acceptable = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// TestLicensesAreListed compares what is linked into the program with what
// LICENSES says of it.
func TestLicensesAreListed(t *testing.T) {
	licenses := map[string]string{} // by module and version
	for line := range strings.Lines(readFile(t, "../../LICENSES/THIRD-PARTY.txt")) {
		if fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(fields) == 3 && fields[1] != "std" {
			licenses[fields[1]+" "+fields[2]] = fields[0]
		}
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", ".")
	cmd.Env = append(cmd.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		linked[strings.TrimSpace(line)] = true
	}
	delete(linked, "")
	for module := range linked {
		switch license, listed := licenses[module]; {
		case !listed:
			t.Errorf("%s is not in LICENSES/THIRD-PARTY.txt; run make licenses", module)
		case !slices.Contains(acceptable, license):
			t.Errorf("%s is under %s, which is not one of %s", module, license, strings.Join(acceptable, ", "))
		}
	}
	for module := range licenses {
		if !linked[module] {
			t.Errorf("%s is in LICENSES/THIRD-PARTY.txt and not linked; run make licenses", module)
		}
	}
}
