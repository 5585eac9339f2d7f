package main

import (
	"context"
	"crypto/tls"
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
		var err error
		n.do(func() { out, err = exec.Command("ip", strings.Fields(command)...).CombinedOutput() })
		if err != nil {
			t.Fatalf("ip %s: %v: %s", command, err, out)
		}
	}
	return n
}

// do runs f in the network.
func (n *network) do(f func()) {
	if n == nil {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // it ends with the goroutine
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // it has a file of the network
		}
		f()
	}()
	<-done
}

// dial opens a connection from an address, or any if that is empty.
func (n *network) dial(ctx context.Context, from, to string) (conn net.Conn, err error) {
	d := net.Dialer{}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	n.do(func() { conn, err = d.DialContext(ctx, "tcp", to) })
	return conn, err
}

// dialQUIC opens a connection of HTTP/3 on a socket of its own.
func (n *network) dialQUIC(ctx context.Context, to string, t *tls.Config, c *quic.Config) (*quic.Conn, error) {
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return nil, err
	}
	var sock *net.UDPConn
	n.do(func() { sock, err = net.ListenUDP("udp4", nil) })
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
