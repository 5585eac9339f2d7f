package bpf

import (
	"context"
	"errors"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"spillway/bpf/bpftest"
)

// A group is UDP sockets at one address of the loopback.
type group struct {
	t     *testing.T
	conns []*net.UDPConn
}

// add opens another socket of the group.
func (g *group) add() *net.UDPConn {
	g.t.Helper()
	address := "127.0.0.1:0"
	if len(g.conns) > 0 {
		address = g.conns[0].LocalAddr().String()
	}
	conn, err := listenShared(address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	g.conns = append(g.conns, conn)
	return conn
}

// listenShared opens a socket at an address that others share.
func listenShared(address string) (*net.UDPConn, error) {
	listen := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}), err)
	}}
	conn, err := listen.ListenPacket(context.Background(), "udp4", address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// deliver sends each datagram from a socket of its own, which is a NAT rebinding, and
// returns how many each socket of the group got.
func (g *group) deliver(datagrams ...[]byte) []int {
	g.t.Helper()
	got := make([]int, len(g.conns))
	for _, datagram := range datagrams {
		conn, err := net.Dial("udp4", g.conns[len(g.conns)-1].LocalAddr().String())
		if err != nil {
			g.t.Fatal(err)
		}
		if _, err := conn.Write(datagram); err != nil {
			g.t.Fatal(err)
		}
		conn.Close()
	}
	arrived := 0
	for ended := time.Now().Add(10 * time.Second); arrived < len(datagrams) && time.Now().Before(ended); runtime.Gosched() {
		for i, conn := range g.conns {
			for receive(g.t, conn) {
				got[i]++
				arrived++
			}
		}
	}
	return got
}

// receive takes a datagram that is there and reports whether one was.
func receive(t *testing.T, conn *net.UDPConn) bool {
	t.Helper()
	received, err := receiveNow(conn)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	return received
}

func receiveNow(conn *net.UDPConn) (received bool, err error) {
	err = withDescriptor(conn, func(fd int) error {
		_, _, err := unix.Recvfrom(fd, make([]byte, 2048), unix.MSG_DONTWAIT)
		received = err == nil
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		return err
	})
	return received, err
}

func repeat(n int, f func() []byte) (all [][]byte) {
	for range n {
		all = append(all, f())
	}
	return all
}

// TestSteer runs four sockets in two generations: connection IDs find their socket,
// whatever port they come from, and all else goes to those that take new flows.
func TestSteer(t *testing.T) {
	for form, server := range servers {
		t.Run(form, func(t *testing.T) {
			ids := testIDs(t, server)
			a := needKernel(t, Options{ConnectionIDs: ids})
			bpftest.OwnNetwork(t) // in everybody's a free port may be that of others who share theirs
			g := &group{t: t}     // without a heartbeat
			for slot := range 4 {
				if err := a.SetSocket(slot, g.add()); err != nil {
					t.Fatal(err)
				}
			}
			need(t, a.Steer(g.conns[0]))
			if err := a.Route(0, 2); err != nil {
				t.Fatal(err)
			}
			to := func(slot int) func() []byte { return func() []byte { return short(ids.New(slot), 60) } }
			f := func(what string, want [4]int, datagrams ...[]byte) {
				t.Helper()
				if got := g.deliver(datagrams...); [4]int(got) != want {
					t.Errorf("%s: %v, want %v", what, got, want)
				}
			}
			f("slot 1", [4]int{0, 30, 0, 0}, repeat(30, to(1))...)
			f("slot 3", [4]int{0, 0, 0, 30}, repeat(30, to(3))...)
			ofHandshake := func() []byte { return long(version1, handshake, ids.New(2), 300) }
			f("Handshake for slot 2", [4]int{0, 0, 30, 0}, repeat(30, ofHandshake)...)
			afterRetry := func() []byte { return long(version2, initial, ids.New(2), 1200) }
			f("Initial for slot 2", [4]int{0, 0, 30, 0}, repeat(30, afterRetry)...)

			// New flows and what only looks like ours go to the first two, by their hash.
			onlyTo := func(what string, first int, make func() []byte) {
				t.Helper()
				got := g.deliver(repeat(64, make)...)
				if got[first]+got[first+1] != 64 || got[first] == 0 || got[first+1] == 0 {
					t.Errorf("%s: %v", what, got)
				}
			}
			forged := func() []byte {
				id := ids.New(3)
				id[len(id)-1] ^= 1
				return short(id, 60)
			}
			newFlow := func() []byte { return long(version1, initial, ids.New(0)[:8], 1200) }
			onlyTo("new flows", 0, newFlow)
			onlyTo("forged", 0, forged)
			onlyTo("a slot without a socket", 0, to(9))
			onlyTo("a datagram of one byte", 0, func() []byte { return []byte{0x40} })

			// The next generation takes what is new, the old one keeps what it has.
			if err := a.Route(2, 2); err != nil {
				t.Fatal(err)
			}
			onlyTo("new flows", 2, newFlow)
			f("slot 1", [4]int{0, 30, 0, 0}, repeat(30, to(1))...)

			// A socket that has gone leaves its connections to those that can reset them.
			g.conns[1].Close()
			onlyTo("a closed socket's", 2, to(1))
		})
	}
}
