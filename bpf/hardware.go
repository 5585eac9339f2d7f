package bpf

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// hasEthernet reports whether the frames of an interface begin with an Ethernet header, by
// which packets are judged. Those of a loopback do; of tunnels, WireGuard, PPP and tun
// there is a bare packet.
func hasEthernet(iface int) (bool, error) {
	all, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return false, fmt.Errorf("list the interfaces: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(all)
	if err != nil {
		return false, fmt.Errorf("list the interfaces: %w", err)
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		// struct ifinfomsg of rtnetlink(7): family, padding, hardware type, index.
		hardware, index := binary.NativeEndian.Uint16(m.Data[2:]), binary.NativeEndian.Uint32(m.Data[4:])
		if int(index) == iface {
			return hardware == unix.ARPHRD_ETHER || hardware == unix.ARPHRD_LOOPBACK, nil
		}
	}
	return false, fmt.Errorf("there is no interface %d", iface)
}

// needEthernet says that an interface has no Ethernet headers, or nil.
func needEthernet(iface int) error {
	has, err := hasEthernet(iface)
	if err == nil && !has {
		err = ErrNotEthernet
	}
	return err
}
