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

// try runs the script and returns what it says.
func (i image) try(args ...string) (string, error) {
	args = append([]string{"--root", i.root, "--binary", i.program}, args...)
	out, err := exec.Command("./install.sh", args...).CombinedOutput()
	return string(out), err
}

// link makes a symbolic link of somebody else in the image.
func (i image) link(t *testing.T, to, file string) {
	t.Helper()
	file = filepath.Join(i.root, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, file); err != nil {
		t.Fatal(err)
	}
}

// install runs the script, which must succeed.
func (i image) install(t *testing.T, args ...string) string {
	t.Helper()
	out, err := i.try(args...)
	if err != nil {
		t.Fatalf("install.sh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// put writes a file of somebody else into the image.
func (i image) put(t *testing.T, file, text string) {
	t.Helper()
	file = filepath.Join(i.root, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	i.write(t, file, text)
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

// TestFullDiskKeepsProgram lets no file become larger than 8 KiB.
func TestFullDiskKeepsProgram(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	i.install(t)
	was := i.files(t)
	i.write(t, i.program, strings.Repeat("version 2\n", 4<<10))
	full := `ulimit -f 8; exec ./install.sh --root "$0" --binary "$1"`
	out, err := exec.Command("bash", "-c", full, i.root, i.program).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/usr/local/bin/spillway could not be written") {
		t.Errorf("a disk that is full: %v\n%s", err, out)
	}
	if got := read(t, filepath.Join(i.root, "usr/local/bin/spillway")); got != "version 1" {
		t.Errorf("the program became %.20q", got)
	}
	notes := func(line string) bool { return strings.HasPrefix(line, "usr/local/share/spillway/") }
	if is, was := slices.DeleteFunc(i.files(t), notes), slices.DeleteFunc(was, notes); !slices.Equal(is, was) {
		t.Errorf("it changed\n%s\nto\n%s", strings.Join(was, "\n"), strings.Join(is, "\n"))
	}
	if out := i.install(t); !strings.Contains(out, "install /usr/local/bin/spillway") {
		t.Errorf("with space again it says\n%s", out)
	}
}

func TestInstallRefusesForeignFiles(t *testing.T) {
	f := func(name string, prepare func(i image), want string) {
		t.Helper()
		i := newImage(t)
		prepare(i)
		was := i.files(t)
		for _, args := range [][]string{{"--dry-run"}, nil} {
			if out, err := i.try(args...); err == nil || !strings.Contains(out, want) {
				t.Errorf("%s %s: %v, without %q:\n%s", name, args, err, want, out)
			}
		}
		i.install(t, "--uninstall")
		if is := i.files(t); !slices.Equal(is, was) {
			t.Errorf("%s: left are\n%s\nwant\n%s", name, strings.Join(is, "\n"), strings.Join(was, "\n"))
		}
	}
	f("program", func(i image) { i.put(t, "usr/local/bin/spillway", "mine") }, "install: /usr/local/bin/spillway is there already")
	f("unit", func(i image) {
		i.put(t, "etc/systemd/system/spillway.service", "mine")
		i.link(t, "../spillway.service", "etc/systemd/system/multi-user.target.wants/spillway.service")
	}, "install: /etc/systemd/system/spillway.service is there already")
	f("masked unit", func(i image) { i.link(t, "/dev/null", "etc/systemd/system/spillway.service") },
		"install: /etc/systemd/system/spillway.service is there already")
	f("link that leads nowhere", func(i image) { i.link(t, "/nonexistent", "usr/local/bin/spillway") },
		"install: /usr/local/bin/spillway is there already")
}

func TestInstallRefusesChangedProgram(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	i.install(t)
	i.put(t, "usr/local/bin/spillway", "mine")
	i.write(t, i.program, "version 2")
	if out, err := i.try(); err == nil || !strings.Contains(out, "/usr/local/bin/spillway was changed after it was installed") {
		t.Errorf("a program that was changed: %v\n%s", err, out)
	}
	i.install(t, "--uninstall")
	if got := read(t, filepath.Join(i.root, "usr/local/bin/spillway")); got != "mine" {
		t.Errorf("the program became %q", got)
	}
}

// TestEditedFilesAreKept changes what is the operator's to change, and installs
// again and uninstalls.
func TestEditedFilesAreKept(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	i.install(t)
	edited := []string{"etc/logrotate.d/spillway", "etc/sysctl.d/60-spillway.conf", "etc/systemd/system/spillway.service"}
	others := []string{
		"etc/systemd/system/spillway.service.d/override.conf", "etc/spillway/tls/key.pem", "etc/spillway/environment",
		"etc/default/spillway-functions", "var/lib/spillway/self-signed.pem", "var/log/spillway/access.log",
	}
	mine := append(edited, others...)
	for _, file := range mine {
		i.put(t, file, "mine")
	}
	i.write(t, i.program, "version 2")
	unchanged := func(out, what string, said ...string) {
		t.Helper()
		for _, file := range mine {
			if got := read(t, filepath.Join(i.root, file)); got != "mine" {
				t.Errorf("%s: %s became %q", what, file, got)
			}
		}
		for _, file := range said {
			if !strings.Contains(out, "install: keep /"+file) {
				t.Errorf("%s: it does not say that it keeps %s:\n%s", what, file, out)
			}
		}
	}
	unchanged(i.install(t), "an upgrade", edited...)
	if got := read(t, filepath.Join(i.root, "usr/local/bin/spillway")); got != "version 2" {
		t.Errorf("the program is %q", got)
	}
	unchanged(i.install(t, "--uninstall"), "an uninstallation", append(edited, "etc/systemd/system/spillway.service.d",
		"etc/spillway", "etc/default/spillway-functions", "var/lib/spillway", "var/log/spillway")...)
	if out := i.install(t, "--uninstall"); !strings.Contains(out, "install: nothing is left to remove") {
		t.Errorf("a second uninstallation says\n%s", out)
	}
}

// The function host's user enters the folders, whatever the umask of root.
func TestStrictUmask(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	out, err := exec.Command("bash", "-c", `umask 077; exec ./install.sh --root "$0" --binary "$1"`, i.root, i.program).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err = exec.Command("find", i.root, "-mindepth", "1", "-type", "d", "-not", "-perm", "755").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("only root may enter, %v:\n%s", err, out)
	}
}

// A link may lead to what is there only later, such as a mounted secret.
func TestConfigurationMayBeLink(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	i.link(t, "/nonexistent/spillway.yaml", configuration)
	i.install(t)
	if got, err := os.Readlink(filepath.Join(i.root, configuration)); got != "/nonexistent/spillway.yaml" {
		t.Errorf("the link became %q, %v", got, err)
	}
}

func TestUninstallKeepsOwnFunctions(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	i.install(t)
	mine := []string{"usr/local/lib/spillway/functions/mine/bootstrap", "usr/local/share/spillway/notes"}
	for _, file := range mine {
		i.put(t, file, "mine")
	}
	i.install(t, "--uninstall", "--purge")
	var left []string
	for _, line := range i.files(t) {
		name, _, _ := strings.Cut(line, " ")
		left = append(left, name)
	}
	if !slices.Equal(left, mine) {
		t.Errorf("left are %s, want %s", left, mine)
	}
}

// TestNextRunFinishes breaks an installation off before its last step.
func TestNextRunFinishes(t *testing.T) {
	requireSystemctl(t)
	i := newImage(t)
	wants := "etc/systemd/system/multi-user.target.wants"
	i.put(t, wants, "in the way of the folder")
	if out, err := i.try(); err == nil {
		t.Fatalf("a folder that is a file: no error:\n%s", out)
	}
	if err := os.Remove(filepath.Join(i.root, wants)); err != nil {
		t.Fatal(err)
	}
	i.write(t, i.program, "version 2") // what is half installed is ours all the same
	i.install(t)
	if out := i.install(t); out != "install: everything is in place; nothing to change\n" {
		t.Errorf("a third run says\n%s", out)
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
