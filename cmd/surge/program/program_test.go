package program

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestAddress(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		if got, ok := Address(line); got != want || ok != (want != "") {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	f("listening on http://127.0.0.1:9000", "127.0.0.1:9000")
	f("listening on 127.0.0.1:9001", "127.0.0.1:9001")
	f(`level=INFO msg=started listen=[127.0.0.1:9002] admin=unix:/a`, "127.0.0.1:9002")
	f(`level=INFO msg=started listen="[127.0.0.1:9003 127.0.0.1:80]"`, "127.0.0.1:9003")
	f("starting", "")
}

func TestMissingProgram(t *testing.T) {
	if path, err := Path("no-such-program"); err == nil {
		t.Errorf("found %s", filepath.Base(path))
	}
}

// TestCPU burns CPU time in a child of a child, and asks that it is
// counted while that lives.
func TestCPU(t *testing.T) {
	cmd := exec.Command("sh", "-c", `sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; read wait'; :`)
	release, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if used, err := CPU(cmd.Process.Pid); err != nil || used <= 0 {
		t.Errorf("%s (%v)", used, err)
	}
	release.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := CPU(cmd.Process.Pid); err == nil {
		t.Error("a process that is gone has CPU time")
	}
}
