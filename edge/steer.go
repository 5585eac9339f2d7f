package edge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"spillway/edge/admit"
)

// generationSlots is how many slots a generation of sockets has: of the 64 that
// connection IDs can name, generation 0 has the first half and 1 the second.
const generationSlots = 32

// Steering says how datagrams find the socket of their connection. A connection's
// packets change their address when the visitor's NAT or network does, and the
// kernel by itself goes by addresses.
type Steering struct {
	// IDs makes the connection IDs. HTTP/3 needs them.
	IDs admit.ConnectionIDs
	// Kernel hands datagrams to the socket that their connection ID names. Without it,
	// or when it is not to be had, there is one UDP socket.
	Kernel admit.Steering
	// Generation is 0 or 1. A process and its successor, which have sockets at one
	// address for a while, must differ in it.
	Generation int
	// Before is the one of Steerings by which the generation before, which still has its
	// sockets there, finds them. Empty: there are none.
	Before string
	// Sockets is how many UDP sockets there are to be, 32 at most. Zero is one per core.
	Sockets int
}

// slot returns the slot of one of the sockets.
func (s *Steering) slot(socket int) int { return s.Generation*generationSlots + socket }

// The ways in which datagrams find their socket.
const (
	steeredByKernel  = "kernel"  // by the whole connection ID, tag included
	steeredByClassic = "classic" // by the generation in the connection ID, one socket each
	steeredByNothing = "none"    // by addresses
	singleSocket     = "single"  // there is but one
)

// Steerings are the ways in which datagrams find their socket, as ListenState has them.
var Steerings = []string{steeredByKernel, steeredByClassic, steeredByNothing, singleSocket}

// ErrOtherSteering means that the kernel steers the sockets of the generation before and
// cannot be had to steer those of this one, so that either would lose its packets.
var ErrOtherSteering = errors.New("the UDP sockets of the process before are steered by the kernel, as those of this one cannot be")

// Steer has datagrams find the socket of their connection, and opens one UDP socket
// per core if the kernel steers. With more than one and nothing that steers, a
// connection would die when a visitor's NAT moves it, so that a kernel that cannot
// leaves the node with the one it has; that is no error. Beside a generation before
// whose sockets are steered otherwise there is ErrOtherSteering, or one socket that is
// steered as theirs. It must be called once, before NewListenersOn.
func (s *Sockets) Steer(ctx context.Context, steering Steering) error {
	s.Steering = steering
	if len(s.UDP) == 0 {
		return nil
	}
	switch {
	case steering.Before == steeredByKernel:
		// One program is at work in a group, and that of classic BPF knows two sockets.
		if steering.Kernel == nil {
			return ErrOtherSteering
		}
		if err := s.group(); err != nil {
			return fmt.Errorf("%w: %w", ErrOtherSteering, err)
		}
	case steering.Kernel == nil:
		return nil
	case steering.Before != "":
		s.unsteered = errors.New("the process before had a socket that the kernel's program does not know; a restart lets it steer")
		return nil
	default:
		if s.unsteered = s.group(); s.unsteered != nil {
			return nil
		}
	}
	wanted := steering.Sockets
	if wanted == 0 {
		wanted = runtime.GOMAXPROCS(0)
	}
	for len(s.UDP) < min(wanted, generationSlots) {
		sock, err := listenUDP(ctx, s.UDP[0].LocalAddr().String())
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil // the first was handed over, and is not to share its address
		}
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		s.UDP = append(s.UDP, sock)
		if err := s.give(len(s.UDP) - 1); err != nil {
			return err
		}
	}
	return nil
}

// group gives the sockets that are there their slots, and their group to the kernel's
// program, which new ones join.
func (s *Sockets) group() error {
	for i := range s.UDP {
		if err := s.give(i); err != nil {
			return err
		}
	}
	return s.Steering.Kernel.Steer(s.UDP[0].(syscall.Conn))
}

// give gives a socket its slot.
func (s *Sockets) give(i int) error {
	if i >= generationSlots {
		return fmt.Errorf("%d UDP sockets: connection IDs can name %d", len(s.UDP), generationSlots)
	}
	conn, ok := s.UDP[i].(syscall.Conn)
	if !ok {
		return errors.New("not a socket of the operating system")
	}
	return s.Steering.Kernel.SetSocket(s.Steering.slot(i), conn)
}

