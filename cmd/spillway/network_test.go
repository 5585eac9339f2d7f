package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"

	"spillway/bpf/bpftest"
)

// A network is one in which sockets can be opened from any thread. A nil one is that of
// whoever asks.
type network struct{ file *os.File }

// otherEnd moves v1, the other end of the cable of ownNetwork, to a network of visitors,
// where it has 192.0.2.2 and 192.0.2.3.
func otherEnd(t *testing.T) *network {
	t.Helper()
	n := &network{}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with the thread
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	bpftest.IP(t, fmt.Sprintf("link set v1 netns /proc/%d/fd/%d", os.Getpid(), n.file.Fd()))
	for _, command := range []string{"link set lo up", "addr add 192.0.2.2/24 dev v1", "addr add 192.0.2.3/24 dev v1", "link set v1 up"} {
		var out []byte
		err := n.do(func() (err error) {
			out, err = exec.Command("ip", strings.Fields(command)...).CombinedOutput()
			return err
		})
		if err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, out)
		}
	}
	return n
}

// do runs f in the network, and returns its error. Who comes when the test has ended, as
// a client may that dials for a request which is over, finds no network any more.
func (n *network) do(f func() error) error {
	if n == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // it ends with the goroutine
		err := n.enter()
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// enter moves the thread to the network.
func (n *network) enter() error {
	raw, err := n.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.Setns(int(fd), unix.CLONE_NEWNET) })
	return errors.Join(err, failed)
}

// dial opens a connection from an address, or any if that is empty.
func (n *network) dial(ctx context.Context, from, to string) (conn net.Conn, err error) {
	d := net.Dialer{}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	err = n.do(func() (err error) { conn, err = d.DialContext(ctx, "tcp", to); return err })
	return conn, err
}

// dialQUIC opens a connection of HTTP/3 on a socket of its own.
func (n *network) dialQUIC(ctx context.Context, to string, t *tls.Config, c *quic.Config) (*quic.Conn, error) {
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return nil, err
	}
	var sock *net.UDPConn
	err = n.do(func() (err error) { sock, err = net.ListenUDP("udp4", nil); return err })
	if err != nil {
		return nil, err
	}
	transport := &quic.Transport{Conn: sock}
	leave := func() { transport.Close(); sock.Close() }
	conn, err := transport.DialEarly(ctx, addr, t, c)
	if err != nil {
		leave()
		return nil, err
	}
	context.AfterFunc(conn.Context(), leave)
	return conn, nil
}
