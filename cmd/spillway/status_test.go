package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Who may not open the admin socket is told that, and not that no node runs.
func TestForbiddenSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "forbidden")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket, file := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "spillway.yaml")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	text := "admin: unix:" + socket + `
listen: 127.0.0.1:0
http: off
state: ""
log: {access: off}
tls: {self_signed: true}
origins: {app: {servers: ["http://127.0.0.1:1"]}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{socket: 0, file: 0o644, dir: 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	// The program stands where only its owner may look for it.
	program, err := os.Open(programOf(t, "spillway").path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	f := func(want string, args ...string) {
		t.Helper()
		cmd := exec.Command("/proc/self/fd/3")
		cmd.Args, cmd.ExtraFiles = append([]string{"spillway"}, args...), []*os.File{program}
		if os.Getuid() == 0 { // who may open all
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("spillway %s: %v\n%s\nwant %s", strings.Join(args, " "), err, out, want)
		}
	}
	const said = "this user may not ask there (connect: permission denied); run this as root"
	f(said, "status", "--config", file)
	f(said, "admission", "show", "--config", file)
	f(said, "upgrade", "--config", file)
	f(said, "doctor", "--config", file)
}
