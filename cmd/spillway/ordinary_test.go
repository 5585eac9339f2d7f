package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"spillway/edge/admin"
	"spillway/edge/admit"
)

// nobody is a user without privileges (Debian's and most others').
const nobody = 65534

// ordinary runs the node as a user without privileges: as nobody if the test is root's,
// and else as who runs the test.
func (p *place) ordinary(t *testing.T) *succession {
	t.Helper()
	path := p.file("spillway")
	from, err := os.Executable()
	if err == nil {
		err = copyFile(from, path)
	}
	if err != nil {
		t.Fatal(err)
	}
	program := exec.Command(path, "run", "--config", p.file("spillway.yaml"))
	program.Stderr = p.log
	program.Env = append(os.Environ(), "PATH="+p.dir+":"+os.Getenv("PATH")) // where a successor is looked for
	if os.Getuid() == 0 {
		program.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		give := func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chown(path, nobody, nobody))
		}
		if err := filepath.WalkDir(filepath.Dir(p.dir), give); err != nil {
			t.Fatal(err)
		}
	}
	if err := program.Start(); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("run the program as another user: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	go program.Process.Wait()
	s := &succession{place: p, client: admin.NewClient("unix:" + p.file("a.sock"))}
	t.Cleanup(func() {
		if pid := s.pid(); pid != 0 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	s.await(t, "the node", func() bool { return len(s.state().Listeners) > 0 })
	s.listen = s.state().Listeners[0]
	return s
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Who has no privileges upgrades as well, with ports above 1024: no request fails, the
// successor is the same user's, and classic BPF leaves connections where they are.
func TestOrdinaryUserUpgrades(t *testing.T) {
	p := prepare(t, "sites:", "admission: {interfaces: [lo]}\nsites:") // so that the kernel is asked
	s := p.ordinary(t)
	if got := s.state().Admission; got.Mode != admit.UserSpace || !strings.Contains(got.Refused, "privilege") {
		t.Errorf("mode %s, %q", got.Mode, got.Refused)
	}
	v := &visitors{t: t, listen: s.listen, requests: map[string]*atomic.Int64{}}
	leave := v.browse()
	s.await(t, "visitors", func() bool { return s.state().Visits.QUIC > 0 })
	s.upgrade(t)
	time.Sleep(time.Second) // load on both
	leave()
	state := s.state()
	if state.Visits.UDPSteering != "classic" || !state.Upgrade.Inherited {
		t.Errorf("steering %s, inherited %v", state.Visits.UDPSteering, state.Upgrade.Inherited)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", state.PID))
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 && !bytes.Contains(status, []byte("\nUid:\t65534\t65534\t65534\t65534\n")) {
		t.Errorf("the successor is another user's:\n%s", status)
	}
	s.endsWell(t)
}
