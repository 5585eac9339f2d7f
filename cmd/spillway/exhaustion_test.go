package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// small mounts a disk of a few KiB, which ends with the test.
func small(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("a small disk needs root: mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestDiskThatFillsUp asks that answers go on without their lines, and that the
// log goes on, with a line lost at most, when there is room again.
func TestDiskThatFillsUp(t *testing.T) {
	disk := t.TempDir()
	small(t, disk)
	p := prepare(t, "DIR/access.log", disk+"/access.log")
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 12<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	lost := func() bool { return strings.Contains(p.log.String(), "access log cannot be written") }
	p.await(t, "the end of the disk", func() bool { p.serves(t); return lost() })
	p.awaitMetric(t, `spillway_access_log_lost_total [1-9]\d*`)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	back := func() bool { return strings.Contains(p.log.String(), "access log is written again") }
	p.await(t, "the return of the log", func() bool { p.serves(t); time.Sleep(100 * time.Millisecond); return back() })
	p.told(t, "access log cannot be written")
	lines, err := os.ReadFile(filepath.Join(disk, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	torn := 0
	for line := range bytes.Lines(lines) {
		if !json.Valid(line) {
			torn++
		}
	}
	if torn > 1 || !bytes.HasSuffix(lines, []byte("}\n")) {
		t.Errorf("%d lines are torn, and the end is %q", torn, lines[max(0, len(lines)-40):])
	}
}

// TestKeysOnAFullDisk asks that a state that cannot be kept whole is refused, and
// that nothing half-written is left behind.
func TestKeysOnAFullDisk(t *testing.T) {
	disk := t.TempDir()
	small(t, disk)
	if err := os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 16<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	p := prepare(t, "state: DIR/state", "state: "+disk+"/state")
	if err := p.build(); err == nil || !strings.Contains(err.Error(), "no space left on device: name a folder in state") {
		t.Errorf("started with %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(disk, "state", "*")); len(left) != 0 || err != nil {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// awaitFiles waits until all is closed that was open for a moment: what visitors and tests
// before have left would make room later.
func (p *place) awaitFiles(t *testing.T) {
	t.Helper()
	runtime.GC() // which closes what nobody has any more
	open, unchanged := 0, 0
	p.await(t, "that no more files are closed", func() bool {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		if unchanged++; len(files) != open {
			open, unchanged = len(files), 0
		}
		return unchanged == 20
	})
}

// TestFileDescriptorsRunOut asks that connections that are there go on, that the
// origin is not blamed, and that those who waited are served in the end.
func TestFileDescriptorsRunOut(t *testing.T) {
	p := prepare(t)
	p.start(t)
	p.serves(t)
	address := p.listeners.Addr().String()
	early := dialTLS(t, address)
	p.awaitFiles(t)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	restore := sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
	defer restore()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 200, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	var ballast []*os.File
	fill := func() {
		for f, err := os.Open(os.DevNull); err == nil; f, err = os.Open(os.DevNull) {
			ballast = append(ballast, f)
		}
	}
	fill()
	if len(ballast) == 0 {
		t.Fatal("more than 200 files were open before")
	}
	ballast[0].Close() // room for the visitor's end, and not for the node's
	late, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p.awaitMetric(t, `spillway_accept_failures_total [1-9]\d*`)
	for range 10 { // more than a breaker would stand
		fill() // what was open for a moment
		if got := ask(t, early, "/good"); got.StatusCode != 503 || !strings.Contains(got.Header.Get("Spillway"), "shed") {
			t.Errorf("without a connection to the origin: %d, %s", got.StatusCode, got.Header.Get("Spillway"))
		}
	}
	for _, f := range ballast[1:] {
		f.Close()
	}
	restore()
	if got := ask(t, early, "/good"); got.StatusCode != 200 {
		t.Errorf("afterwards: %d, %s", got.StatusCode, got.Header.Get("Spillway"))
	}
	if got := ask(t, overTLS(t, late), "/good"); got.StatusCode != 200 {
		t.Errorf("who waited got %d", got.StatusCode)
	}
	p.awaitMetric(t, `spillway_server_failures_total\{origin="good",.*\} 0`)
	p.await(t, "the end of it in the log", func() bool {
		p.serves(t)
		time.Sleep(100 * time.Millisecond)
		return strings.Contains(p.log.String(), "connections are accepted again")
	})
	p.told(t, "cannot accept connections")
}
