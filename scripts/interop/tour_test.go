package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTour sets up the machines of the Vagrantfile by the scripts that it names,
// at its addresses, and takes the tour. Only `vagrant ssh` is another: it enters
// the machine's namespaces.
func TestTour(t *testing.T) {
	hub := newHub(t)
	machines := map[string]*machine{}
	for _, v := range vagrantMachines(t) {
		m := boot(t, v.name)
		hub.connect(t, m, v.address)
		m.do(t, "SPILLWAY_SECRET="+strings.Repeat("secret", 6)+" /tmp/spillway/scripts/provision/"+v.script)
		machines[v.name] = m
	}
	for _, url := range []string{"http://origin:8080/healthz", "https://img.example.com/", "https://img2.example.com/"} {
		machines["client"].wait(t, "curl -sk "+url)
	}

	bin := t.TempDir()
	write(t, filepath.Join(bin, "vagrant"), vagrantStub(machines))
	settings := machines["edge1"].do(t, "cat /etc/spillway/spillway.yaml")
	for range 2 { // the second begins where the first ended
		takeTour(t, bin)
		same(t, settings, machines["edge1"].do(t, "cat /etc/spillway/spillway.yaml"))
	}
}

// takeTour takes the tour with the programs of the folder bin.
func takeTour(t *testing.T, bin string) {
	t.Helper()
	cmd := exec.Command("../tour")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("tour: %v", err)
	}
	parts := strings.Split(string(out), "client$ ")
	if len(parts) != 5 {
		t.Fatalf("%d crowds, want 4", len(parts)-1)
	}
	for i, want := range []string{`(?m)^ *function\b`, `(?m)^ *function\b`, `(?m)^ *shed\b`, `(?m)^ *function\b`} {
		if !regexp.MustCompile(want).MatchString(parts[i+1]) {
			t.Errorf("crowd %d: its result is without %s", i+1, want)
		}
	}
}

// TestVagrantfile asks Vagrant itself whether it understands the file.
func TestVagrantfile(t *testing.T) {
	if _, err := exec.LookPath("vagrant"); err != nil {
		t.Skip("vagrant is not installed; scripts/setup more installs it")
	}
	folder := t.TempDir()
	text, err := os.ReadFile("../../Vagrantfile")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "Vagrantfile"), string(text))
	cmd := exec.Command("vagrant", "validate", "--ignore-provider")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "VAGRANT_HOME="+t.TempDir(), "VAGRANT_CHECKPOINT_DISABLE=1", "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("vagrant validate: %v\n%s", err, out)
	}
}

type vagrantMachine struct{ name, address, script string }

var machineLine = regexp.MustCompile(`"(\w+)" => \{ ip: "([\d.]+)", memory: \d+, script: "([\w.]+)" \}`)

// vagrantMachines reads the table of the Vagrantfile.
func vagrantMachines(t *testing.T) []vagrantMachine {
	t.Helper()
	text, err := os.ReadFile("../../Vagrantfile")
	if err != nil {
		t.Fatal(err)
	}
	var machines []vagrantMachine
	for _, found := range machineLine.FindAllStringSubmatch(string(text), -1) {
		machines = append(machines, vagrantMachine{found[1], found[2], found[3]})
	}
	if len(machines) != 5 {
		t.Fatalf("the Vagrantfile has %d machines, want 5", len(machines))
	}
	return machines
}

// A hub is a network namespace with a bridge.
type hub struct{ pid string }

func newHub(t *testing.T) *hub {
	t.Helper()
	require(t, "unshare", "nsenter", "ip")
	cmd := exec.Command("unshare", "--net", "--kill-child", "--fork", "cat")
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		hold.Close()
		cmd.Wait()
	})
	h := &hub{pid: fmt.Sprint(cmd.Process.Pid)}
	within(t, "a network of its own", func() bool {
		ours, _ := os.Readlink("/proc/self/ns/net")
		theirs, _ := os.Readlink("/proc/" + h.pid + "/ns/net")
		return theirs != "" && theirs != ours
	})
	h.ip(t, "link add hub type bridge")
	h.ip(t, "link set hub up")
	return h
}

func (h *hub) ip(t *testing.T, command string) {
	t.Helper()
	run(t, "nsenter", append([]string{"--target", h.pid, "--net", "ip"}, strings.Fields(command)...)...)
}

// connect gives a machine an interface on the hub.
func (h *hub) connect(t *testing.T, m *machine, address string) {
	t.Helper()
	h.ip(t, fmt.Sprintf("link add %s type veth peer name eth1 netns %s", m.name, m.pid))
	h.ip(t, "link set "+m.name+" master hub up")
	m.do(t, "ip addr add "+address+"/24 dev eth1 && ip link set eth1 up")
}

// vagrantStub is a program that does `vagrant ssh NAME -c COMMAND`. There is no
// sudo on the machines, where one is root already.
func vagrantStub(machines map[string]*machine) string {
	var b strings.Builder
	b.WriteString("#!/bin/bash\nsudo='sudo() { \"$@\"; }; '\ncase $2 in\n")
	for name, m := range machines {
		args := m.command("").Args
		for i, arg := range args {
			args[i] = "'" + arg + "'"
		}
		fmt.Fprintf(&b, "%s) exec %s \"$sudo$4\" ;;\n", name, strings.Join(args[:len(args)-1], " "))
	}
	b.WriteString("esac\nexit 1\n")
	return b.String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
