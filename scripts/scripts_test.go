// Package scripts tests what installs the node, without rights and in a moment;
// the folder interop does it on a whole system.
package scripts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"spillway/config"
	"spillway/origin/faas/process"
)

// TestFirstConfigurations reads the files that installations start with.
func TestFirstConfigurations(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "edges") // the edges of the tour are given one
	if err := os.WriteFile(secret, []byte(strings.Repeat("secret", 6)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"../config/install.yaml", "provision/spillway.yaml"} {
		text := strings.ReplaceAll(read(t, file), "/etc/spillway/secrets/edges", secret)
		c, err := config.Parse(file, []byte(text), nil)
		if err != nil {
			t.Errorf("%s:\n%v", file, err)
			continue
		}
		if !c.Edge.TLS.SelfSigned {
			t.Errorf("%s does not start at once: it asks for a certificate", file)
		}
	}
}

// TestUnits lets systemd itself read the units.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed; scripts/setup installs it")
	}
	// In tenths of systemd's measure of exposure, of which 10 is all a service may do.
	for unit, exposure := range map[string]int{"spillway": 21, "spillway-functions": 18} {
		// The programs need not be there to read what stands around them.
		text := strings.NewReplacer("/usr/local/bin/spillway", "/bin/sh").Replace(read(t, "systemd/"+unit+".service"))
		file := filepath.Join(t.TempDir(), unit+".service")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", unit, err, out)
		}
		threshold := fmt.Sprintf("--threshold=%d", exposure)
		out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=yes", threshold, file).CombinedOutput()
		if err != nil {
			t.Errorf("%s is exposed more than %d tenths: %v\n%s", unit, exposure, err, out)
		}
	}
}

// TestNodeAndFunctionHostMeet compares the socket that the installed function host
// answers on, and all that is told of it, with the one where a node looks that was
// told nothing.
func TestNodeAndFunctionHostMeet(t *testing.T) {
	for _, file := range []string{"systemd/spillway-functions.service", "systemd/functions.env", "../config/spillway.yaml", "../README.md"} {
		sockets := regexp.MustCompile(`/[\w/-]+/functions\.sock\b`).FindAllString(read(t, file), -1)
		if len(sockets) == 0 {
			t.Errorf("%s is without the socket %s", file, process.DefaultSocket)
		}
		for _, socket := range sockets {
			if socket != process.DefaultSocket {
				t.Errorf("%s has the socket %s, want %s", file, socket, process.DefaultSocket)
			}
		}
	}
}

// TestMachinesAgree compares the addresses of the Vagrantfile with those that the
// machines are told.
func TestMachinesAgree(t *testing.T) {
	vagrant := regexp.MustCompile(`"(\w+)" => \{ ip: "([\d.]+)"`).FindAllStringSubmatch(read(t, "../Vagrantfile"), -1)
	if len(vagrant) == 0 {
		t.Fatal("the Vagrantfile has no machines")
	}
	common, edges := read(t, "provision/common.sh"), read(t, "provision/spillway.yaml")
	for _, m := range vagrant {
		if !strings.Contains(common, m[1]+") echo "+m[2]+" ;;") {
			t.Errorf("provision/common.sh does not have %s at %s", m[1], m[2])
		}
		if slices.Contains([]string{"origin", "functions"}, m[1]) && !strings.Contains(edges, "http://"+m[2]+":") {
			t.Errorf("provision/spillway.yaml does not ask the machine %s at %s", m[1], m[2])
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
