package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"spillway/bpf"
	"spillway/bpf/bpftest"
	"spillway/edge"
	"spillway/edge/admit"
)

// ownNetwork moves the test to a network of its own, with two interfaces at one cable: v0
// has 192.0.2.1, and v1 is the other end.
func ownNetwork(t *testing.T) {
	t.Helper()
	bpftest.OwnNetwork(t)
	cable(t)
}

func cable(t *testing.T) {
	t.Helper()
	bpftest.IP(t, "link add v0 type veth peer name v1", "addr add 192.0.2.1/24 dev v0", "link set v0 up", "link set v1 up")
}

// loadKernel opens the kernel of sockets at an address.
func loadKernel(t *testing.T, address string, c admit.Config, inherited ...*os.File) *kernel {
	t.Helper()
	return loadKernelSaying(t, address, c, slog.New(slog.DiscardHandler), inherited...)
}

func loadKernelSaying(t *testing.T, address string, c admit.Config, log *slog.Logger, inherited ...*os.File) *kernel {
	t.Helper()
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := bpf.NewConnectionIDs(nil, bpf.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	k, err := openKernel(c, edge.Sockets{TCP: tcp, UDP: make([]net.PacketConn, 1)}, ids, inherited, log)
	tcp.Close() // the kernel goes by its port alone
	if errors.Is(err, bpf.ErrNoPrivilege) || errors.Is(err, bpf.ErrOldKernel) {
		t.Skipf("programs in the kernel: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func TestKernelStaysOff(t *testing.T) {
	f := func(address string, c admit.Config, want string) {
		t.Helper()
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		_, err = openKernel(c, edge.Sockets{TCP: tcp}, nil, nil, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, %+v: %v", address, c, err)
		}
	}
	f("127.0.0.1:0", admit.Config{Kernel: "auto"}, "loopback")
	f("[::1]:0", admit.Config{Kernel: "auto"}, "loopback")
	f(":0", admit.Config{Kernel: "off"}, "admission.kernel is off")
}

func TestInterfacesOfAnAddress(t *testing.T) {
	ownNetwork(t)
	f := func(names, addr, want string) {
		t.Helper()
		indexes, err := interfaces(strings.Fields(names), netip.MustParseAddr(addr))
		var got []string
		for _, index := range indexes {
			i, err := net.InterfaceByIndex(index)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, i.Name)
		}
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("%q, %s: %v, %v; want %q", names, addr, got, err, want)
		}
	}
	f("", "192.0.2.1", "v0")
	f("", "192.0.2.2", "")
	f("", "::", "")
	f("v1", "::", "v1")
	f("v0 v1", "192.0.2.1", "v1 v0")
	f("v0 nil", "192.0.2.1", "")
	bpftest.IP(t, "addr add 203.0.113.9/32 dev lo")
	f("", "203.0.113.9", "")
	bpftest.IP(t, "route add default via 192.0.2.9 dev v0")
	f("", "0.0.0.0", "v0")
	f("", "203.0.113.9", "v0")
	f("lo", "203.0.113.9", "lo")
	bpftest.IP(t, "-6 route add default dev v1")
	f("", "::", "v1 v0")
}

// The controller drives a real kernel by the adapter: it attaches, hears that the
// interface is gone, comes back with another one, and has its rules and counts.
func TestControllerGovernsTheKernel(t *testing.T) {
	ownNetwork(t)
	k := loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto"})
	c := admit.New(admit.Config{Enforce: true, HandshakesPerCore: 500, HalfOpen: 1000}, 2)
	log := &journal{}
	c.Use(admit.Surroundings{Kernel: k, Log: slog.New(slog.NewTextHandler(log, nil))})
	// Every call of SetLevel is a pass, on this thread, whose network it is.
	pass := func() admit.State {
		if err := c.SetLevel(admit.Normal, time.Time{}); err != nil {
			t.Fatal(err)
		}
		return c.State()
	}
	if s := pass(); s.Mode != admit.Generic || s.Refused != "" || s.Heartbeat < 0 {
		t.Fatalf("state %+v", s)
	}
	if counts, _, err := k.Counts(); err != nil || len(counts) != int(bpf.Reasons) || counts[bpf.DropBudget].Reason != "budget" || !counts[bpf.DropBudget].Drop {
		t.Errorf("counts %v, %v", counts, err)
	}
	denied := netip.MustParsePrefix("198.51.100.0/24")
	if err := c.SetRule(admit.Rule{Prefix: denied}); err != nil {
		t.Fatal(err)
	}
	if rules, err := k.Rules(); err != nil || len(rules) != 1 || rules[0].Prefix != denied {
		t.Errorf("rules in the kernel: %v, %v", rules, err)
	}

	h, _ := c.ConnectTCP(netip.MustParseAddrPort("203.0.113.7:1"))
	h.Done()
	h.Cost(6 * time.Second)
	source := netip.MustParseAddr("203.0.113.7")
	if tcp, quic := k.Owes(source, true), k.Owes(source, false); tcp < 5*time.Second || quic != 0 {
		t.Errorf("owes %v over TCP and %v over QUIC", tcp, quic)
	}
	h.Cost(time.Hour)
	h.Cost(time.Hour)
	if debt := k.Owes(source, true); debt < 20*time.Second {
		t.Errorf("owes %v", debt)
	}
	c.Forget()
	if debt := k.Owes(source, true); debt != 0 {
		t.Errorf("owes %v after all was forgotten", debt)
	}

	if err := c.EnableNative(); err != nil {
		t.Fatal(err)
	}
	if err := c.Confirm(); err != nil {
		t.Fatal(err)
	}
	if s := pass(); s.Mode != admit.Native || s.Trial != 0 {
		t.Errorf("native: %+v", s)
	}

	bpftest.IP(t, "link del v0")
	until(t, "the interface is missed", func() bool { return pass().Mode == admit.UserSpace })
	if s := pass(); !strings.Contains(s.Refused, bpf.ErrDetached.Error()) {
		t.Errorf("refused: %q", s.Refused)
	}
	cable(t)
	until(t, "the kernel judges again", func() bool { return pass().Mode == admit.Generic })
	if n := strings.Count(log.String(), "packets are not judged in the kernel"); n < 1 || n > 2 {
		t.Errorf("log:\n%s", log)
	}
}

// Fragments that tell no port are dropped only where the configuration says so.
func TestFragmentsAreDroppedWhenAsked(t *testing.T) {
	ownNetwork(t)
	for _, drop := range []bool{false, true} {
		k := loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto"})
		c := admit.New(admit.Config{Enforce: true, DropFragments: drop, HandshakesPerCore: 500, HalfOpen: 1000}, 2)
		c.Use(admit.Surroundings{Kernel: k, Log: slog.New(slog.DiscardHandler)})
		if err := c.SetLevel(admit.Guarded, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if s := c.State(); s.Mode != admit.Generic {
			t.Fatalf("state %+v", s)
		}
		counted := func(reason bpf.Reason) uint64 {
			counts, _, err := k.Counts()
			if err != nil {
				t.Fatal(err)
			}
			return counts[reason].Packets
		}
		sendFragment(t, "v1")
		until(t, "the fragment is judged", func() bool { return counted(bpf.PassFragment)+counted(bpf.DropFragment) > 0 })
		if dropped := counted(bpf.DropFragment) == 1; dropped != drop {
			t.Errorf("drop_fragments %v: dropped %v", drop, dropped)
		}
		if err := k.Detach(interfaceIndex(t, "v0")); err != nil {
			t.Fatal(err)
		}
	}
}

// sendFragment puts the second half of a UDP datagram from 198.51.100.7 to 192.0.2.1 on
// an interface.
func sendFragment(t *testing.T, name string) {
	t.Helper()
	frame := append(make([]byte, 12), 8, 0, // Ethernet, with an IPv4 packet
		0x45, 0, 0, 28, 0, 1, 0, 1, 64, unix.IPPROTO_UDP, 0, 0, 198, 51, 100, 7, 192, 0, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: interfaceIndex(t, name)}); err != nil {
		t.Fatal(err)
	}
}

func interfaceIndex(t *testing.T, name string) int {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

// An interface without Ethernet headers is refused whatever the mode: the node goes on in
// user space and says why.
func TestInterfaceWithoutEthernetHeaders(t *testing.T) {
	ownNetwork(t)
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("an interface of such a kind: %v", err)
	}
	bpftest.IP(t, "tuntap add t0 mode tun")
	bpftest.IP(t, "tuntap add t1 mode tap")
	f := func(name string, want admit.Mode, refused string) {
		t.Helper()
		k := loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto", Interfaces: []string{name}})
		c := admit.New(admit.Config{HandshakesPerCore: 500, HalfOpen: 1000}, 2)
		c.Use(admit.Surroundings{Kernel: k, Refusal: refusalOf, Log: slog.New(slog.DiscardHandler)})
		if err := c.SetLevel(admit.Normal, time.Time{}); err != nil {
			t.Fatal(err)
		}
		s := c.State()
		if s.Mode != want || !strings.Contains(s.Refused, refused) || refused == "" && s.Refused != "" {
			t.Errorf("%s: mode %s, refused %q", name, s.Mode, s.Refused)
		}
		reason := admit.NotRefused
		if refused != "" {
			reason = admit.NotEthernet
		}
		var metrics strings.Builder
		writeAdmissionMetrics(&metrics, &nodeState{Admission: s})
		series := fmt.Sprintf("spillway_admission_mode{mode=%q,reason=%q} 1\n", want, reason)
		if !strings.Contains(metrics.String(), series) {
			t.Errorf("%s: no %sin\n%s", name, series, &metrics)
		}
		if _, err := k.Attach(true); want == admit.UserSpace && !errors.Is(err, bpf.ErrNotEthernet) {
			t.Errorf("%s, native: %v", name, err)
		}
	}
	f("t0", admit.UserSpace, "t0: its packets have no Ethernet headers")
	f("t1", admit.Generic, "")
	f("lo", admit.Generic, "")
}

// What is pinned is there for the next process. A node that can pin nothing, because
// another has the folder, judges all the same and says so.
func TestPinsOutliveTheProcess(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a BPF file system of its own needs root")
	}
	root := t.TempDir()
	if err := unix.Mount("bpf", root, "bpf", 0, ""); err != nil {
		t.Skipf("a BPF file system of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	pinning := admit.Config{Kernel: "auto", Interfaces: []string{"lo"}, Pin: root + "/spillway"}
	source := netip.MustParseAddr("203.0.113.7")
	t.Run("first", func(t *testing.T) {
		loadKernel(t, "127.0.0.1:0", pinning).Charge(source, true, time.Hour, time.Hour)
		log := &journal{}
		second := loadKernelSaying(t, "127.0.0.1:0", pinning, slog.New(slog.NewTextHandler(log, nil)))
		if second.Owes(source, true) != 0 || !strings.Contains(log.String(), "another node has it") {
			t.Errorf("beside another node %v is owed; log:\n%s", second.Owes(source, true), log)
		}
	})
	if owed := loadKernel(t, "127.0.0.1:0", pinning).Owes(source, true); owed == 0 {
		t.Error("the next process knows of no debt")
	}
}

// until waits for what a clock brings about, for a minute.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for ended := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(ended) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// Another program at the hook leaves tcx, and the reason is told.
func TestHookInUseLeavesTCX(t *testing.T) {
	ownNetwork(t)
	first := loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto"})
	if _, err := first.Attach(false); err != nil {
		t.Fatal(err)
	}
	second := loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto"})
	mode, err := second.Attach(false)
	if errors.Is(err, bpf.ErrOldKernel) {
		t.Skipf("tcx: %v", err)
	}
	if err != nil || mode != admit.TCX || !errors.Is(second.Refused(), bpf.ErrHookInUse) {
		t.Errorf("mode %s, %v; refused %v", mode, err, second.Refused())
	}
	if _, err := second.Attach(true); !errors.Is(err, bpf.ErrHookInUse) || !strings.Contains(err.Error(), "interface v0: ") {
		t.Errorf("native: %v", err)
	}
}

// succeedKernel opens the kernel of a successor, which has taken the interfaces over.
func succeedKernel(t *testing.T, before *kernel, c admit.Config) *kernel {
	t.Helper()
	files, err := before.Files()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFiles(files)
	k := loadKernel(t, "192.0.2.1:0", c, files...)
	if mode, err := k.Attach(false); mode != admit.Generic || err != nil {
		t.Fatalf("the successor judges in mode %s, %v", mode, err)
	}
	return k
}

// An interface that goes and comes back while a process drains is its successor's alone,
// and so are rules.
func TestDrainingProcessYields(t *testing.T) {
	ownNetwork(t)
	old := loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto"})
	if _, err := old.Attach(false); err != nil {
		t.Fatal(err)
	}
	denied := admit.Rule{Prefix: netip.MustParsePrefix("198.51.100.0/24")}
	if err := old.SetRule(denied); err != nil {
		t.Fatal(err)
	}
	next := succeedKernel(t, old, admit.Config{Kernel: "auto"})
	old.yield()
	if err := old.RemoveRule(denied.Prefix); err != nil {
		t.Error(err)
	}
	if rules, err := next.Rules(); err != nil || len(rules) != 1 {
		t.Errorf("rules of the successor: %v, %v", rules, err)
	}
	bpftest.IP(t, "link del v0")
	cable(t)
	if err := old.Check(); err != nil {
		t.Errorf("the old process: %v", err)
	}
	if mode, err := old.Attach(false); !errors.Is(err, errYielded) {
		t.Errorf("the old process judges again, in mode %s, %v", mode, err)
	}
	if err := next.Check(); !errors.Is(err, bpf.ErrDetached) {
		t.Errorf("the successor: %v", err)
	}
	if mode, err := next.Attach(false); mode != admit.Generic || err != nil {
		t.Errorf("the successor judges in mode %s, %v", mode, err)
	}
}

// A successor that is to judge at other interfaces holds those of before no longer than
// the process before does.
func TestSuccessorLeavesInterfaces(t *testing.T) {
	ownNetwork(t)
	old := loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto"})
	if _, err := old.Attach(false); err != nil {
		t.Fatal(err)
	}
	held := func(name string) bool {
		output, err := exec.Command("ip", "link", "show", name).CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(output), "xdpgeneric")
	}
	succeedKernel(t, old, admit.Config{Kernel: "auto", Interfaces: []string{"v1"}})
	if !held("v0") || !held("v1") {
		t.Errorf("held: v0 %v, v1 %v", held("v0"), held("v1"))
	}
	if err := old.Admission.Close(); err != nil {
		t.Fatal(err)
	}
	if held("v0") || !held("v1") {
		t.Errorf("after the process before: held v0 %v, v1 %v", held("v0"), held("v1"))
	}
}

// Who else serves QUIC at another address of the machine has all of its packets.
func TestKernelLeavesOtherAddresses(t *testing.T) {
	ownNetwork(t)
	const port = 8443
	k := loadKernel(t, "192.0.2.1:8443", admit.Config{Kernel: "auto"})
	if err := k.Configure(admit.Policy{Enforce: true, Stale: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Attach(false); err != nil {
		t.Fatal(err)
	}
	v1, err := net.InterfaceByName("v1")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// A Handshake packet of a connection that is not the node's.
	payload := append([]byte{0xe0, 0, 0, 0, 1, 8}, make([]byte, 50)...)
	frame := append(make([]byte, 12), 0x08, 0x00,
		0x45, 0, 0, byte(28+len(payload)), 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 192, 0, 2, 3, 192, 0, 2, 1,
		0xc0, 0, port>>8, port&0xff, 0, byte(8+len(payload)), 0, 0)
	frame = append(frame, payload...)
	counted := func() (dropped, other uint64) {
		all, _, err := k.Counts()
		if err != nil {
			t.Fatal(err)
		}
		return all[bpf.DropForeignHandshake].Packets, all[bpf.PassOther].Packets
	}
	_, before := counted()
	for _, last := range []byte{9, 1} {
		frame[14+19] = last
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: v1.Index}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the node's packet is dropped", func() bool { dropped, _ := counted(); return dropped > 0 })
	if dropped, other := counted(); dropped != 1 || other == before {
		t.Errorf("%d dropped, %d passed as somebody else's", dropped, other-before)
	}
}

// An interface that is judged no more is left free, and one that a process did not come
// to judge goes on to the next.
func TestLinksOfOtherInterfaces(t *testing.T) {
	ownNetwork(t)
	follow := func(k *kernel, names ...string) *kernel {
		t.Helper()
		files, err := k.Files()
		if err != nil {
			t.Fatal(err)
		}
		defer closeFiles(files)
		return loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto", Interfaces: names}, files...)
	}
	first := loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto"})
	if _, err := first.Attach(false); err != nil {
		t.Fatal(err)
	}
	lost := follow(first, "nil")
	if mode, err := lost.Attach(false); err == nil {
		t.Errorf("an interface that is not there: mode %s", mode)
	}
	found := follow(lost, "v0")
	if mode, err := found.Attach(false); mode != admit.Generic || found.Refused() != nil {
		t.Errorf("mode %s, %v, refused %v", mode, err, found.Refused())
	}
	other := follow(found, "v1")
	if mode, err := other.Attach(false); mode != admit.Generic {
		t.Errorf("mode %s, %v", mode, err)
	}
	if left := other.Inherited(); len(left) > 0 {
		t.Errorf("it still holds interfaces %v", left)
	}
}

// What a successor that is no more did to rules, which both had, is undone.
func TestRulesAreRestored(t *testing.T) {
	ownNetwork(t)
	k := loadKernel(t, "192.0.2.1:0", admit.Config{Kernel: "auto"})
	n := &node{kernel: k, admit: admit.New(admit.Config{Enforce: true}, 1)}
	n.admit.Use(admit.Surroundings{Kernel: k, Log: slog.New(slog.DiscardHandler)})
	ours := admit.Rule{Prefix: netip.MustParsePrefix("198.51.100.0/24")}
	theirs := admit.Rule{Prefix: netip.MustParsePrefix("203.0.113.0/24")}
	if err := errors.Join(n.admit.SetRule(ours), k.RemoveRule(ours.Prefix), k.SetRule(theirs), n.restoreRules()); err != nil {
		t.Fatal(err)
	}
	if rules, err := k.Rules(); err != nil || len(rules) != 1 || rules[0] != ours {
		t.Errorf("rules %v, %v", rules, err)
	}
}
