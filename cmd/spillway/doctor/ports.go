package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func (m machine) ports(network string, addresses []netip.AddrPort) (all []Finding) {
	for _, a := range addresses {
		if a.Port() != 0 {
			all = append(all, m.port(network, a))
		}
	}
	return all
}

// port says whose an address is.
func (m machine) port(network string, a netip.AddrPort) Finding {
	what := fmt.Sprintf("port %d/%s", a.Port(), network)
	inodes := m.sockets(network, a.Port())
	switch holder := m.holder(inodes); {
	case len(inodes) == 0 && m.process != 0:
		return Warn.of(what, "see spillway status for where it serves, and restart the node if the configuration has changed", "the node runs, and nobody is there")
	case len(inodes) == 0:
		return ok(what, "free")
	case holder != 0 && holder == m.process:
		return ok(what, "the node's")
	case holder == 0 && m.process != 0:
		return ok(what, "in use, by whom only root can see; the node runs")
	case holder == 0:
		return Fail.of(what, "run this as root to see by whom", "in use")
	default:
		return Fail.of(what, "stop that program, or change listen or http", "in use by %s (process %d)", m.name(holder), holder)
	}
}

func (m machine) name(process int) string {
	return m.read("/proc/" + strconv.Itoa(process) + "/comm")
}

// sockets returns the inodes of the sockets that are open at a port. Two addresses of
// one port may belong to two programs; that is said of the first only.
func (m machine) sockets(network string, port uint16) (inodes []string) {
	for _, family := range []string{"", "6"} {
		for line := range strings.Lines(m.read("/proc/net/" + network + family)) {
			// sl local rem st tx:rx tr:when retrnsmt uid timeout inode
			values := strings.Fields(line)
			if len(values) < 10 {
				continue
			}
			const listening = "0A"
			_, local, _ := net.SplitHostPort(values[1])
			if at, err := strconv.ParseUint(local, 16, 16); err != nil || uint16(at) != port || network == "tcp" && values[3] != listening {
				continue
			}
			inodes = append(inodes, values[9])
		}
	}
	return inodes
}

// holder returns a process that has one of the sockets open, first of all the node,
// or zero if none shows.
func (m machine) holder(inodes []string) int {
	processes := []string{strconv.Itoa(m.process)}
	others, _ := filepath.Glob(m.root + "/proc/[0-9]*")
	for _, folder := range others {
		processes = append(processes, filepath.Base(folder))
	}
	for _, process := range processes {
		for _, inode := range inodes {
			if m.has(process, "socket:["+inode+"]") {
				id, _ := strconv.Atoi(process)
				return id
			}
		}
	}
	return 0
}

// has reports whether a process has something open.
func (m machine) has(process, what string) bool {
	folder := filepath.Join(m.root+"/proc", process, "fd")
	files, err := os.ReadDir(folder)
	if err != nil {
		return false
	}
	for _, f := range files {
		if to, err := os.Readlink(filepath.Join(folder, f.Name())); err == nil && to == what {
			return true
		}
	}
	return false
}

func number(text string) int64 {
	if text == "unlimited" {
		return 1 << 62
	}
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}
