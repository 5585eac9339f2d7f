package program

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// The pipe that the shell and its child inherit has its end when both are gone.
func TestProcessEndsWithItsChildren(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := Start(Spec{
		Name: "shell", Path: "/bin/sh", Log: filepath.Join(t.TempDir(), "log"), Env: []string{"WORD=ready"},
		Args: []string{"-c", "sleep 300 & echo $WORD; wait"}, Files: []*os.File{w},
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(t.Context(), func() bool { return p.Output() == "ready\n" }); err != nil {
		t.Fatal(err)
	}
	if used, err := CPU(p.Pid()); err != nil || used < 0 {
		t.Errorf("CPU time %v, %v", used, err)
	}
	p.Stop()
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
}

func TestAwaitTellsWhyAProgramEnded(t *testing.T) {
	p, err := Start(Spec{Name: "shell", Path: "/bin/sh", Log: filepath.Join(t.TempDir(), "log"), Args: []string{"-c", "echo no such thing"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if err := p.Await(t.Context(), func() bool { return false }); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("error %v does not tell what the program said", err)
	}
}
