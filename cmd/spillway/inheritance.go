package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"spillway/bpf"
	"spillway/edge"
	"spillway/edge/admin"
	"spillway/edge/admit"
)

// succeeds is the variable that has the descriptor of the line to the process before.
const succeeds = "SPILLWAY_SUCCEEDS"

// helloPatience is how long a successor waits for the first word; not a knob.
const helloPatience = 10 * time.Second

// An inheritance is what a process has from the one before: of a process that runs and
// hands over, or of one that has ended and left its sockets with the service manager.
// It may be nothing.
type inheritance struct {
	talk       *talk // nil: nobody hands over
	files      []*os.File
	generation int    // of the node's sockets (see edge.Steering)
	steering   string // of the sockets of the process before
	idKey      []byte
	idLength   int
	rules      []admit.Rule // of commands, once await has returned
}

// inherit finds out what the process was given when it was started.
func inherit() (*inheritance, error) {
	text, heir := os.LookupEnv(succeeds)
	if !heir {
		return &inheritance{files: storedFiles()}, nil
	}
	os.Unsetenv(succeeds) // it is no setting, and for no process that this one starts
	descriptor, err := strconv.Atoi(text)
	if err != nil || descriptor < firstStored {
		return nil, fmt.Errorf("%s=%q is no descriptor; it is for processes that spillway starts", succeeds, text)
	}
	line, err := talkOn(os.NewFile(uintptr(descriptor), "talk"))
	if err != nil {
		return nil, err
	}
	i := &inheritance{talk: line}
	hello, files, err := line.receive(time.Now().Add(helloPatience))
	if err == nil && (hello.Word != wordHello || len(hello.Files) != len(files) || hello.Generation&^1 != 0) {
		closeFiles(files)
		err = fmt.Errorf("the first word was %q, with %d of %d files", hello.Word, len(files), len(hello.Files))
	}
	if err != nil {
		return nil, i.refuse(fmt.Errorf("succeed the running node: %w", err))
	}
	i.generation, i.steering, i.files = hello.Generation, hello.Steering, files
	i.idKey, i.idLength = hello.ConnectionIDKey, hello.ConnectionIDLength
	return i, nil
}

// succeeds reports whether a process that runs hands over.
func (i *inheritance) succeeds() bool { return i.talk != nil }

// refuse tells the process before why it has to go on, and returns the error.
func (i *inheritance) refuse(err error) error {
	if i.talk == nil {
		return err
	}
	reason := err.Error()
	// A message has its bounds, and a configuration may have a great many problems.
	if most := mostMessage / 24; len(reason) > most {
		reason = reason[:most]
	}
	failed := i.talk.send(message{Word: wordFailed, Reason: reason})
	i.talk.close()
	return errors.Join(err, failed)
}

// kernel returns what package bpf handed over.
func (i *inheritance) kernel() (files []*os.File) {
	for _, f := range i.files {
		if strings.HasPrefix(f.Name(), bpf.FilePrefix) {
			files = append(files, f)
		}
	}
	return files
}

// sockets returns the visitors' listening sockets, whatever their addresses.
func (i *inheritance) sockets() (edge.Sockets, error) {
	var streams []*os.File
	for _, f := range i.files {
		if f.Name() != admin.FileName && !strings.HasPrefix(f.Name(), bpf.FilePrefix) {
			streams = append(streams, f)
		}
	}
	if len(streams) == 0 {
		return edge.Sockets{}, nil
	}
	return edge.AdoptSockets(streams)
}

// operator returns the admin listener, or nil if there is none.
func (i *inheritance) operator() (net.Listener, error) {
	for _, f := range i.files {
		if f.Name() == admin.FileName {
			return net.FileListener(f)
		}
	}
	return nil, nil
}

// close closes the files. What was made of them stays open.
func (i *inheritance) close() {
	closeFiles(i.files)
	i.files = nil
}

// await says that the node is prepared and waits until the other has released what is
// exclusive. It reports whether that one lives: one that died has released it too.
func (i *inheritance) await(hash string) (alive bool, err error) {
	err = i.talk.send(message{Word: wordPrepared, Program: version(), Hash: hash})
	var m message
	if err == nil {
		m, _, err = i.talk.receive(time.Time{})
	}
	switch {
	case hungUp(err):
		return false, nil
	case err != nil:
		return false, err
	case m.Word != wordRelease:
		return false, fmt.Errorf("the answer to %s was %q", wordPrepared, m.Word)
	}
	i.rules = m.Rules
	return true, nil
}
