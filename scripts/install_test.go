package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An image is a folder that the script installs into. Its program is a text: for
// an image it is not tried.
type image struct {
	root, program string
}

func newImage(t *testing.T) image {
	t.Helper()
	i := image{root: t.TempDir(), program: filepath.Join(t.TempDir(), "spillway")}
	i.write(t, i.program, "version 1")
	i.write(t, filepath.Join(filepath.Dir(i.program), "bootstrap"), "function 1")
	return i
}

func (i image) write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// install runs the script and returns what it says.
func (i image) install(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--root", i.root, "--binary", i.program}, args...)
	out, err := exec.Command("./install.sh", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("install.sh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// files lists what is in the image, with modes and contents.
func (i image) files(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("find", i.root, "-not", "-type", "d", "-printf", "%P %m %s %l\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	return lines
}

const configuration = "etc/spillway/spillway.yaml"

func TestInstallIntoImage(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	if out := i.install(t); !strings.Contains(out, "install /usr/local/bin/spillway") {
		t.Errorf("it does not say what it does:\n%s", out)
	}
	was := i.files(t)
	for _, want := range []string{
		"usr/local/bin/spillway 755", configuration + " 640", "etc/sysusers.d/spillway.conf 644", "etc/tmpfiles.d/spillway.conf 644",
		"etc/sysctl.d/60-spillway.conf 644", "etc/systemd/system/spillway-functions.service 644",
		"etc/systemd/system/multi-user.target.wants/spillway.service 777",
	} {
		if !slices.ContainsFunc(was, func(line string) bool { return strings.HasPrefix(line, want+" ") }) {
			t.Errorf("%s is missing in\n%s", want, strings.Join(was, "\n"))
		}
	}
	if out := i.install(t); out != "install: everything is in place; nothing to change\n" {
		t.Errorf("a second run says\n%s", out)
	}
	if is := i.files(t); !slices.Equal(is, was) {
		t.Errorf("a second run changed\n%s\nto\n%s", strings.Join(was, "\n"), strings.Join(is, "\n"))
	}
}

func TestUpgradeKeepsConfiguration(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	i.install(t)
	file := filepath.Join(i.root, configuration)
	i.write(t, file, "mine: true\n")
	i.write(t, i.program, "version 2")
	if out := i.install(t); out != "install: install /usr/local/bin/spillway\n" {
		t.Errorf("an upgrade with the same default says\n%s", out)
	}

	newer := filepath.Join(t.TempDir(), "newer.yaml")
	i.write(t, newer, "newer: true\n")
	i.install(t, "--config", newer)
	if got := read(t, file); got != "mine: true\n" {
		t.Errorf("the configuration became %q", got)
	}
	if got := read(t, file+".new"); got != "newer: true\n" {
		t.Errorf("the newer default is %q", got)
	}
	if out := i.install(t, "--config", newer); !strings.Contains(out, "nothing to change") {
		t.Errorf("a second run says\n%s", out)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	i := newImage(t)
	if out := i.install(t, "--dry-run"); !strings.Contains(out, "install: would install /etc/spillway/spillway.yaml\n") {
		t.Errorf("it does not say what it would do:\n%s", out)
	}
	if got := i.files(t); !slices.Equal(got, []string{""}) {
		t.Errorf("a dry run made %s", got)
	}
}

func TestUninstallKeepsConfiguration(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	i.install(t, "--functions")
	i.install(t, "--uninstall")
	var left []string
	for _, line := range i.files(t) {
		name, _, _ := strings.Cut(line, " ")
		left = append(left, name)
	}
	if want := []string{"etc/default/spillway-functions", configuration}; !slices.Equal(left, want) {
		t.Errorf("left are %s, want %s", left, want)
	}
	i.install(t, "--uninstall", "--purge")
	if got := i.files(t); !slices.Equal(got, []string{""}) {
		t.Errorf("a purge left %s", got)
	}
}

func TestInstallErrors(t *testing.T) {
	for args, want := range map[string]string{
		"--nonsense":              "there is no option --nonsense; see --help",
		"--root":                  "--root needs a value",
		"--root /nonexistent":     "--root /nonexistent: no such folder",
		"--purge":                 "--purge goes with --uninstall only",
		"--root . --binary /none": "--binary /none: no such file",
		"--root . --config /none": "--config /none: no such file",
		"--root . --binary none":  "--binary /",
		"--root . --binary install.sh --functions": "--functions: the example function",
	} {
		out, err := exec.Command("./install.sh", strings.Fields(args)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "install: "+want) {
			t.Errorf("install.sh %s: %v, without %q:\n%s", args, err, want, out)
		}
	}
}

func requireSystemctl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("systemctl"); err != nil {
		t.Skip("systemctl is not installed, which enables a service; scripts/setup installs it")
	}
}
