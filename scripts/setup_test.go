package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// setup prepares a machine that has hardly anything, by a Debian that lacks vagrant,
// and returns what it says and what was installed.
func setup(t *testing.T, purpose string) (said, installed string) {
	t.Helper()
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
	cmd := exec.Command("./setup", purpose)
	cmd.Env = []string{"PATH=" + bin, "CALLS=" + calls}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return string(out), read(t, calls)
}

func TestSetupGoesOnWithoutPackage(t *testing.T) {
	said, installed := setup(t, "more")
	if !strings.Contains(said, "going on without vagrant; what needs it is skipped") {
		t.Errorf("without vagrant:\n%s", said)
	}
	for _, want := range []string{"make git build-essential", "debootstrap", "chromium"} {
		if !strings.Contains(installed, "--no-install-recommends "+want) {
			t.Errorf("%s is not installed:\n%s", want, installed)
		}
	}
	if strings.Count(said, "going on without") != 1 {
		t.Errorf("one package is missing, not more:\n%s", said)
	}
}

// The caches that are compared are for the benchmarks alone, and not every test needs a
// virtual machine.
func TestSetupInstallsForThePurpose(t *testing.T) {
	f := func(purpose string, want bool, packages ...string) {
		t.Helper()
		_, installed := setup(t, purpose)
		for _, p := range packages {
			if strings.Contains(installed, "--no-install-recommends "+p) != want {
				t.Errorf("setup %s, %s installed: %v, want %v\n%s", purpose, p, !want, want, installed)
			}
		}
	}
	f("bench", true, "varnish", "nginx-light")
	f("kernel", true, "qemu-system-x86", "busybox-static", "cpio", "iproute2")
	f("more", true, "qemu-system-x86", "busybox-static", "cpio")
	f("test", true, "nginx-light", "haproxy")
	f("test", false, "varnish", "qemu-system-x86")
}