// steered says how datagrams find their socket.
func (s *Sockets) steered() string {
	switch {
	case s.Steering.Kernel != nil && s.unsteered == nil:
		return steeredByKernel
	case len(s.UDP) > 1:
		return steeredByNothing
	case s.Steering.Before != "":
		return steeredByClassic
	}
	return singleSocket
}

// draw hands new flows to these sockets. Until then a generation before has them.
func (s *Sockets) draw() error {
	switch s.steered() {
	case steeredByKernel:
		return s.Steering.Kernel.Route(s.Steering.slot(0), len(s.UDP))
	case steeredByClassic:
		return choose(s.UDP[0], byGeneration(s.Steering.IDs, s.Steering.Generation))
	}
	return nil
}

// Hold keeps all datagrams at the one socket of this generation, so that they do not
// go to a successor's before it asks for them. It must be called before the
// successor opens its socket. Where the kernel steers nothing has to be done. Several
// sockets that nothing steers cannot be held, as their packets would all come to one.
func (s *Sockets) Hold() error {
	if len(s.UDP) == 0 || s.steered() == steeredByKernel {
		return nil
	}
	if len(s.UDP) > 1 {
		return fmt.Errorf("nothing steers the packets of %d UDP sockets, which a successor would take from each other", len(s.UDP))
	}
	return choose(s.UDP[0], []bpf.Instruction{bpf.RetConstant{Val: older}})
}

// The positions of two sockets in their group, which is the order in which they were
// bound. When one closes, the other has the first, and a program that names the
// second leaves the choice, which is none, to the kernel.
const older, newer = 0, 1

// Where things are in a packet (RFC 9000 section 17) and in a connection ID: its last
// twelve bytes begin with a random one and one that has the generation as its third
// highest bit (see bpf.ConnectionIDs).
const (
	longHeader         = 0x80
	lengthAt, longAt   = 5, 6 // of the destination connection ID in a long header
	shortAt            = 1
	cidTail            = 12
	firstOctet         = 0xe0 // of QUIC-LB: the number of the configuration
	cidZero, cidNewest = 0x40, 0x20
)

// byGeneration returns a program of classic BPF, which needs no privilege, for a group
// of two sockets: connection IDs of the node go to the socket of the generation that
// they name, all else to the newer one's. It cannot compute tags. In long headers it
// knows IDs of the node by all that is constant in them, which one in 16 of the
// clients' random ones of 12 bytes has too, and none in billions where there is a
// server ID; short headers have none but the node's.
func byGeneration(ids admit.ConnectionIDs, newest int) []bpf.Instruction {
	id := ids.New(newest * generationSlots)
	generationAt := uint32(len(id) - cidTail + 1)
	at := func(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: 1} }
	isOr := func(value byte) []bpf.Instruction {
		return []bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(value), SkipTrue: 1},
			bpf.RetConstant{Val: newer},
		}
	}
	long := append([]bpf.Instruction{at(lengthAt)}, isOr(byte(len(id)))...)
	long = append(long, at(longAt), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: firstOctet})
	long = append(long, isOr(id[0]&firstOctet)...)
	for i, b := range id[1 : len(id)-cidTail+1] {
		long = append(append(long, at(longAt+1+uint32(i))), isOr(b)...)
	}
	long = append(long, at(longAt+generationAt),
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: cidZero, SkipFalse: 1},
		bpf.RetConstant{Val: newer})
	program := append([]bpf.Instruction{
		at(0),
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: longHeader, SkipTrue: 2},
		at(shortAt + generationAt),
		bpf.Jump{Skip: uint32(len(long))},
	}, long...)
	position := [2]uint32{older, older}
	position[newest] = newer
	return append(program,
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: cidNewest, SkipTrue: 1},
		bpf.RetConstant{Val: position[0]},
		bpf.RetConstant{Val: position[1]})
}

// choose has a program choose among the sockets of a group (SO_REUSEPORT) by the
// payload of a datagram.
func choose(sock any, program []bpf.Instruction) error {
	conn, ok := sock.(syscall.Conn)
	if !ok {
		return errors.New("steer UDP: not a socket of the operating system")
	}
	code, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("steer UDP: %w", err)
	}
	filter := make([]unix.SockFilter, len(code))
	for i, c := range code {
		filter[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("steer UDP: %w", err)
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	var result error
	if err := raw.Control(func(fd uintptr) {
		result = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &prog)
	}); err != nil {
		return fmt.Errorf("steer UDP: %w", err)
	}
	if result != nil {
		return fmt.Errorf("steer UDP: %w", os.NewSyscallError("setsockopt", result))
	}
	return nil
}
