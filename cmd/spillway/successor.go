package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// How long a successor may take; not knobs. To be prepared it reads its configuration
// and makes keys and parts; to serve it opens files that are there.
const (
	preparePatience = 30 * time.Second
	servePatience   = 15 * time.Second
	// endPatience is for a process that has closed the line, to end.
	endPatience = 2 * time.Second
)

// A successor is the process that is to take this one's place.
type successor struct {
	talk    *talk
	process *os.Process
	ended   chan struct{} // closed when it is over
	state   *os.ProcessState
}

// A program is what a successor is started from.
type program struct {
	path string
	args []string
}

// ownProgram is the file that this process was started from, with its arguments. What
// stands there when it is started again may be another.
func ownProgram() (p program, err error) {
	if p.path, err = exec.LookPath(os.Args[0]); err == nil {
		p.path, err = filepath.Abs(p.path)
	}
	if err != nil {
		return p, fmt.Errorf("find the program's own file: %w", err)
	}
	p.args = os.Args
	return p, nil
}

// startSuccessor starts the program in the environment of this process, and says hello
// with the files.
func startSuccessor(program program, hello message, files []*os.File) (*successor, error) {
	line, theirs, err := newTalk()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(program.path)
	cmd.Args, cmd.Env = program.args, append(os.Environ(), fmt.Sprintf("%s=%d", succeeds, firstStored))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		line.close()
		return nil, fmt.Errorf("start %s: %w", program.path, err)
	}
	s := &successor{talk: line, process: cmd.Process, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		_ = cmd.Wait() // the state says all
		s.state = cmd.ProcessState
	}()
	for _, f := range files {
		hello.Files = append(hello.Files, f.Name())
	}
	if err := line.send(hello, files...); err != nil {
		s.kill()
		return nil, fmt.Errorf("start %s: %w", program.path, err)
	}
	return s, nil
}

// await waits for a word, and returns why it does not come.
func (s *successor) await(word string, patience time.Duration) (message, error) {
	m, files, err := s.talk.receive(time.Now().Add(patience))
	closeFiles(files)
	switch {
	case err == nil && m.Word == word:
		return m, nil
	case err == nil && m.Word == wordFailed:
		return m, errors.New(m.Reason)
	case err == nil:
		return m, fmt.Errorf("it said %q, and was to say %q", m.Word, word)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return m, fmt.Errorf("it was not %s within %s", word, patience)
	case hungUp(err):
		return m, s.end(word)
	}
	return m, err
}

// end says how a successor ended that has closed the line.
func (s *successor) end(word string) error {
	select {
	case <-s.ended:
		return fmt.Errorf("it ended before it was %s: %s; the log says why", word, s.state)
	case <-time.After(endPatience):
		return fmt.Errorf("it hung up before it was %s", word)
	}
}

// giveUp ends the waiting for a successor.
func (s *successor) giveUp() {
	_ = s.process.Kill() // it may have ended
	s.talk.close()       // which a process that it has started may hold
}

// kill ends the successor, and with it what it holds.
func (s *successor) kill() {
	s.giveUp()
	<-s.ended
}

// failed says how the successor ended if that was no good end, and nil while it runs.
func (s *successor) failed() error {
	select {
	case <-s.ended:
		if !s.state.Success() {
			return fmt.Errorf("the successor ended: %s", s.state)
		}
	default:
	}
	return nil
}
