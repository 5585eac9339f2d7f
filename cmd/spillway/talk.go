package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"spillway/edge/admit"
)

// talkVersion is the version of what two generations of the program say to each other.
// A change that the other side cannot overlook has a new one: then the upgrade is
// refused, and a restart is the way.
const talkVersion = 1

// The words of an upgrade, in their order. The process that runs says hello, release
// and, while it drains, draining, or stop once if the node is to end; its successor
// answers prepared and serving, or failed instead of either.
const (
	wordHello    = "hello"
	wordPrepared = "prepared" // all is built that needs nothing of the other's
	wordRelease  = "release"  // what one process alone can have is free
	wordServing  = "serving"
	wordFailed   = "failed"
	wordDraining = "draining"
	wordStop     = "stop"
)

// A message is one word, and what belongs to it.
type message struct {
	Word    string `json:"word"`
	Version int    `json:"version"`
	// Files names the descriptors that come with hello, in their order.
	Files []string `json:"files,omitempty"`
	// Generation is that of the successor, of hello (see edge.Steering).
	Generation int `json:"generation,omitempty"`
	// Steering is how the UDP sockets of the process before are steered, of hello (see
	// edge.Steering).
	Steering string `json:"steering,omitempty"`
	// ConnectionIDKey is of hello: the keys of connection IDs are derived from it.
	ConnectionIDKey []byte `json:"connection_id_key,omitempty"`
	// ConnectionIDLength is of hello: without privilege connections are found by where
	// in the ID their generation stands.
	ConnectionIDLength int `json:"connection_id_length,omitempty"`
	// Rules are of release: those in force that do not stand in the configuration.
	Rules []admit.Rule `json:"rules,omitempty"`
	// Program and Hash are of prepared: its version and that of its configuration.
	Program string `json:"program,omitempty"`
	Hash    string `json:"hash,omitempty"`
	Reason  string `json:"reason,omitempty"` // of failed
	// Draining and Corrections are of draining, what it is about and what budgets
	// have spent beyond what was reserved (see budget.Ledger.GiveBack).
	Draining    generation         `json:"draining,omitzero"`
	Corrections map[string]float64 `json:"corrections,omitempty"`
	At          time.Time          `json:"at,omitzero"`
}

// A generation is a process that drains while its successor serves.
type generation struct {
	PID      int       `json:"pid"`
	Since    time.Time `json:"since"` // when it began to drain
	Until    time.Time `json:"until"` // what is left then is cut off
	Requests int64     `json:"requests_in_flight"`
}

// A talk is one end of the line between two generations. Each message is a packet of
// its own, with which descriptors may come.
type talk struct{ conn *net.UnixConn }

// Limits of a message, not knobs: 1,024 rules are the most it has, and the kernel passes
// at most 253 descriptors.
const (
	mostMessage = 192 << 10
	mostFiles   = 253
)

// newTalk returns one end of a line, and the other to be given to a child.
func newTalk() (*talk, *os.File, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "talk")
	ours, err := talkOn(os.NewFile(uintptr(ends[0]), "talk"))
	if err != nil {
		theirs.Close()
	}
	return ours, theirs, err
}

// talkOn takes the file over.
func talkOn(file *os.File) (*talk, error) {
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("open line between generations: %w", err)
	}
	line, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("open line between generations: not a unix socket")
	}
	return &talk{line}, nil
}

func (t *talk) send(m message, files ...*os.File) error {
	m.Version = talkVersion
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("say %s: %w", m.Word, err)
	}
	// Who does not read must not hold up the one that serves.
	t.conn.SetWriteDeadline(time.Now().Add(time.Second))
	if _, _, err := t.conn.WriteMsgUnix(body, rightsTo(files), nil); err != nil {
		return fmt.Errorf("say %s: %w", m.Word, err)
	}
	return nil
}

// receive waits for a message until the deadline; zero is none. The caller closes the
// files.
func (t *talk) receive(deadline time.Time) (m message, files []*os.File, err error) {
	t.conn.SetReadDeadline(deadline)
	body, rights := make([]byte, mostMessage), make([]byte, unix.CmsgSpace(4*mostFiles))
	n, rn, _, _, err := t.conn.ReadMsgUnix(body, rights)
	if err != nil {
		return m, nil, err
	}
	err = json.Unmarshal(body[:n], &m)
	files, failed := filesOf(rights[:rn], m.Files)
	if err == nil {
		err = failed
	}
	if err == nil && m.Version != talkVersion {
		err = fmt.Errorf("it speaks version %d of the hand-over, this program version %d; restart the node instead", m.Version, talkVersion)
	}
	if err != nil {
		closeFiles(files)
		return m, nil, err
	}
	return m, files, nil
}

// rightsTo returns what carries descriptors beside a message (unix(7)).
func rightsTo(files []*os.File) []byte {
	if len(files) == 0 {
		return nil
	}
	descriptors := make([]int, len(files))
	for i, f := range files {
		descriptors[i] = int(f.Fd())
	}
	return unix.UnixRights(descriptors...)
}

// filesOf returns the descriptors that came with a message, with their names.
func filesOf(rights []byte, names []string) (files []*os.File, err error) {
	if len(rights) == 0 {
		return nil, nil
	}
	parts, err := unix.ParseSocketControlMessage(rights)
	for _, part := range parts {
		descriptors, failed := unix.ParseUnixRights(&part)
		err = errors.Join(err, failed)
		for _, d := range descriptors {
			name := ""
			if len(files) < len(names) {
				name = names[len(files)]
			}
			files = append(files, os.NewFile(uintptr(d), name))
		}
	}
	return files, err
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// hungUp reports whether there is nobody at the other end. Who died with a word unread
// resets the line.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// awaitEnd waits until the process that made the line has ended. One that is killed may
// still hold its locks when it has lost the line already.
func (t *talk) awaitEnd(patience time.Duration) error {
	raw, err := t.conn.SyscallConn()
	if err != nil {
		return err
	}
	var maker *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		maker, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	process, err := unix.PidfdOpen(int(maker.Pid), 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(process)
	for deadline := time.Now().Add(patience); ; {
		left := time.Until(deadline)
		ended, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, int(max(0, left.Milliseconds())))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("poll", err)
		case ended == 0:
			return fmt.Errorf("process %d does not end", maker.Pid)
		default:
			return nil
		}
	}
}

func (t *talk) close() { t.conn.Close() }
