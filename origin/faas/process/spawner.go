package process

import (
	"errors"
	"os/exec"
	"runtime"
)

// A spawner starts all children from one OS thread that lives as long as the
// host. The kernel sends a child its parent-death signal when the thread that
// made it exits, not the process, and Go's threads come and go.
type spawner struct {
	requests chan request
	done     chan struct{}
}

type request struct {
	cmd    *exec.Cmd
	result chan error
}

var errStopped = errors.New("the function host has stopped")

func newSpawner() *spawner {
	return &spawner{requests: make(chan request), done: make(chan struct{})}
}

// run serves until close. It never unlocks the thread, which ends with it.
func (s *spawner) run() {
	runtime.LockOSThread()
	for {
		select {
		case r := <-s.requests:
			r.result <- r.cmd.Start()
		case <-s.done:
			return
		}
	}
}

func (s *spawner) start(cmd *exec.Cmd) error {
	r := request{cmd: cmd, result: make(chan error, 1)}
	select {
	case s.requests <- r:
		return <-r.result
	case <-s.done:
		return errStopped
	}
}

func (s *spawner) close() { close(s.done) }
