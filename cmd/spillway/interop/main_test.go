package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The programs under test, built once for all tests: the node with the race
// detector, the node as it is shipped, for what is measured, and surge.
var spillway, plain, surge string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	spillway, plain, surge = filepath.Join(dir, "spillway"), filepath.Join(dir, "plain"), filepath.Join(dir, "surge")
	for _, args := range [][]string{
		{"-race", "-o", spillway, "spillway/cmd/spillway"},
		{"-o", plain, "spillway/cmd/spillway"},
		{"-o", surge, "spillway/cmd/surge"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-buildvcs=false"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", args[len(args)-1], err, out)
			return 1
		}
	}
	return m.Run()
}

// need returns the path of a peer's program, or skips the test.
func need(t *testing.T, program, from string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed (Debian package %s)", program, from)
	}
	return path
}
