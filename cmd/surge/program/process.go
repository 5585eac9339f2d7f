package program

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// A Spec says what to run.
type Spec struct {
	Name string // for messages
	Path string // of the executable
	Args []string
	Log  string // file for its output
	Dir  string // to run in; empty is ours
	Env  []string
	// Files are what it inherits besides its standard streams, from descriptor 3 on.
	Files []*os.File
	// Unprivileged runs it as nobody when we are root.
	Unprivileged bool
}

// A Process is a program that runs, with what it starts itself.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
}

// Start runs a program. It ends at the latest when we do, and must be stopped.
func Start(s Spec) (*Process, error) {
	log, err := os.OpenFile(s.Log, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Dir = log, log, s.Files, s.Dir
	cmd.Env = append(os.Environ(), s.Env...)
	// A group of its own, so that its children end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if s.Unprivileged {
		if cmd.SysProcAttr.Credential, err = Nobody(); err != nil {
			return nil, fmt.Errorf("start %s: %w", s.Name, err)
		}
	}
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	p := &Process{name: s.Name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Nobody is whom unprivileged programs run as: nil, which is ourselves, unless we
// are root.
func Nobody() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// Pid is the process's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output is what it wrote so far, of that the first megabyte.
func (p *Process) Output() string {
	b, _ := io.ReadAll(io.NewSectionReader(p.log, 0, 1<<20))
	return string(b)
}

// Await asks again and again whether the process is so far. It fails when the
// process has ended, or ctx.
func (p *Process) Await(ctx context.Context, ready func() bool) error {
	for !ready() {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended early:\n%s", p.name, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w\n%s", p.name, context.Cause(ctx), p.Output())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// Stop ends the process and those that it started: politely, then by force.
func (p *Process) Stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	// What is left of the group, if anything is, has no use.
	_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
	<-p.done
	p.log.Close()
}
