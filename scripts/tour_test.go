package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// edges stands for `vagrant ssh`: it runs the commands here, with the settings of
// the edge in the folder EDGE. The crowd of the phases BREAK ends the tour by the
// signal SIGNAL, as a terminal sends it: to the program in front too.
const edges = `#!/usr/bin/env bash
sudo() { "$@"; }
systemctl() { echo "$*" >>"$EDGE/calls"; }
spillway() { :; }
surge() {
	[[ "$*" != *"--phases $BREAK "* ]] || kill "-$SIGNAL" "$PPID" $$
}
eval "${4//\/etc\/spillway/$EDGE}"
`

func TestTourRestoresSettings(t *testing.T) {
	const was = "budgets:\n  spill:\n    per_hour: $5 # of the operator\noverflow:\n  overflow_at: 80%\n"
	f := func(name, phases, signal string, fails bool) {
		t.Helper()
		bin, edge := t.TempDir(), t.TempDir()
		settings := filepath.Join(edge, "spillway.yaml")
		for file, text := range map[string]string{filepath.Join(bin, "vagrant"): edges, settings: was} {
			if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("./tour")
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "EDGE="+edge, "BREAK="+phases, "SIGNAL="+signal)
		out, err := cmd.CombinedOutput()
		if (err != nil) != fails {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if got := read(t, settings); got != was {
			t.Errorf("%s: the settings became\n%s\n%s", name, got, out)
		}
		if left, _ := filepath.Glob(settings + ".*"); len(left) > 0 {
			t.Errorf("%s: left are %s", name, left)
		}
		calls := strings.Count(read(t, filepath.Join(edge, "calls")), "reload spillway\n")
		if changes := strings.Count(string(out), "sed -i"); calls != changes+1 {
			t.Errorf("%s: %d changes and their end were put in force by %d reloads\n%s", name, changes, calls, out)
		}
	}
	f("to its end", "none", "INT", false)
	f("interrupted at half of the limit", "0.9x:15s", "INT", true)
	f("ended without a budget", "5x:10s", "TERM", true)
	f("the terminal is gone", "0.5x:10s,5x:15s", "HUP", true)
}
