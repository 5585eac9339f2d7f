package bpf

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// fromPort changes the source port of an IPv4 frame without options: another flow.
func fromPort(frame []byte, port uint16) []byte {
	f := append([]byte(nil), frame...)
	f[14+20], f[14+20+1] = byte(port>>8), byte(port)
	return f
}

func fromSource(frame []byte, source netip.Addr) []byte {
	f := append([]byte(nil), frame...)
	if source.Is4() {
		copy(f[14+12:], source.AsSlice())
	} else {
		copy(f[14+8:], source.AsSlice())
	}
	return f
}

// A node is a program with its clock stopped.
type node struct {
	*Admission
	t       *testing.T
	program *ebpf.Program
}

func newNode(t *testing.T) node {
	a := needKernel(t, Options{})
	stopClock(t, a)
	return node{a, t, programOf(t, a, admissionProgAdmitXdp)}
}

// configure sets a configuration at the stopped moment.
func (n node) configure(c Config) {
	n.t.Helper()
	n.last = n.element(c, fixedNow) // what SetRule writes again
	if err := n.put(); err != nil {
		n.t.Fatal(err)
	}
}

// send returns what became of frames, in the order of reasons.
func (n node) send(frames ...[]byte) map[Reason]Count {
	n.t.Helper()
	return judged(n.t, n.Admission, func() {
		for _, f := range frames {
			run(n.t, n.program, f)
		}
	})
}

func (n node) expect(what string, got map[Reason]Count, want map[Reason]uint64) {
	n.t.Helper()
	same := len(got) == len(want)
	for r, packets := range want {
		same = same && got[r] == Count{Packets: packets}
	}
	if !same {
		n.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// flood is one Initial of each of so many flows of a source.
func flood(frame []byte, flows int) (frames [][]byte) {
	for i := range flows {
		frames = append(frames, fromPort(frame, uint16(1000+i)))
	}
	return frames
}

var firstInitial = udp4(long(version1, initial, chosen8, 1200))

// hardly lets one packet pass, and no other for as long as a test lasts.
var hardly = Limit{PerSecond: 1e-3}

// TestSourceLimit floods from one address: at level normal all pass, above it as many
// as the burst and one, and others are not concerned.
func TestSourceLimit(t *testing.T) {
	n := newNode(t)
	c := configured(Normal)
	c.Source = Limit{PerSecond: 1, Burst: 9}
	c.QUICTrickle, c.TCPTrickle = hardly, hardly
	n.configure(c)
	n.expect("normal", n.send(flood(firstInitial, 50)...), map[Reason]uint64{PassNewQUIC: 50})

	n.Forget()
	c.Level = Guarded
	n.configure(c)
	n.expect("guarded", n.send(flood(firstInitial, 50)...), map[Reason]uint64{PassNewQUIC: 10, PassTrickle: 1, DropSource: 39})
	syn := ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, synFlag))
	n.expect("over TCP", n.send(syn), map[Reason]uint64{PassNewTCP: 1})
	n.expect("another", n.send(fromSource(firstInitial, netip.MustParseAddr("192.0.2.8"))), map[Reason]uint64{PassNewQUIC: 1})
}

// TestNoSourceLimit lifts the limit from a source in debt.
func TestNoSourceLimit(t *testing.T) {
	n := newNode(t)
	n.configure(configured(Guarded))
	for _, row := range n.rows(client4, false) {
		row.Store(fixedNow + uint64(time.Hour))
	}
	n.expect("without a limit", n.send(firstInitial), map[Reason]uint64{PassNewQUIC: 1})
}

// TestCollision puts one of a source's two words into debt: the source is none the
// worse for it, and that word is left alone.
func TestCollision(t *testing.T) {
	n := newNode(t)
	c := configured(Guarded)
	c.Source = Limit{PerSecond: 1, Burst: 1}
	c.QUICTrickle, c.TCPTrickle = hardly, hardly
	n.configure(c)
	const debt = fixedNow + uint64(time.Hour)
	for i := range 2 {
		n.Forget()
		rows := n.rows(client4, false)
		rows[i].Store(debt)
		n.expect("one in debt", n.send(flood(firstInitial, 2)...), map[Reason]uint64{PassNewQUIC: 2})
		if rows[i].Load() != debt || rows[1-i].Load() != fixedNow+2*uint64(time.Second) {
			t.Errorf("the word in debt %d, the other %d", rows[i].Load()-debt, rows[1-i].Load()-fixedNow)
		}
	}
}

