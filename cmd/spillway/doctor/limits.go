package doctor

import (
	"strings"

	"golang.org/x/sys/unix"
)

// A limit is a setting of the kernel that has to be high enough.
type limit struct {
	name  string
	least int64
	is    string // how a value reads
	// What to do where it is lower, and what follows there.
	remedy, lower string
}

const (
	sysctlHint = "sysctl --system applies /etc/sysctl.d/60-spillway.conf, which the installation ships; in a container the host has to"
	lateness   = "HTTP/3 drops packets whenever the node is late by milliseconds"
)

// The limits. All but the last are as the installation sets them
// (scripts/systemd/sysctl.conf), which says why.
var (
	receiveBuffer = limit{"net.core.rmem_max", 7_500_000, "%d bytes", sysctlHint, lateness}
	sendBuffer    = limit{"net.core.wmem_max", 7_500_000, "%d bytes", sysctlHint, lateness}
	acceptQueue   = limit{
		"net.core.somaxconn", 16_384, "%d connections may wait to be accepted", sysctlHint,
		"of a burst the others try again after a second",
	}
	// What the kernel does when half-open TCP connections fill its queue (RFC 4987
	// section 3.6).
	synCookies = limit{
		"net.ipv4.tcp_syncookies", 1, "set to %d", "sysctl -w net.ipv4.tcp_syncookies=1",
		"a flood of SYNs fills the queue, and keeps everybody out",
	}
)

func (m machine) limit(l limit) Finding {
	switch value, known := m.sysctl(l.name); {
	case !known:
		return Warn.of(l.name, "ask on the host", "does not show in this container")
	case value < l.least:
		return Warn.of(l.name, l.remedy, l.is+", not %d: %s", value, l.least, l.lower)
	default:
		return ok(l.name, l.is, value)
	}
}

// receives looks at what a UDP socket holds of packets that the node has not read yet; zero
// is that there is none. A node with CAP_NET_ADMIN takes what it wants, and one that does
// not run will take what it may.
func (m machine) receives(has int64) Finding {
	const what, wanted = "UDP receive buffer", 7 << 20 // edge.ReceiveBuffer
	if has >= wanted {
		return ok(what, "%d MiB for each socket", has>>20)
	}
	f := m.limit(receiveBuffer)
	if has > 0 && f.Verdict == OK {
		return Warn.of(what, "restart the node: its sockets are older than the limit", "%d bytes for each socket, not %d: %s", has, wanted, lateness)
	}
	return f
}

// conntrack looks at the firewall's table of connections: when it is full, the
// kernel drops packets of new ones before anybody sees them.
func (m machine) conntrack() Finding {
	const remedy = "raise net.netfilter.nf_conntrack_max, or have the firewall not track the node's ports (notrack)"
	count, tracked := m.sysctl("net.netfilter.nf_conntrack_count")
	most, _ := m.sysctl("net.netfilter.nf_conntrack_max")
	switch {
	case !tracked || most == 0:
		return ok("conntrack", "connections are not tracked")
	case count >= most:
		return Fail.of("conntrack", remedy, "the table is full, %d connections: new ones are dropped", most)
	case count > most/2:
		return Warn.of("conntrack", remedy, "%d of %d connections; a crowd fills the table, and new ones are dropped", count, most)
	}
	return ok("conntrack", "%d of %d connections", count, most)
}

// files looks at how many files the process may open: each TCP visitor is one, and
// each request to an origin.
func (m machine) files(connections int64) Finding {
	values := strings.Fields(field(m.of("limits"), "Max open files"))
	var most int64
	if len(values) > 0 {
		most = number(values[0])
	}
	switch {
	case most == 0:
		return Warn.of("open files", "run this as root", "the limit of %s does not show", m.who())
	case most < connections:
		return Warn.of("open files", "raise LimitNOFILE in the unit, or ulimit -n, or lower admission.connections",
			"%s may open %d, and has %d connections to hold", m.who(), most, connections)
	}
	return ok("open files", "%s may open %d", m.who(), most)
}

// gso asks for the sending of many packets by one system call, as quic-go does.
func gso(wanted bool) Finding {
	if !wanted {
		return ok("UDP GSO", "switched off by http3.gso")
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Warn.of("UDP GSO", "see why no UDP socket can be made", "%v", err)
	}
	defer unix.Close(socket)
	if _, err := unix.GetsockoptInt(socket, unix.IPPROTO_UDP, unix.UDP_SEGMENT); err != nil {
		return Warn.of("UDP GSO", "upgrade the kernel to 5.x", "the kernel has none: HTTP/3 costs about twice the CPU")
	}
	return ok("UDP GSO", "many packets go in one system call")
}

// clock asks the kernel whether somebody keeps its clock right. Certificates, tickets
// of the waiting room and the hours of budgets go by it.
func clock() Finding {
	const remedy = "switch a time service on, such as systemd-timesyncd or chrony: timedatectl set-ntp true"
	var t unix.Timex
	switch state, err := unix.Adjtimex(&t); {
	case err != nil:
		return Warn.of("clock", "ask on the host", "whether it is right does not show: %v", err)
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		return Warn.of("clock", remedy, "nobody keeps it right")
	}
	return ok("clock", "synchronised, off by at most %d ms", t.Maxerror/1000)
}
