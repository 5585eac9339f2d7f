// Package interop installs the node on a whole Debian, run by a systemd of its own
// in namespaces, and takes the tour of the README there. It needs root, debootstrap
// and a mirror of Debian; what is missing is said by the tests that are skipped.
package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// scratch is removed when all tests have run.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "spillway-install"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		return m.Run()
	}())
}

// require skips a test that lacks a program or the rights for it.
func require(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed; scripts/setup more installs it", program)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("namespaces and a system of their own need root")
	}
}

// debian returns the folder of a fresh Debian 12. It is made once and only read.
func debian(t *testing.T) string {
	t.Helper()
	require(t, "debootstrap", "unshare", "nsenter", "findmnt", "ip")
	folder, err := bootstrapped()
	if err != nil {
		t.Skipf("no Debian to install on: %v", err)
	}
	return folder
}

var bootstrapped = sync.OnceValues(func() (string, error) {
	folder := filepath.Join(scratch, "debian")
	args := []string{"--variant=minbase", "--include=systemd,systemd-sysv,dbus,curl,iproute2", "bookworm", folder}
	if mirror := mirror(); mirror != "" {
		args = append(args, mirror)
	}
	out, err := exec.Command("debootstrap", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("debootstrap: %w\n%s", err, tail(out))
	}
	// An installer would write it.
	if err := os.WriteFile(filepath.Join(folder, "etc/hosts"), []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		return "", err
	}
	// What the system does daily writes files, at an hour of its choice: it may be now.
	return folder, os.RemoveAll(filepath.Join(folder, "etc/systemd/system/timers.target.wants"))
})

// mirror is where this machine gets Debian 12 from, or nothing.
func mirror() string {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Codename: bookworm", "Suite: stable").Output()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

// tail is the end of a program's output, where it says what went wrong.
func tail(out []byte) string {
	return string(out[max(0, len(out)-2000):])
}

// tree returns a folder like a checkout in which `make build` has run.
func tree(t *testing.T) string {
	t.Helper()
	folder, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

var built = sync.OnceValues(func() (string, error) {
	folder := filepath.Join(scratch, "tree")
	if err := os.CopyFS(filepath.Join(folder, "scripts"), os.DirFS("..")); err != nil {
		return "", err
	}
	if err := os.CopyFS(filepath.Join(folder, "config"), os.DirFS("../../config")); err != nil {
		return "", err
	}
	for program, source := range map[string]string{
		"bin/spillway": "../../cmd/spillway", "old/spillway": "../../cmd/spillway",
		"bin/surge": "../../cmd/surge", "bin/bootstrap": "../../cmd/thumbnail",
	} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", filepath.Join(folder, program), source)
		if strings.HasPrefix(program, "old/") {
			cmd.Args = append(cmd.Args[:4:4], append([]string{"-ldflags", "-X main.release=v0.0.1"}, cmd.Args[4:]...)...)
		}
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", program, err, out)
		}
	}
	return folder, nil
})
