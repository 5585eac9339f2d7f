package bpf

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A wire sends frames from v1 to v0 and sees there what passed.
type wire struct {
	t        *testing.T
	tap, v1  int
	refused  []byte // dropped wherever packets are judged
	passed   []byte // never dropped
	sent     int
	leaked   int
	received []byte
}

func newWire(t *testing.T) *wire {
	t.Helper()
	tap, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_IP)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(tap) })
	at := unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: interfaceIndex(t, "v0")}
	if err := unix.Bind(tap, &at); err != nil {
		t.Fatal(err)
	}
	timeout := unix.NsecToTimeval((10 * time.Second).Nanoseconds())
	if err := unix.SetsockoptTimeval(tap, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	return &wire{
		t: t, tap: tap, v1: interfaceIndex(t, "v1"), received: make([]byte, 2048),
		refused: udp4(long(version1, retry, chosen8, 100)),
		passed:  ipv4(client4, protocolUDP, 0, 0, udp(53, make([]byte, 40))),
	}
}

// turn sends one frame to be dropped and one to pass, and waits for the latter.
func (w *wire) turn() {
	w.t.Helper()
	w.sent++
	send(w.t, w.v1, w.refused)
	send(w.t, w.v1, w.passed)
	for {
		n, _, err := unix.Recvfrom(w.tap, w.received, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			w.t.Fatalf("what should pass did not: %v", err)
		}
		switch n {
		case len(w.passed):
			return
		case len(w.refused):
			w.leaked++
		}
	}
}

// during turns as long as another process is busy.
func (w *wire) during(f func() string) (said string) {
	done := make(chan string)
	go func() { done <- f() }()
	for {
		select {
		case said = <-done:
			return said
		default:
			w.turn()
		}
	}
}

// TestHandOver lets a process take the place of another under traffic: each packet is
// judged, by the one or the other. Then they are killed, the old one first.
func TestHandOver(t *testing.T) {
	for _, mode := range modesHere(t) {
		t.Run(string(mode), func(t *testing.T) {
			needKernel(t, Options{})
			ownNamespace(t)
			old := startGeneration(t)
			old.must("load")
			old.must("configure", Guarded)
			if said := old.does("attach", mode); said != string(mode) {
				t.Fatal(said)
			}
			old.must("deny", "203.0.113.0/24")
			w := newWire(t)
			for range 20 {
				w.turn()
			}
			next := old.successor()
			if said := w.during(func() string { return next.does("load") }); said != "ok" {
				t.Fatal(said)
			}
			// Before its first heartbeat it goes on with the configuration of the other.
			if said := w.during(func() string { return next.does("attach", Auto) }); said != string(mode) {
				t.Fatal(said)
			}
			for range 20 {
				w.turn()
			}
			next.must("configure", Guarded)
			if n := next.number("rules"); n != 1 {
				t.Errorf("%d rules were handed over", n)
			}
			// The old one has nothing to say any more, but to refund.
			old.must("configure", Normal)
			send(t, w.v1, firstInitial)
			w.turn()
			if said := old.does("owes"); said != "true" {
				t.Error("the old process does not see what is owed")
			}
			old.must("refund")
			if said := next.does("owes"); said != "false" {
				t.Error("a refund of the old process is not seen")
			}
			old.must("detach")
			w.turn()
			if judged := old.number("dropped") + next.number("dropped"); judged != w.sent || w.leaked != 0 {
				t.Errorf("%d of %d packets were judged, %d passed", judged, w.sent, w.leaked)
			}
			before := next.number("dropped")
			old.kill()
			w.turn()
			if n := next.number("dropped"); n != before+1 || w.leaked != 0 {
				t.Errorf("%d were dropped after the old process was killed, %d passed", n-before, w.leaked)
			}
			next.kill()
			free(t, mode)
			w.turn()
			if w.leaked != 1 {
				t.Error("dropped by nobody")
			}
		})
	}
}

// free attaches a program of no process of ours, and takes it away.
func free(t *testing.T, mode Mode) {
	t.Helper()
	if mode == TCX {
		return // has room for several
	}
	program, err := ebpf.NewProgram(passEverything)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	theirs, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: interfaceIndex(t, "v0")})
	if err != nil {
		t.Fatalf("the interface is not free: %v", err)
	}
	theirs.Close()
}

// TestHandOverFails ends the successor before and after it attached: the old process
// goes on, or could; and what only one of them holds is free when both are closed.
func TestHandOverFails(t *testing.T) {
	needKernel(t, Options{})
	ownNamespace(t)
	old := startGeneration(t)
	old.must("load")
	old.must("configure", Guarded)
	old.does("attach", Generic)
	w := newWire(t)
	next := old.successor()
	next.must("load")
	next.kill()
	w.turn()
	if n := old.number("dropped"); n != 1 || w.leaked != 0 {
		t.Errorf("%d dropped, %d passed", n, w.leaked)
	}

	// One that asks for another mode gets it, and closes what it got.
	next = old.successor()
	next.must("load")
	next.must("configure", Guarded)
	if said := next.does("attach", Native); said != string(Native) {
		t.Error(said)
	}
	old.must("close")
	w.turn()
	if n := next.number("dropped"); n != 1 || w.leaked != 0 {
		t.Errorf("%d dropped, %d passed", n, w.leaked)
	}
	next.must("close")
	free(t, Generic)

	// One that gives up leaves nothing behind.
	old = startGeneration(t)
	old.must("load")
	old.does("attach", Generic)
	next = old.successor()
	next.must("load")
	next.must("close")
	old.must("close")
	free(t, Generic)

	// An operator who detaches means it, though the old process holds the link.
	old = startGeneration(t)
	old.must("load")
	old.does("attach", Generic)
	next = old.successor()
	next.must("load")
	next.does("attach", Auto)
	next.must("detach")
	free(t, Generic)
}

