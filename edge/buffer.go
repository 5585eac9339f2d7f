package edge

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
	"golang.org/x/sys/unix"
)

// ReceiveBuffer is what a UDP socket is given for packets that the node has not read
// yet, in bytes as setsockopt takes them; the kernel doubles it for its own books. A
// packet of a client hello takes 2,304 bytes of that on most drivers, and browsers with
// post-quantum keys send two: so it holds the first packets of 3,000 visitors. It is what
// quic-go asks for, too, but only when it begins to read.
const ReceiveBuffer = 7 << 20

// enlarge gives a socket its receive buffer, if it has less: with CAP_NET_ADMIN in any
// case, else as far as net.core.rmem_max goes. Who opened a socket that is adopted, or set
// net.core.rmem_default, may want more.
func enlarge(fd uintptr) error {
	if doubled, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil && doubled >= 2*ReceiveBuffer {
		return nil
	}
	if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, ReceiveBuffer) == nil {
		return nil
	}
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, ReceiveBuffer)
}

// A backlog is what a socket may hold and has had to drop.
type backlog struct {
	buffer  int64  // bytes, as setsockopt takes them
	dropped uint64 // packets, since the socket is there
}

// backlogOf asks the kernel.
func backlogOf(c net.PacketConn) (backlog, error) {
	sock, ok := c.(syscall.Conn)
	if !ok {
		return backlog{}, errors.ErrUnsupported // a simulated network
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return backlog{}, err
	}
	// The values of SO_MEMINFO: include/uapi/linux/sock_diag.h.
	const rcvbuf, drops, values = 1, 8, 9
	var info [values]uint32
	var failure syscall.Errno
	if err := raw.Control(func(fd uintptr) {
		size := uint32(unsafe.Sizeof(info))
		_, _, failure = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	}); err != nil {
		return backlog{}, err
	}
	if failure != 0 {
		return backlog{}, os.NewSyscallError("getsockopt", failure)
	}
	return backlog{buffer: int64(info[rcvbuf]) / 2, dropped: uint64(info[drops])}, nil
}

// unprocessed counts the packets of new visitors that are lost: those that quic-go drops
// because it has a thousand others before it (as DOS prevention), and those that an intake
// cannot hold, or cannot any longer.
type unprocessed struct {
	packets atomic.Uint64
}

// RecordEvent implements qlogwriter.Recorder.
func (u *unprocessed) RecordEvent(e qlogwriter.Event) {
	if d, ok := e.(qlog.PacketDropped); ok && d.Trigger == qlog.PacketDropDOSPrevention {
		u.packets.Add(1)
	}
}

// Close implements qlogwriter.Recorder.
func (u *unprocessed) Close() error { return nil }
