// Package bpftest gives tests of what a kernel does with packets a network of their own,
// so that they touch nobody else's and leave nothing behind.
//
// It is imported by tests only. A test that may not have such a network, or lacks the
// program ip, is skipped and says why; whatever else fails ends it.
package bpftest

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// OwnNetwork moves the test, its thread and the programs it starts to a network of their
// own, which has a loopback. They come back when the test ends.
func OwnNetwork(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a network namespace of its own needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip is not installed; scripts/setup installs it")
	}
	runtime.LockOSThread()
	before, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setns(before, unix.CLONE_NEWNET); err != nil {
			return // the thread ends with the goroutine
		}
		unix.Close(before)
		runtime.UnlockOSThread()
	})
	IP(t, "link set lo up")
}

// IP runs the program of that name once for each command, and returns what it says.
func IP(t testing.TB, commands ...string) string {
	t.Helper()
	var said strings.Builder
	for _, c := range commands {
		output, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %s: %v: %s", c, err, output)
		}
		said.Write(output)
	}
	return said.String()
}