// TestSharedPrefix charges a /56 of IPv6 as one, and its neighbour apart.
func TestSharedPrefix(t *testing.T) {
	n := newNode(t)
	c := configured(Guarded)
	c.Source = Limit{PerSecond: 1, Burst: 1}
	c.QUICTrickle, c.TCPTrickle = hardly, hardly
	n.configure(c)
	from := func(addr string) map[Reason]Count {
		frame := udp6(long(version1, initial, []byte(addr)[6:], 1200)) // a flow of its own
		return n.send(fromSource(frame, netip.MustParseAddr(addr)))
	}
	n.expect("first", from("2001:db8:1:200::1"), map[Reason]uint64{PassNewQUIC: 1})
	n.expect("second", from("2001:db8:1:2ff::2"), map[Reason]uint64{PassNewQUIC: 1})
	n.expect("third", from("2001:db8:1:277:8::3"), map[Reason]uint64{PassTrickle: 1})
	n.expect("fourth", from("2001:db8:1:201:8::3"), map[Reason]uint64{DropSource: 1})
	n.expect("the next /56", from("2001:db8:1:300::1"), map[Reason]uint64{PassNewQUIC: 1})
}

// TestOneHandshakeOneCharge sends the datagrams of one handshake, and those of one
// that was dropped.
func TestOneHandshakeOneCharge(t *testing.T) {
	n := newNode(t)
	c := configured(Guarded)
	c.Source = Limit{PerSecond: 1, Burst: 1}
	c.QUICTrickle, c.TCPTrickle = hardly, hardly
	n.configure(c)
	early := udp4(long(version1, zeroRTT, chosen8, 500))
	n.expect("admitted", n.send(firstInitial, firstInitial, early), map[Reason]uint64{PassNewQUIC: 1, PassFlow: 2})
	n.expect("more", n.send(flood(firstInitial, 2)...), map[Reason]uint64{PassNewQUIC: 1, PassTrickle: 1})
	port := uint16(5)
	for n.flows.at[flowHash(readFrame(fromPort(firstInitial, port), n.ids), n.hash)%65536].Load() != 0 {
		port++ // it would meet one that was admitted, which a drop leaves alone
	}
	other := fromPort(firstInitial, port)
	n.expect("dropped", n.send(other, other, fromPort(early, port)), map[Reason]uint64{DropSource: 1, DropFlow: 2})

	// Sixteen packets follow a charge, then there is another.
	n.Forget()
	n.configure(configured(Guarded))
	var frames [][]byte
	for range 35 {
		frames = append(frames, firstInitial)
	}
	n.expect("a long one", n.send(frames...), map[Reason]uint64{PassNewQUIC: 3, PassFlow: 32})
}

// TestChosenFlows sends what a client may choose to have many connections taken for one
// flow: connection IDs that begin alike, and a port that makes up for another ID.
func TestChosenFlows(t *testing.T) {
	n := newNode(t)
	c := configured(Guarded)
	c.Source = Limit{PerSecond: 1, Burst: 1}
	c.QUICTrickle, c.TCPTrickle = hardly, hardly
	n.configure(c)
	f := func(what string, frame func(i byte) []byte) {
		t.Helper()
		n.Forget()
		if err := n.maps.Budgets.Put(uint32(4), &admissionSharedWord{}); err != nil {
			t.Fatal(err)
		}
		var frames [][]byte
		for i := range byte(8) {
			frames = append(frames, frame(i))
		}
		n.expect(what, n.send(frames...), map[Reason]uint64{PassNewQUIC: 2, PassTrickle: 1, DropSource: 5})
	}
	for length := 8; length <= 20; length++ {
		for at := range length {
			f(fmt.Sprintf("byte %d of %d", at, length), func(i byte) []byte {
				id := make([]byte, length)
				id[at] = i
				return udp4(long(version1, initial, id, 1200))
			})
		}
	}
	f("length", func(i byte) []byte { return udp4(long(version1, initial, make([]byte, 8+i), 1200)) })
	for at := range 8 {
		f(fmt.Sprintf("port and byte %d", at), func(i byte) []byte {
			id := make([]byte, 8)
			id[at] = i
			return fromPort(udp4(long(version1, initial, id, 1200)), uint16(i)<<8)
		})
	}
}

