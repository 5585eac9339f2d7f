package main

import (
	"bytes"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// orphan is the program as a successor whose predecessor is killed before it has
// released anything: at once, or when it was told that the successor is prepared.
func orphan() {
	before, when := os.Getppid(), os.Args[1]
	os.Args = append([]string{"spillway"}, os.Args[2:]...)
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

// ownProgramFile gives the nodes of the test a program file of their own, and returns its
// path, at which a script may replace it.
func ownProgramFile(t *testing.T) string {
	t.Helper()
	own := filepath.Join(t.TempDir(), "spillway")
	if err := os.Symlink(programOf(t, "spillway").path, own); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(own)+":"+os.Getenv("PATH"))
	return own
}

// replaceProgram puts a script in place of the program.
func replaceProgram(t *testing.T, path, script string) {
	t.Helper()
	if err := os.WriteFile(path+".next", []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}

// A process that is killed while its successor begins leaves all to that one: its
// sockets, its ledger, its visitors to come.
func TestKilledBeforeRelease(t *testing.T) {
	for _, when := range []string{"at once", "when prepared"} {
		t.Run(when, func(t *testing.T) {
			own := ownProgramFile(t)
			p := prepare(t)
			s := p.succeed(t)
			was := s.pid()
			replaceProgram(t, own, `exec orphan "`+when+`" "$@"`)
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
