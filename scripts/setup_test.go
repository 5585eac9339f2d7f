package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSetupGoesOnWithoutPackage prepares a machine that has hardly anything, by a
// Debian that lacks one of the packages.
func TestSetupGoesOnWithoutPackage(t *testing.T) {
	bin := t.TempDir()
	for _, program := range []string{"bash", "dirname", "awk", "head", "sort"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, program)); err != nil {
			t.Fatal(err)
		}
	}
	for program, text := range map[string]string{
		"apt-get": `echo "$*" >>"$CALLS"; [[ $* != *vagrant* ]]`, "id": "echo 0", "go": `[[ $1 != env ]] || echo go999.0`,
	} {
		if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/usr/bin/env bash\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	calls := filepath.Join(t.TempDir(), "calls")
	cmd := exec.Command("./setup", "more")
	cmd.Env = []string{"PATH=" + bin, "CALLS=" + calls}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "going on without vagrant; what needs it is skipped") {
		t.Errorf("without vagrant: %v\n%s", err, out)
	}
	for _, want := range []string{"make git build-essential", "debootstrap", "chromium"} {
		if !strings.Contains(read(t, calls), "--no-install-recommends "+want) {
			t.Errorf("%s is not installed:\n%s", want, read(t, calls))
		}
	}
	if strings.Count(string(out), "going on without") != 1 {
		t.Errorf("one package is missing, not more:\n%s", out)
	}
}
