package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// xdpBasic is the bit of xdpFeatures that means native mode (NETDEV_XDP_ACT_BASIC).
const xdpBasic = 1

// What is used of linux/netdev.h: a command and its attributes.
const (
	netdevGet         = 1
	netdevIndex       = 1
	netdevXDPFeatures = 3
)

var errAnswer = errors.New("an answer without what was asked for")

// xdpFeatures asks the kernel, 6.3 and later, what a driver has of native mode.
func xdpFeatures(iface int) (uint64, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return 0, fmt.Errorf("open netlink: %w", err)
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(time.Second.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, fmt.Errorf("set a deadline for netlink: %w", err)
	}
	family, err := askNetlink(fd, question{
		family: unix.GENL_ID_CTRL, command: unix.CTRL_CMD_GETFAMILY,
		attribute: unix.CTRL_ATTR_FAMILY_NAME, value: []byte("netdev\x00"), answer: unix.CTRL_ATTR_FAMILY_ID,
	})
	if err != nil {
		return 0, fmt.Errorf("ask for netdev: %w", err)
	}
	if len(family) != 2 {
		return 0, errAnswer
	}
	features, err := askNetlink(fd, question{
		family: binary.NativeEndian.Uint16(family), command: netdevGet,
		attribute: netdevIndex, value: binary.NativeEndian.AppendUint32(nil, uint32(iface)), answer: netdevXDPFeatures,
	})
	if err != nil {
		return 0, fmt.Errorf("ask for interface %d: %w", iface, err)
	}
	if len(features) != 8 {
		return 0, errAnswer
	}
	return binary.NativeEndian.Uint64(features), nil
}

// A question is a command of a family of generic netlink with one attribute, to be
// answered by another.
type question struct {
	family            uint16
	command           uint8
	attribute, answer uint16
	value             []byte
}

// message returns the question as netlink wants it: header, command, attribute.
func (q question) message() []byte {
	const headers = unix.SizeofNlMsghdr + unix.GENL_HDRLEN + unix.SizeofNlAttr
	size := headers + (len(q.value)+3)&^3
	b := make([]byte, 0, size)
	b = binary.NativeEndian.AppendUint32(b, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, q.family)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // no sequence, from the kernel's choice of port
	b = append(b, q.command, 1, 0, 0)
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(q.value)))
	b = binary.NativeEndian.AppendUint16(b, q.attribute)
	b = append(b, q.value...)
	return b[:size]
}

func askNetlink(fd int, q question) ([]byte, error) {
	if err := unix.Sendto(fd, q.message(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	buffer := make([]byte, 1<<14)
	n, _, err := unix.Recvfrom(fd, buffer, 0)
	if err != nil {
		return nil, err
	}
	return q.read(buffer[:n])
}

// read returns the attribute that answers the question.
func (q question) read(message []byte) ([]byte, error) {
	messages, err := syscall.ParseNetlinkMessage(message)
	if err != nil {
		return nil, err
	}
	if len(messages) == 0 {
		return nil, errAnswer
	}
	data := messages[0].Data
	if messages[0].Header.Type == unix.NLMSG_ERROR && len(data) >= 4 {
		return nil, unix.Errno(-int32(binary.NativeEndian.Uint32(data)))
	}
	if messages[0].Header.Type != q.family || len(data) < unix.GENL_HDRLEN {
		return nil, errAnswer
	}
	for data = data[unix.GENL_HDRLEN:]; len(data) >= unix.SizeofNlAttr; {
		length := int(binary.NativeEndian.Uint16(data))
		if length < unix.SizeofNlAttr || length > len(data) {
			break
		}
		if binary.NativeEndian.Uint16(data[2:])&^unix.NLA_F_NESTED == q.answer {
			return data[unix.SizeofNlAttr:length], nil
		}
		data = data[min((length+3)&^3, len(data)):]
	}
	return nil, errAnswer
}
