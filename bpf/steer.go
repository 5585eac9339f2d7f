package bpf

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// SetSocket gives a slot to a socket: datagrams whose connection ID names the slot
// are handed to it. A closed socket leaves its slot by itself; until then, or until
// another takes it, it can be given neither that slot again nor a second one (EBUSY).
func (a *Admission) SetSocket(slot int, conn syscall.Conn) error {
	return withDescriptor(conn, func(fd int) error {
		if err := a.maps.Sockets.Put(uint32(slot), uint64(fd)); err != nil {
			return fmt.Errorf("give slot %d to a socket: %w", slot, err)
		}
		return nil
	})
}

// Route hands new flows to count sockets from slot first on. Zero sockets leave them
// to the kernel's own choice.
func (a *Admission) Route(first, count int) error {
	route := admissionRoute{First: uint32(first), Count: uint32(count)}
	if err := a.maps.Routes.Put(uint32(0), &route); err != nil {
		return fmt.Errorf("route new flows: %w", err)
	}
	return nil
}

// Steer lets the program choose among the sockets of a group (SO_REUSEPORT). It
// serves the whole group, given any socket of it, until the last is closed, even after
// Close.
func (a *Admission) Steer(conn syscall.Conn) error {
	a.attaching.Lock()
	defer a.attaching.Unlock()
	program, err := a.program(admissionProgSteer)
	if err != nil {
		return err
	}
	return withDescriptor(conn, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program.FD()); err != nil {
			return fmt.Errorf("steer a group of sockets: %w", explain(err))
		}
		return nil
	})
}

func withDescriptor(conn syscall.Conn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("use a descriptor: %w", err)
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return fmt.Errorf("use a descriptor: %w", err)
	}
	return result
}
