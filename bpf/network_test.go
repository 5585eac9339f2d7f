package bpf

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"spillway/bpf/bpftest"
)

// ownNamespace moves the test to a network of its own, with two interfaces at one cable,
// v0 and v1.
func ownNamespace(t *testing.T) {
	t.Helper()
	bpftest.OwnNetwork(t)
	bpftest.IP(t, "link add v0 type veth peer name v1", "link set v0 up", "link set v1 up")
}

func interfaceIndex(t *testing.T, name string) int {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

// send puts a frame on an interface.
func send(t *testing.T, iface int, frame []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: iface}); err != nil {
		t.Fatal(err)
	}
}
