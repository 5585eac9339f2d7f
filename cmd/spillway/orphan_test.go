package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"spillway/origin/faas/budget"
)

// orphan is the program as a successor whose predecessor is killed before it has
// released anything: when it has said hello, or when it was told that the successor is
// prepared.
func orphan() {
	before, when := os.Getppid(), os.Args[1]
	os.Args = append([]string{"spillway"}, os.Args[2:]...)
	hello := []unix.PollFd{{Fd: firstStored, Events: unix.POLLIN}}
	for hello[0].Revents == 0 { // without it this process would be no successor
		unix.Poll(hello, -1)
	}
	switch when {
	case "at once":
		syscall.Kill(before, syscall.SIGKILL)
	case "when prepared":
		syscall.Kill(before, syscall.SIGSTOP) // so that the word stays unread
		line, err := unix.FcntlInt(firstStored, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			os.Exit(1)
		}
		go func() {
			for unread := 0; unread == 0; time.Sleep(time.Millisecond) {
				unread, _ = unix.IoctlGetInt(line, unix.SIOCOUTQ)
			}
			syscall.Kill(before, syscall.SIGKILL)
		}()
	}
	main()
}

// A process that is killed while its successor begins leaves all to that one: its
// sockets, its ledger, its visitors to come.
func TestKilledBeforeRelease(t *testing.T) {
	for _, when := range []string{"at once", "when prepared"} {
		t.Run(when, func(t *testing.T) {
			replace := replaceable(t)
			p := prepare(t)
			s := p.succeed(t)
			was := s.pid()
			replace(`exec orphan "` + when + `" "$@"`)
			var out, errs bytes.Buffer
			if err := askUpgrade(t.Context(), s.client, &out, &errs); err == nil {
				t.Errorf("who asked was told that it went well: %s", &out)
			}
			s.await(t, "the successor", func() bool { is := s.pid(); return is != 0 && is != was })
			v := &visitors{t: t, listen: s.listen, requests: map[string]*atomic.Int64{}}
			for _, proto := range []string{"h1", "h2", "h3"} {
				c, end := v.client(proto)
				defer end()
				if err := v.get(c, "/", 2); err != nil {
					t.Errorf("by %s: %v", proto, err)
				}
			}
			if state := s.state(); state.Ledger.Error != "" || state.Upgrade.Draining.PID != 0 || state.Ready != "ok" {
				t.Errorf("ledger %q, draining %+v, ready %s", state.Ledger.Error, state.Upgrade.Draining, state.Ready)
			}
			s.endsWell(t)
		})
	}
}

// A process whose successor dies when all was released has it again: it writes the
// ledger, the disk cache, and what was learned, which nobody else can meanwhile.
func TestFailedUpgradeGivesDutiesBack(t *testing.T) {
	replace := replaceable(t)
	origin := httptest.NewServer(http.HandlerFunc(slowly))
	defer origin.Close()
	s := crossroads(t, "127.0.0.1:0", origin.URL)
	has := func() {
		t.Helper()
		s.await(t, "the disk", func() bool { return s.state().Cache.Disk.Phase == "on" })
		if got := s.state().Ledger.Error; got != "" {
			t.Errorf("ledger: %s", got)
		}
		log := slog.New(slog.DiscardHandler)
		other := budget.OpenLedger(s.file("state"), log)
		defer other.Close()
		if got := other.State().Error; !strings.Contains(got, "another process uses it") {
			t.Errorf("the ledger of somebody else: %q", got)
		}
	}
	has()
	replace("exec halfway crashes")
	var out, errs bytes.Buffer
	if err := askUpgrade(t.Context(), s.client, &out, &errs); err == nil || !strings.Contains(errs.String(), "signal: killed") {
		t.Errorf("upgrade: %v\n%s%s", err, &out, &errs)
	}
	has()
	if err := os.Remove(learnedPath(s.file("state"))); err != nil {
		t.Fatal(err)
	}
	s.endsWell(t)
	if _, err := os.Stat(learnedPath(s.file("state"))); err != nil {
		t.Errorf("what was learned is not kept: %v", err)
	}
}

// A process whose successor is killed finishes what it has, as the main process of the
// unit again, whose manager has the sockets, and ends with an error, so that the node is
// started anew.
func TestBereavedProcessIsTheMainOneAgain(t *testing.T) {
	answer, arrived := make(chan struct{}), make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-answer
		io.WriteString(w, "ok")
	}))
	defer origin.Close()
	release := sync.OnceFunc(func() { close(answer) })
	defer release()
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	p := prepare(t, "http://GOOD", origin.URL, "http: off", "http: off\nhttp3: {enabled: false}") // which takes late flows for 10 s
	program, state := p.launch(t)
	s := p.serving(state)
	m.hear(t, "READY=1")
	v := &visitors{t: t, listen: s.listen}
	slow := make(chan error, 1)
	go func() {
		c, end := v.client("h1")
		defer end()
		slow <- v.get(c, "/", 2)
	}()
	<-arrived
	s.upgrade(t)
	is := s.pid()
	m.hear(t, fmt.Sprintf("READY=1\nMAINPID=%d", is))
	_, stored := m.hear(t, "FDNAME=https")
	defer stored["https"].Close()
	syscall.Kill(is, syscall.SIGKILL)
	m.hear(t, fmt.Sprintf("MAINPID=%d", program.Process.Pid))
	conn, err := net.Dial("tcp", s.listen)
	if err != nil {
		t.Errorf("who comes now does not wait: %v", err)
	} else {
		conn.Close()
	}
	release()
	if err := <-slow; err != nil {
		t.Errorf("who was there: %v", err)
	}
	if err := program.Wait(); err == nil || program.ProcessState.ExitCode() != 1 {
		t.Errorf("the process ended with %v", err)
	}
}