// TestDropsPartNothing drops many flows, at all places of the cache, between the two
// datagrams of a handshake.
func TestDropsPartNothing(t *testing.T) {
	n := newNode(t)
	c := configured(Shedding)
	c.QUIC = Limit{PerSecond: 10}
	c.QUICTrickle, c.TCPTrickle = hardly, hardly
	n.configure(c)
	n.expect("the first datagram", n.send(firstInitial), map[Reason]uint64{PassNewQUIC: 1})
	flow := flowHash(readFrame(firstInitial, n.ids), n.hash)
	before := n.flows.at[flow%65536].Load()
	n.expect("another", n.send(fromPort(firstInitial, 1)), map[Reason]uint64{PassTrickle: 1})
	// As if the first handshake's word had the fingerprint of another flow.
	n.flows.at[flow%65536].Store(before ^ 1<<40)
	n.expect("a flow at the same place", n.send(firstInitial), map[Reason]uint64{DropBudget: 1})
	if got := n.flows.at[flow%65536].Load(); got != before^1<<40 {
		t.Errorf("the word became %#x, was %#x", got, before)
	}
	for what, word := range map[string]uint64{
		"a drop":           before ^ 1<<40 | 1,
		"an old admission": before ^ 1<<40 - 178<<8,
		"its own":          before | 16<<1,
	} {
		n.flows.at[flow%65536].Store(word)
		n.expect("over "+what, n.send(firstInitial, firstInitial), map[Reason]uint64{DropBudget: 1, DropFlow: 1})
	}
}

// TestFragments lets UDP of other services be fragmented: the first fragment of what is
// for the node is dropped nevertheless.
func TestFragments(t *testing.T) {
	n := newNode(t)
	c := configured(Guarded)
	c.DropFragments = false
	n.configure(c)
	payload := udp(testUDPPort, long(version1, initial, chosen8, 1200))
	n.expect("the first", n.send(ipv4(client4, protocolUDP, 0, 0x2000, payload)), map[Reason]uint64{DropFragment: 1})
	n.expect("a later one", n.send(ipv4(client4, protocolUDP, 0, 0x2001, payload)), map[Reason]uint64{PassFragment: 1})
	n.expect("the first, IPv6", n.send(ipv6(client6, 44, fragment6(protocolUDP, 1, payload))), map[Reason]uint64{DropFragment: 1})
	n.expect("a later one, IPv6", n.send(ipv6(client6, 44, fragment6(protocolUDP, 9, payload))), map[Reason]uint64{PassFragment: 1})
}

// TestFlowAges lets what was decided of a handshake grow old: an admission holds for
// three seconds, a drop for .3.
func TestFlowAges(t *testing.T) {
	n := newNode(t)
	n.configure(configured(Guarded))
	r := readFrame(firstInitial, n.ids)
	flow := flowHash(r, n.hash)
	f := func(age, verdict uint64, want Reason) {
		t.Helper()
		n.Forget()
		n.flows.at[flow%65536].Store(flow>>32<<32 | (fixedNow>>24-age)&0xffffff<<8 | verdict)
		n.expect("", n.send(firstInitial), map[Reason]uint64{want: 1})
	}
	const admitted, dropped = 0, 1
	f(0, admitted, PassFlow)
	f(177, admitted, PassFlow)
	f(178, admitted, PassNewQUIC)
	f(0, dropped, DropFlow)
	f(17, dropped, DropFlow)
	f(18, dropped, PassNewQUIC)
	n.configure(configured(Normal)) // where no limit is in force any more
	f(0, dropped, PassNewQUIC)
}

