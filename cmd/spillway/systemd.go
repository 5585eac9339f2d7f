package main

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"spillway/edge"
)

// notify tells the service manager how the process does, and hands files to it, as
// sd_notify(3) and sd_pid_notify_with_fds(3) say. Without a manager it does nothing.
func notify(state string, files ...*os.File) error {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	// Go's net sends no descriptors on a datagram socket that is connected, and would
	// bind one that is not.
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(sock)
	err = unix.Sendmsg(sock, []byte(state), rightsTo(files), &unix.SockaddrUnix{Name: address}, 0)
	return os.NewSyscallError("sendmsg", err)
}

// firstStored is the descriptor of the first file that the service manager passes
// (sd_listen_fds(3)).
const firstStored = 3

// storedFiles returns what the process before left with the service manager, by the
// names it had there.
func storedFiles() (files []*os.File) {
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	mine := err == nil && os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid())
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	// They are meant for this process and none that it starts.
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if !mine {
		return nil
	}
	for i := range count {
		unix.CloseOnExec(firstStored + i)
		name := "stored"
		if i < len(names) {
			name = names[i]
		}
		files = append(files, os.NewFile(uintptr(firstStored+i), name))
	}
	return files
}

// storeFiles leaves the listening sockets with the service manager, in the place of those
// that it has: connections that come while no process runs wait in their queues. One that
// the configuration is without any more must not stay there, or visitors would wait in its
// queue for ever.
func storeFiles(files []*os.File) error {
	var errs []error
	for _, name := range edge.StreamNames {
		errs = append(errs, notify("FDSTOREREMOVE=1\nFDNAME="+name))
	}
	for _, f := range files {
		errs = append(errs, notify("FDSTORE=1\nFDNAME="+f.Name(), f))
	}
	return errors.Join(errs...)
}
