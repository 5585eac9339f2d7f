package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"spillway/bpf/bpftest"
)

// The ends of a cable, over IPv4 and IPv6.
var (
	nodeAddrs   = []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("fd00:18::1")}
	clientAddrs = []netip.Addr{netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("fd00:18::2")}
)

// A cable joins a network for the node and one for its clients. The test, and what it
// starts, is in that of the clients.
type cable struct{ node, clients int }

// layCable moves the test to the clients' end of a new cable. The node's interface is
// n0.
func layCable(t *testing.T) cable {
	t.Helper()
	bpftest.OwnNetwork(t)
	c := cable{node: openNamespace(t)}
	bpftest.OwnNetwork(t)
	bpftest.IP(t, fmt.Sprintf("link add c0 type veth peer name n0 netns /proc/%d/fd/%d", os.Getpid(), c.node))
	c.clients = openNamespace(t)
	commands := func(iface string, addrs []netip.Addr) []string {
		return []string{
			fmt.Sprintf("addr add %s/30 dev %s", addrs[0], iface),
			fmt.Sprintf("addr add %s/64 dev %s nodad", addrs[1], iface),
			fmt.Sprintf("link set %s up", iface),
		}
	}
	bpftest.IP(t, commands("c0", clientAddrs)...)
	c.atNode(t, func() error {
		bpftest.IP(t, commands("n0", nodeAddrs)...)
		return nil
	})
	return c
}

// atNode runs f in the node's network. Sockets that it opens stay there.
func (c cable) atNode(t *testing.T, f func() error) {
	t.Helper()
	err := unix.Setns(c.node, unix.CLONE_NEWNET)
	if err == nil {
		err = errors.Join(f(), unix.Setns(c.clients, unix.CLONE_NEWNET))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// openNamespace returns the network that the thread is in.
func openNamespace(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}