// TestBudgets sheds from all sources, and lets in who is known, proven, listed, or
// lucky.
func TestBudgets(t *testing.T) {
	n := newNode(t)
	c := configured(Shedding)
	c.QUIC = Limit{PerSecond: 10, Burst: 4}
	c.TCP = Limit{PerSecond: 10, Burst: 2}
	c.Known = Limit{PerSecond: 10, Burst: 1}
	c.QUICTrickle, c.TCPTrickle = Limit{PerSecond: 100, Burst: 2}, Limit{PerSecond: 50, Burst: 1}
	c.Proven = Limit{PerSecond: 100, Burst: 5}
	n.configure(c)
	var crowd [][]byte
	for i := range byte(20) {
		crowd = append(crowd, fromSource(firstInitial, netip.AddrFrom4([4]byte{203, 0, 113, i})))
	}
	n.expect("a crowd", n.send(crowd...), map[Reason]uint64{PassNewQUIC: 5, PassTrickle: 3, DropBudget: 12})
	syn := ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, synFlag))
	n.expect("over TCP", n.send(syn, syn, syn, syn, syn, syn), map[Reason]uint64{PassNewTCP: 3, PassTrickle: 2, DropBudget: 1})

	place := n.hash.of(client4, false)
	n.known.at[place%knownRow].Store(place>>32<<32 | fixedNow>>knownUnit)
	n.expect("known", n.send(flood(firstInitial, 3)...), map[Reason]uint64{PassKnown: 2, DropBudget: 1})

	var proven [][]byte
	for range 8 {
		proven = append(proven, fromSource(udp4(long(version1, initial, n.ids.New(0), 1200)), netip.MustParseAddr("203.0.113.77")))
	}
	n.expect("proven", n.send(proven...), map[Reason]uint64{PassProven: 6, DropBudget: 2})

	if err := n.SetRule(Rule{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Allow: true}); err != nil {
		t.Fatal(err)
	}
	if err := n.SetRule(Rule{Prefix: netip.MustParsePrefix("203.0.113.200/32")}); err != nil {
		t.Fatal(err)
	}
	n.Forget()
	n.expect("listed", n.send(crowd[:5]...), map[Reason]uint64{PassAllowed: 5})
	n.expect("denied", n.send(fromSource(firstInitial, netip.MustParseAddr("203.0.113.200"))), map[Reason]uint64{DropDenied: 1})
	small := fromSource(udp4(long(version1, initial, chosen8, 1199)), netip.MustParseAddr("203.0.113.1"))
	n.expect("listed and malformed", n.send(small), map[Reason]uint64{DropSmallInitial: 1})

	c.Level = Closed
	n.configure(c)
	n.expect("closed", n.send(flood(firstInitial, 3)...), map[Reason]uint64{DropClosed: 3})
}

// TestResetBudget bounds what user space is asked to answer with stateless resets.
func TestResetBudget(t *testing.T) {
	n := newNode(t)
	c := configured(Normal)
	c.Reset = Limit{PerSecond: 10, Burst: 3}
	n.configure(c)
	var frames [][]byte
	for range 10 {
		frames = append(frames, udp4(short(make([]byte, 12), 40)))
	}
	n.expect("of no connection", n.send(frames...), map[Reason]uint64{PassUnmatched: 4, DropUnmatched: 6})
}

// TestMonitor drops nothing and counts what it would have dropped.
func TestMonitor(t *testing.T) {
	n := newNode(t)
	c := configured(Guarded)
	c.Enforce = false
	n.configure(c)
	retryFrame := udp4(long(version1, retry, chosen8, 100))
	if run(t, n.program, retryFrame) {
		t.Error("dropped")
	}
	if got := n.send(retryFrame); len(got) != 1 || got[DropRetry] != (Count{Unenforced: 1}) {
		t.Errorf("counted %v", got)
	}
}

// TestFailOpen lets user space fall silent, by the real clock: everything passes. A
// heartbeat a little ahead of the kernel's coarse clock does not count as old.
func TestFailOpen(t *testing.T) {
	a := needKernel(t, Options{})
	program := programOf(t, a, admissionProgAdmitXdp)
	frame := udp4(long(version1, retry, chosen8, 100))
	if got := judged(t, a, func() { run(t, program, frame) }); got[PassStale].Packets != 1 {
		t.Errorf("before the first heartbeat: %v", got)
	}
	c := configured(Normal)
	for range 1000 {
		if err := a.Configure(c); err != nil {
			t.Fatal(err)
		}
		if !run(t, program, frame) {
			t.Fatal("passed right after a heartbeat")
		}
	}
	c.Stale = 100 * time.Millisecond
	if err := a.Configure(c); err != nil {
		t.Fatal(err)
	}
	for silent := time.Now(); run(t, program, frame); {
		if time.Since(silent) > 10*time.Second {
			t.Fatal("dropped long after the last heartbeat")
		}
	}
	if got := judged(t, a, func() { run(t, program, frame) }); got[PassStale].Packets != 1 {
		t.Errorf("with an old heartbeat: %v", got)
	}
}

// TestEpochs changes the keys of connection IDs: the kernel believes those of both
// epochs, and forgets a key with the next heartbeat.
func TestEpochs(t *testing.T) {
	n := newNode(t)
	n.configure(configured(Guarded))
	old := udp4(short(n.ids.New(0), 40))
	n.ids.SetKeys(testKeys, 1)
	next := udp4(short(n.ids.New(0), 40))
	n.expect("both epochs", n.send(old, next), map[Reason]uint64{PassEstablishedQUIC: 2})
	keys := testKeys
	keys[0] = [16]byte{99}
	n.ids.SetKeys(keys, 1)
	n.configure(configured(Guarded))
	n.expect("after the first has gone", n.send(old, next), map[Reason]uint64{PassEstablishedQUIC: 1, DropUnmatched: 1})
}
