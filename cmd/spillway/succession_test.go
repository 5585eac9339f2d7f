package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"spillway/edge/admin"
)

// aside is an address at which no other test listens: a port that is left there stays
// free.
const aside = "127.0.0.7:0"

// A succession is a node as an operator has it: a program, and those that follow it.
type succession struct {
	*place
	client *admin.Client
	listen string
}

// serving returns the node of a program that is ready.
func (p *place) serving(state nodeState) *succession {
	return &succession{place: p, client: admin.NewClient("unix:" + p.file("a.sock")), listen: state.Listeners[0]}
}

// succeed starts the program and returns it when it is ready.
func (p *place) succeed(t *testing.T) *succession {
	t.Helper()
	program, state := p.launch(t)
	go program.Process.Wait() // it ends when it has a successor
	s := p.serving(state)
	t.Cleanup(func() {
		if pid := s.pid(); pid != 0 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

// state is that of the process that serves, or zero.
func (s *succession) state() (state nodeState) {
	if s.client.Status(context.Background(), &state) != nil {
		return nodeState{}
	}
	return state
}

// pid is that of the process that serves, or 0.
func (s *succession) pid() int { return s.state().PID }

// upgrade upgrades the node.
func (s *succession) upgrade(t *testing.T) {
	t.Helper()
	was := s.pid()
	var out, errs bytes.Buffer
	if err := askUpgrade(t.Context(), admin.NewClient("unix:"+s.file("a.sock")), &out, &errs); err != nil {
		t.Fatalf("upgrade: %v\n%s%s\nthe log is\n%s", err, &out, &errs, s.log)
	}
	s.await(t, "another process", func() bool { is := s.pid(); return is != 0 && is != was })
}

// upgrades is how often the node is upgraded under load: each waits 10 s for the late
// QUIC connections of the one before.
func upgrades(t *testing.T) int {
	t.Helper()
	const variable = "SPILLWAY_UPGRADES"
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return 2
	}
	t.Setenv(variable, "") // which restores it
	os.Unsetenv(variable)  // to the program it would be a setting
	return n
}

// TestUpgradesLoseNothing upgrades the program again and again while visitors of all
// protocols are there: for long and for short, on connections that stay and on new
// ones. No request may fail, and no download break off.
func TestUpgradesLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("each upgrade waits 10 s for the late connections of the one before")
	}
	t.Run("one socket", func(t *testing.T) {
		origin := httptest.NewServer(http.HandlerFunc(slowly))
		t.Cleanup(origin.Close) // after the visitors have left
		s := crossroads(t, "127.0.0.1:0", origin.URL)
		v := &visitors{t: t, listen: s.listen, requests: map[string]*atomic.Int64{}}
		s.upgradeUnder(t, v, 2)
		s.endsWell(t)
	})
	t.Run("judged and steered by the kernel", func(t *testing.T) {
		times := upgrades(t)
		s, v := judged(t)
		judging := s.watchKernel(t, v)
		s.upgradeUnder(t, v, times)
		judging()
		s.endsWell(t)
	})
}

// crossroads runs a node at an address.
func crossroads(t *testing.T, listen, origin string) *succession {
	t.Helper()
	return crossing(t, listen, origin).succeed(t)
}

// crossing makes the surroundings of such a node.
func crossing(t *testing.T, listen, origin string) *place {
	t.Helper()
	p := prepare(t)
	p.put(t, "spillway.yaml", fmt.Sprintf(`
listen: %[3]s
http: off
admin: unix:%[1]s/a.sock
state: %[1]s/state
log: {access: %[1]s/access.log}
timeouts: {drain: 30s}
tls: {self_signed: true}
cache: {disk: {path: %[1]s/disk, size: 64MiB}}
origins: {app: {servers: [%[2]q], limit: {min: 100, max: 1000}}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`, p.dir, origin, listen))
	return p
}

// upgradeUnder upgrades the node so often while visitors come.
func (s *succession) upgradeUnder(t *testing.T, v *visitors, times int) {
	t.Helper()
	leave := v.come()
	for range times {
		time.Sleep(time.Second) // load on one generation alone
		s.upgrade(t)
	}
	time.Sleep(time.Second)
	leave()
	if strings.Contains(s.log.String(), "level=ERROR") {
		t.Errorf("the log has errors:\n%s", s.log)
	}
	lines, err := os.ReadFile(s.file("access.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines = lines[:bytes.LastIndexByte(lines, '\n')+1] // the last may still be coming
	for line := range bytes.Lines(lines) {
		if !bytes.HasPrefix(line, []byte("{")) || !bytes.HasSuffix(line, []byte("}\n")) {
			t.Errorf("the access log has a torn line: %q", line)
		}
	}
}

// endsWell stops the node and waits until no process of it is left.
func (s *succession) endsWell(t *testing.T) {
	t.Helper()
	pid := s.signal(t, syscall.SIGTERM)
	s.await(t, "the end", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) })
}

// signal sends a signal to the process that serves, and returns which that is.
func (s *succession) signal(t *testing.T, signal syscall.Signal) (pid int) {
	t.Helper()
	if pid = s.pid(); pid == 0 { // which would stand for the test itself and all around it
		t.Fatal("no process serves")
	}
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
	return pid
}

// zombie reports whether a process has ended and nobody asked how.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(stat, []byte(") Z "))
}

// A successor that is killed while the process before still drains takes the node with
// it, with an error that has a service manager start it again: nothing listens any
// more, and the next start finds the addresses free.
func TestKilledSuccessor(t *testing.T) {
	p := prepare(t, "127.0.0.1:0", aside)
	program, state := p.launch(t)
	ended := make(chan error, 1)
	go func() {
		how, err := program.Process.Wait()
		if err == nil && !how.Success() {
			err = errors.New(how.String())
		}
		ended <- err
	}()
	s := p.serving(state)
	s.upgrade(t)
	s.signal(t, syscall.SIGKILL)
	if err := <-ended; err == nil {
		t.Error("the process before ended well although its successor was killed")
	}
	if conn, err := net.Dial("tcp", s.listen); err == nil {
		conn.Close()
		t.Error("somebody still listens")
	}
	next := p.succeed(t)
	next.endsWell(t)
}

// The process before may be killed at any time once the successor serves.
func TestKilledPredecessor(t *testing.T) {
	p := prepare(t)
	program, state := p.launch(t)
	ended := make(chan struct{})
	go func() { program.Process.Wait(); close(ended) }()
	s := p.serving(state)
	s.upgrade(t)
	program.Process.Kill()
	<-ended
	p.await(t, "the end of the draining", func() bool {
		var state nodeState
		return s.client.Status(t.Context(), &state) == nil && state.Upgrade.Draining.PID == 0
	})
	s.endsWell(t)
}

// replaceable lets the program be replaced on the disk, by a script of a line.
func replaceable(t *testing.T) (replace func(line string)) {
	t.Helper()
	own := filepath.Join(t.TempDir(), "spillway")
	if err := os.Symlink(programOf(t, "spillway").path, own); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(own)+":"+os.Getenv("PATH"))
	return func(line string) {
		t.Helper()
		if err := os.WriteFile(own+".next", []byte("#!/bin/sh\n"+line+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(own+".next", own); err != nil {
			t.Fatal(err)
		}
	}
}
