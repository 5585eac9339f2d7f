package edge_test

import (
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// Port 0 is a port that nobody has: not even a node that drains, which listens no more
// over TCP and would share its UDP port. The kernel has few to offer here.
func TestFreePortIsNobodys(t *testing.T) {
	runtime.LockOSThread() // which has the network, and ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("needs CAP_SYS_ADMIN for a network of its own: ", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40015"), 0); err != nil {
		t.Fatal(err)
	}
	open := func() edge.Sockets {
		socks, err := edge.OpenSockets(t.Context(), edgetest.New(nil).Config)
		if err != nil {
			t.Fatal(err)
		}
		return socks
	}
	port := func(s edge.Sockets) int { return s.UDP[0].LocalAddr().(*net.UDPAddr).Port }
	draining := open()
	defer draining.UDP[0].Close()
	draining.TCP.Close()
	for range 100 {
		socks := open()
		socks.Close()
		if got := port(socks); got == port(draining) {
			t.Fatalf("a node that drains has port %d", got)
		}
	}
}
