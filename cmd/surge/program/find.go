package program

import (
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrMissing says that a program of others is not installed.
var ErrMissing = errors.New("is not installed")

// Find looks for a program of others where users have it, and where administrators
// do.
func Find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", name)); err == nil {
		return path, nil
	}
	return "", ErrMissing
}

// Pinned is a program with one core and no other. Without taskset it has them all.
func Pinned(core int, s Spec) Spec {
	if taskset, err := exec.LookPath("taskset"); err == nil {
		s.Path, s.Args = taskset, append([]string{"-c", strconv.Itoa(core), s.Path}, s.Args...)
	}
	return s
}

// FreeAddress is a port of loopback that nobody has, neither of TCP nor of UDP, for
// programs that do not say which one they were given.
func FreeAddress() (string, error) {
	var failed error
	for range 20 { // of TCP, a port may be in use that is free of UDP
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		address := conn.LocalAddr().String()
		l, err := net.Listen("tcp", address)
		if failed = errors.Join(err, conn.Close()); err == nil {
			return address, errors.Join(failed, l.Close())
		}
	}
	return "", failed
}

// Version is the first number with a dot that a program says when asked with args.
func Version(path string, args ...string) string {
	out, _ := exec.Command(path, args...).CombinedOutput()
	return numberIn(string(out))
}

func numberIn(text string) string {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }) {
		if word = strings.Trim(word, "."); strings.Contains(word, ".") {
			return word
		}
	}
	return ""
}
