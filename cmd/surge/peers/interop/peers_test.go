package interop

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestPeers measures two contenders over HTTP/3 with surge's own client, and asks for
// a third that is not there.
func TestPeers(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("the server and the load need a core each")
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		t.Skip("taskset is not installed (Debian package util-linux)")
	}
	dir := t.TempDir()
	for _, program := range []string{"spillway", "surge"} {
		build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, program), "spillway/cmd/"+program)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	page := filepath.Join(dir, "peers.html")
	cmd := exec.Command(filepath.Join(dir, "surge"), "peers", "--json", "--strict", "--rounds", "1", "--report", page, "--tools", dir,
		"--contender", "spillway", "--contender", "quic-go alone", "--contender", "Caddy", "--contender", "twin", "--lane", "twin:log.access=off",
		"--part", "m1", "--part", "resumed", "--part", "early", "--part", "burst", "--part", "calm")
	var diagnostics strings.Builder
	cmd.Stderr = &diagnostics
	out, err := cmd.Output()
	if err == nil || !strings.Contains(diagnostics.String(), "goals are missed") {
		t.Errorf("goals that were not judged pass under --strict: %v\n%s", err, diagnostics.String())
	}
	var result struct {
		Client string `json:"http3_client"`
		Rows   []struct {
			Name  string
			Cells []struct {
				Contender string
				Rounds    []float64
				Skipped   string
			}
		}
	}
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, diagnostics.String())
	}
	if result.Client != "surge" {
		t.Errorf("the client is %s, without any h2load", result.Client)
	}
	want := map[string]int{"m1": 3, "resumed": 3, "early": 3, "burst-time": 3, "burst": 3, "calm-p99": 2}
	for _, row := range result.Rows {
		figures := 0
		for _, c := range row.Cells {
			switch {
			case len(c.Rounds) == 1 && c.Rounds[0] > 0 && c.Skipped == "":
				figures++
			case len(c.Rounds) != 0 || c.Skipped == "":
				t.Errorf("%s, %s: neither a figure nor why there is none: %+v", row.Name, c.Contender, c)
			}
		}
		if figures != want[row.Name] {
			t.Errorf("%s: %d figures, want %d: %+v", row.Name, figures, want[row.Name], row.Cells)
		}
		delete(want, row.Name)
	}
	if len(want) > 0 {
		t.Errorf("not measured: %v", want)
	}
	html, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(html), "caddy is missing") {
		t.Errorf("the page does not say why Caddy is not measured: %v\n%s", err, html)
	}
}
