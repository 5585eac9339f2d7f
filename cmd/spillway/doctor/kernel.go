package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// version returns the first two numbers of a kernel's release.
func version(release string) (major, minor int) {
	fmt.Sscanf(release, "%d.%d", &major, &minor)
	return major, minor
}

func atLeast(release string, major, minor int) bool {
	a, b := version(release)
	return a > major || a == major && b >= minor
}

// kernel says what the kernel can do with packets: from 5.12 on it has all that the
// programs use, from 6.6 on tcx. What it knows of its own types (BTF) does not matter.
func (m machine) kernel() Finding {
	switch release := m.read("/proc/sys/kernel/osrelease"); {
	case release == "":
		return Warn.of("kernel", "run this on Linux, with /proc", "its release does not show")
	case !atLeast(release, 5, 12):
		return Warn.of("kernel", "upgrade it, or live without", "%s cannot judge packets, which takes 5.12: connections are admitted in user space", release)
	case !atLeast(release, 6, 6):
		return ok("kernel", "%s judges packets, but not beside another XDP program (tcx), which takes 6.6; BTF is not needed", release)
	default:
		return ok("kernel", "%s judges packets, beside another XDP program as well (tcx); BTF is not needed", release)
	}
}

// judging are the capabilities without which packets are not judged.
var judging = []capability{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_PERFMON, "CAP_PERFMON"}}

type capability struct {
	bit  int
	name string
}

// unitHint is what an operator can do about privileges.
const unitHint = "give them to the node, as the unit spillway.service does by AmbientCapabilities and CapabilityBoundingSet"

// privileges looks at those of the node, or of this command while it does not run.
func (m machine) privileges(n Node) Finding {
	has, err := strconv.ParseUint(field(m.of("status"), "CapEff:"), 16, 64)
	if err != nil {
		return Warn.of("privileges", "run this as root", "those of %s do not show", m.who())
	}
	holds := func(bit int) bool { return has>>bit&1 != 0 }
	lowest, known := m.sysctl("net.ipv4.ip_unprivileged_port_start")
	if !known {
		lowest = 1024
	}
	low := func(a netip.AddrPort) bool { return a.Port() != 0 && int64(a.Port()) < lowest }
	if m.process == 0 && !holds(unix.CAP_NET_BIND_SERVICE) && slices.ContainsFunc(slices.Concat(n.TCP, n.UDP), low) {
		return Fail.of("privileges", "run the node by its unit, as root, or with another port in listen and http",
			"CAP_NET_BIND_SERVICE is missing, without which %s opens no port below %d", m.who(), lowest)
	}
	var missing []string
	for _, c := range judging {
		if !holds(c.bit) {
			missing = append(missing, c.name)
		}
	}
	switch {
	case len(missing) > 0:
		return Warn.of("privileges", unitHint, "%s has no %s: connections are admitted in user space", m.who(), strings.Join(missing, ", "))
	case !m.initialUsers():
		return Warn.of("privileges", "run the node outside of the container's user namespace, or live without",
			"those of %s count in a user namespace alone, where the kernel lets nobody judge packets", m.who())
	}
	return ok("privileges", "%s may judge packets (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON)", m.who())
}

// initialUsers reports whether the process is in the user namespace of the machine.
func (m machine) initialUsers() bool {
	uids := strings.Fields(m.of("uid_map"))
	return len(uids) == 0 || slices.Equal(uids, []string{"0", "0", "4294967295"})
}