// TestHandOverOfSockets hands over steering: connections of the old process keep its
// socket until that is closed.
func TestHandOverOfSockets(t *testing.T) {
	needKernel(t, Options{})
	ownNamespace(t)
	old := startGeneration(t)
	old.must("load")
	old.must("configure", Normal)
	old.must("listen", 0)
	next := old.successor()
	next.must("load")
	next.must("listen", 1)

	ids := testIDs(t, nil)
	f := func(what string, wantOld, wantNext int, datagrams ...[]byte) {
		t.Helper()
		for _, d := range datagrams {
			conn, err := net.Dial("udp4", "127.0.0.1:"+strconv.Itoa(testUDPPort))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(d); err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
		var gotOld, gotNext int
		for ended := time.Now().Add(10 * time.Second); gotOld+gotNext < len(datagrams) && time.Now().Before(ended); {
			if wantOld > 0 {
				gotOld += old.number("received")
			}
			gotNext += next.number("received")
		}
		if gotOld != wantOld || gotNext != wantNext {
			t.Errorf("%s: the old got %d, the next %d; want %d, %d", what, gotOld, gotNext, wantOld, wantNext)
		}
	}
	to := func(slot int) [][]byte { return repeat(20, func() []byte { return short(ids.New(slot), 60) }) }
	f("to the old one's slot", 20, 0, to(0)...)
	f("to the next one's slot", 0, 20, to(1)...)
	f("new flows", 0, 1, long(version1, initial, chosen8, 1200))
	// Keys that the successor has set count, before and after the old one says something.
	next.must("configure", Guarded)
	old.must("close")
	f("to the old one's slot, after it closed all but its socket", 20, 0, to(0)...)
	old.must("hang-up")
	f("to the old one's slot, after its socket", 0, 20, to(0)...)
	old.kill()
	f("to the next one's slot, alone", 0, 20, to(1)...)
}

// TestInherit gives a process what it cannot use.
func TestInherit(t *testing.T) {
	a := needKernel(t, Options{})
	if err := a.SetRule(Rule{Prefix: netip.MustParsePrefix("192.0.2.0/24")}); err != nil {
		t.Fatal(err)
	}
	a.Know(client4)
	a.owed.at[0].Store(1)
	files, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFiles(files) })
	others, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer others.Close()
	load := func(files ...*os.File) (*Admission, error) {
		b, err := Load(Options{UDPPort: testUDPPort, ConnectionIDs: testIDs(t, nil), Inherited: files})
		if err == nil {
			t.Cleanup(func() { b.Close() })
		}
		return b, err
	}
	b, err := load(append(files, others)...)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := b.Rules()
	if err != nil || len(rules) != 1 || b.owed.at[0].Load() != 1 || b.hash != a.hash || b.last.Listed != 1 {
		t.Errorf("rules %v, %v, owed %d, listed %d", rules, err, b.owed.at[0].Load(), b.last.Listed)
	}
	// A rule of the one is seen by the other with its next heartbeat.
	if err := a.SetRule(Rule{Prefix: netip.MustParsePrefix("2001:db8::/32")}); err != nil {
		t.Fatal(err)
	}
	if err := b.Configure(configured(Normal)); err != nil || b.last.Listed != 3 {
		t.Errorf("listed %d, %v", b.last.Listed, err)
	}

	// Of the state without its key, or of other programs, nothing is taken.
	without := slices.DeleteFunc(slices.Clone(files), func(f *os.File) bool { return f.Name() == stateFiles+admissionMapConfig })
	renamed := slices.Clone(files)
	for i, f := range files {
		if name, found := strings.CutPrefix(f.Name(), stateFiles); found {
			renamed[i] = renamedFile(t, f, "bpf/state/00000000/"+name)
		}
	}
	for _, files := range [][]*os.File{without, renamed} {
		b, err := load(files...)
		if err != nil {
			t.Fatal(err)
		}
		rules, err := b.Rules()
		if err != nil || len(rules) != 2 || b.owed.at[0].Load() != 0 || b.hash == a.hash {
			t.Errorf("rules %v, %v, owed %d", rules, err, b.owed.at[0].Load())
		}
	}
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, want := range map[string]error{admissionMapSockets: ErrInherited, admissionMapRoutes: ErrInherited, admissionMapRules4: nil} {
		fd, err := unix.FcntlInt(uintptr(other.FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), a.ids.mapFile(name))
		if _, err := load(f); !errors.Is(err, want) {
			t.Errorf("another kind of %s: %v, want %v", name, err, want)
		}
		f.Close()
	}
	// Connections whose IDs have another length would not be recognised.
	_, err = Load(Options{ConnectionIDs: testIDs(t, []byte("server 1")), Inherited: files})
	if !errors.Is(err, ErrInherited) {
		t.Errorf("connection IDs of another length: %v", err)
	}
	for _, name := range []string{a.ids.mapFile(admissionMapSockets), linkFiles + "1/generic"} {
		if _, err := load(renamedFile(t, others, name)); err == nil {
			t.Errorf("a file that is no %s was taken", name)
		}
	}
}

func renamedFile(t *testing.T, f *os.File, name string) *os.File {
	t.Helper()
	fd, err := duplicate(f)
	if err != nil {
		t.Fatal(err)
	}
	renamed := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { renamed.Close() })
	return renamed
}
