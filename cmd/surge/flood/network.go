package flood

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The one cable: the node at one end, everybody else at the other. The addresses are
// those for benchmarks (RFC 2544 appendix C.2.2).
var (
	nodeAddr    = netip.MustParseAddr("198.18.0.1")
	outsideAddr = netip.MustParseAddr("198.18.0.2")
	// visitorNet is local to the outside as a whole, so that a visitor may have any of
	// its addresses.
	visitorNet = netip.MustParsePrefix("198.19.0.0/16")
	nodeMAC    = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	outsideMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

const (
	nodePort     = "n0"
	outsidePort  = "o0"
	outsideIndex = 2 // of its interface: the first after the loopback
)

// A namespace is a network of its own. It ends with its file and the processes in it,
// so that nothing is left behind whatever happens to us.
type namespace struct{ file *os.File }

// newNamespace makes a network with a loopback.
func newNamespace() (namespace, error) {
	n := namespace{}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		n.file = f
		return ip("link set lo up")
	})
	return n, err
}

// do runs f in the network, on one core if that is not negative. Sockets that f opens
// and processes that it starts stay there.
func (n namespace) do(core int, f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		if core >= 0 {
			if err := pin(core); err != nil {
				return err
			}
		}
		return f()
	})
}

// onOwnThread runs f and takes back what it does to its thread. A process that it
// starts may be bound to the life of the thread, which therefore goes on.
func onOwnThread(f func() error) error {
	runtime.LockOSThread()
	var cores unix.CPUSet
	before, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		defer before.Close()
		err = unix.SchedGetaffinity(0, &cores)
	}
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("remember the thread's place: %w", err)
	}
	err = f()
	back := errors.Join(unix.Setns(int(before.Fd()), unix.CLONE_NEWNET), unix.SchedSetaffinity(0, &cores))
	if back != nil {
		return errors.Join(err, fmt.Errorf("put the thread back: %w", back)) // still locked: nobody else may have it
	}
	runtime.UnlockOSThread()
	return err
}

func pin(core int) error {
	var only unix.CPUSet
	only.Set(core)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("move to core %d: %w", core, err)
	}
	return nil
}

// A network is both ends of the cable.
type network struct{ node, outside namespace }

// newNetwork lays the cable. What arrives at the node is handled on its core.
func newNetwork(core int) (w network, err error) {
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.node, err = newNamespace(); err != nil {
		return w, err
	}
	if w.outside, err = newNamespace(); err != nil {
		return w, err
	}
	err = w.outside.do(-1, func() error {
		return ip(
			fmt.Sprintf("link add %s index %d address %s type veth peer name %s address %s netns /proc/%d/fd/%d",
				outsidePort, outsideIndex, outsideMAC, nodePort, nodeMAC, os.Getpid(), w.node.file.Fd()),
			fmt.Sprintf("addr add %s/30 dev %s", outsideAddr, outsidePort),
			fmt.Sprintf("link set %s up", outsidePort),
			fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", nodeAddr, nodeMAC, outsidePort),
			fmt.Sprintf("route add local %s dev lo", visitorNet),
			// What the node answers to addresses that nobody has.
			"route add blackhole default",
		)
	})
	if err != nil {
		return w, err
	}
	return w, w.node.do(-1, func() error {
		err := ip(
			fmt.Sprintf("addr add %s/30 dev %s", nodeAddr, nodePort),
			fmt.Sprintf("link set %s up", nodePort),
			fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", outsideAddr, outsideMAC, nodePort),
			fmt.Sprintf("route add default via %s", outsideAddr),
		)
		if err != nil {
			return err
		}
		return steerPackets(core)
	})
}

func (w network) close() {
	w.node.file.Close()
	w.outside.file.Close()
}

// steerPackets lets one core handle what arrives at the node, as a network card's
// interrupt would: over a virtual cable it is the core of the sender otherwise. The
// setting is in a file system that shows the network of whoever mounted it.
func steerPackets(core int) error {
	script := fmt.Sprintf("mount -t sysfs none /sys && echo %x > /sys/class/net/%s/queues/rx-0/rps_cpus", 1<<core, nodePort)
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("bring packets to core %d: %w\n%s", core, err, out)
	}
	return nil
}

func ip(commands ...string) error {
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w\n%s", c, err, out)
		}
	}
	return nil
}
