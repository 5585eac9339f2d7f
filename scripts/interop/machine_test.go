package interop

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A machine is a Debian that runs its own systemd, in namespaces of its own: it has
// its own files, processes, users and network, and ends with the test.
type machine struct {
	name string
	pid  string // of its systemd
}

// boot starts a machine. The folder tree is at /tmp/spillway there.
func boot(t *testing.T, name string) *machine {
	t.Helper()
	base, source := debian(t), tree(t)
	group := controlGroup(t, name)
	folder := filepath.Join(t.TempDir(), "machine")
	root := filepath.Join(folder, "root")
	run(t, "mkdir", "-p", folder)
	run(t, "mount", "-t", "tmpfs", "tmpfs", folder) // an overlay cannot lie on every file system
	t.Cleanup(func() { run(t, "umount", "--recursive", folder) })
	run(t, "mkdir", root, folder+"/changed", folder+"/work")
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/changed,workdir=%[2]s/work", base, folder)
	run(t, "mount", "-t", "overlay", "-o", layers, "overlay", root)

	var console bytes.Buffer
	cmd := exec.Command("testdata/boot", root, group, source, name)
	cmd.Stdout, cmd.Stderr = &console, &console
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		removeGroup(t, group)
		if t.Failed() {
			t.Logf("%s: console:\n%s", name, console.Bytes())
		}
	})
	m := &machine{name: name, pid: systemdBelow(t, cmd.Process.Pid)}
	m.wait(t, "systemctl is-active multi-user.target")
	return m
}

// controlGroup names a control group for a machine; the boot script makes it.
func controlGroup(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("findmnt", "--noheadings", "--output", "TARGET", "--types", "cgroup2").Output()
	top, _, _ := strings.Cut(string(out), "\n")
	if err != nil || top == "" {
		t.Skip("no cgroup2 file system is mounted, which systemd needs")
	}
	return filepath.Join(top, fmt.Sprintf("spillway-%d-%s", os.Getpid(), name))
}

// removeGroup removes a control group once the last process has left it.
func removeGroup(t *testing.T, group string) {
	var groups []string
	filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return nil
	})
	slices.Reverse(groups)
	for _, path := range groups {
		within(t, "remove "+path, func() bool { return os.Remove(path) == nil || !exists(path) })
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// systemdBelow returns the process that the boot script became in the new
// namespaces.
func systemdBelow(t *testing.T, pid int) (child string) {
	t.Helper()
	within(t, "start of systemd", func() bool {
		out, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		if child = strings.TrimSpace(string(out)); err != nil || child == "" {
			return false
		}
		name, err := os.ReadFile("/proc/" + child + "/comm")
		return err == nil && string(name) == "systemd\n"
	})
	return child
}

// within polls until done, and fails the test after a time that only a broken
// machine needs.
func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: nothing within a minute", what)
		}
	}
}

// command is a shell command on the machine.
func (m *machine) command(line string) *exec.Cmd {
	cmd := exec.Command("nsenter", "--target", m.pid, "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "bash", "-c", line)
	cmd.Dir = "/"
	return cmd
}

// try runs a command and returns all that it prints.
func (m *machine) try(line string) (string, error) {
	out, err := m.command(line).CombinedOutput()
	return string(out), err
}

// do runs a command that must succeed.
func (m *machine) do(t *testing.T, line string) string {
	t.Helper()
	out, err := m.try(line)
	if err != nil {
		t.Fatalf("%s$ %s: %v\n%s", m.name, line, err, out)
	}
	return out
}

// fails runs a command that must not succeed, and say what it must.
func (m *machine) fails(t *testing.T, line, want string) {
	t.Helper()
	if out, err := m.try(line); err == nil || !strings.Contains(out, want) {
		t.Errorf("%s$ %s: %v, without %q:\n%s", m.name, line, err, want, out)
	}
}

// prints runs a command that must succeed and print what it must.
func (m *machine) prints(t *testing.T, line, want string) {
	t.Helper()
	if out := m.do(t, line); !strings.Contains(out, want) {
		t.Errorf("%s$ %s: without %q:\n%s", m.name, line, want, out)
	}
}

// wait repeats a command until it succeeds.
func (m *machine) wait(t *testing.T, line string) {
	t.Helper()
	within(t, m.name+"$ "+line, func() bool {
		_, err := m.try(line)
		return err == nil
	})
}

// run runs a program of this machine that must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
