package bpf

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
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
	value := c.element()
	value.TagKeys, value.Heartbeat, value.Listed = n.ids.tagKeys(), fixedNow, n.last.Listed
	n.last = value // what SetRule writes again
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

// TestSourceLimit floods from one address: at level normal all pass, above it as many
// as the burst and one, and others are not concerned.
func TestSourceLimit(t *testing.T) {
	n := newNode(t)
	c := configured(Normal)
	c.Source = Limit{PerSecond: 1, Burst: 9}
	c.Trickle = Limit{PerSecond: 1e-3}
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

// TestSharedPrefix charges a /56 of IPv6 as one, and its neighbour apart.
func TestSharedPrefix(t *testing.T) {
	n := newNode(t)
	c := configured(Guarded)
	c.Source = Limit{PerSecond: 1, Burst: 1}
	c.Trickle = Limit{PerSecond: 1e-3}
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
	c.Trickle = Limit{PerSecond: 1e-3}
	n.configure(c)
	early := udp4(long(version1, zeroRTT, chosen8, 500))
	n.expect("admitted", n.send(firstInitial, firstInitial, early), map[Reason]uint64{PassNewQUIC: 1, PassFlow: 2})
	n.expect("more", n.send(flood(firstInitial, 2)...), map[Reason]uint64{PassNewQUIC: 1, PassTrickle: 1})
	other := fromPort(firstInitial, 5)
	n.expect("dropped", n.send(other, other, fromPort(early, 5)), map[Reason]uint64{DropSource: 1, DropFlow: 2})

	// Sixteen packets follow a charge, then there is another.
	n.Forget()
	n.configure(configured(Guarded))
	var frames [][]byte
	for range 40 {
		frames = append(frames, firstInitial)
	}
	n.expect("a long one", n.send(frames...), map[Reason]uint64{PassNewQUIC: 3, PassFlow: 37})
}

// TestRefund completes handshakes: what they were charged is given back, and no more.
func TestRefund(t *testing.T) {
	a := needKernel(t, Options{})
	program := programOf(t, a, admissionProgAdmitXdp)
	c := configured(Guarded)
	cost := maxSpan / 2
	c.Source = Limit{PerSecond: 1 / cost.Seconds(), Burst: 1} // two pass
	c.Trickle = Limit{PerSecond: 1e-3, Burst: 0}
	if err := a.Configure(c); err != nil {
		t.Fatal(err)
	}
	run(t, program, fromPort(firstInitial, 1))
	for round := range uint16(100) {
		if owes := a.Owes(client4, false); owes <= cost-time.Minute || owes > cost {
			t.Fatalf("after a charge, owes %v of %v", owes, cost)
		}
		if a.Refund(client4, false, cost); a.Owes(client4, false) > time.Minute {
			t.Fatalf("after the refund, owes %v", a.Owes(client4, false))
		}
		if run(t, program, fromPort(firstInitial, 1000+round)) {
			t.Fatalf("a source that completes its handshakes is refused in round %d", round)
		}
	}
	// A refund without a charge is no credit.
	for range 100 {
		a.Refund(client4, false, cost)
	}
	passed := 0
	for port := range uint16(20) {
		if !run(t, program, fromPort(firstInitial, 2000+port)) {
			passed++
		}
	}
	if passed > 3 { // two, and one by the trickle
		t.Errorf("%d passed after refunds without a charge", passed)
	}
}

// TestRefundRaces charges in the kernel and refunds in user space at the same time:
// nothing is lost. The words lie an hour ahead, so that time pays nothing off.
func TestRefundRaces(t *testing.T) {
	a := needKernel(t, Options{})
	program := programOf(t, a, admissionProgAdmitXdp)
	c := configured(Normal)
	const cost = 1 << 20
	element := c.element()
	element.TagKeys, element.Heartbeat = a.ids.tagKeys(), monotonic()
	element.Source.Cost, element.Source.Depth = cost, 1<<62
	if err := a.maps.Config.Put(uint32(0), &element); err != nil {
		t.Fatal(err)
	}
	syn := ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, synFlag))
	const charges, refunds = 20_000, 15_000
	start := monotonic() + uint64(time.Hour)
	for _, row := range a.rows(client4, true) {
		row.Store(start)
	}
	counted := judged(t, a, func() {
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				if _, err := program.Run(&ebpf.RunOptions{Data: syn, Repeat: charges}); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				for range refunds {
					a.Refund(client4, true, cost)
				}
			})
		}
		all.Wait()
	})
	passed := counted[PassNewTCP].Packets
	for i, row := range a.rows(client4, true) {
		got, want := int64(row.Load()-start), int64(passed-2*refunds)*cost
		if got != want {
			t.Errorf("row %d owes %d of %d packets and %d refunds, want %d", i, got, passed, 2*refunds, want)
		}
	}
}

// TestBudgets sheds from all sources, and lets in who is known, proven, listed, or
// lucky.
func TestBudgets(t *testing.T) {
	n := newNode(t)
	c := configured(Shedding)
	c.QUIC = Limit{PerSecond: 10, Burst: 4}
	c.TCP = Limit{PerSecond: 10, Burst: 2}
	c.Known = Limit{PerSecond: 10, Burst: 1}
	c.Trickle = Limit{PerSecond: 100, Burst: 2}
	c.Proven = Limit{PerSecond: 100, Burst: 5}
	n.configure(c)
	var crowd [][]byte
	for i := range byte(20) {
		crowd = append(crowd, fromSource(firstInitial, netip.AddrFrom4([4]byte{203, 0, 113, i})))
	}
	n.expect("a crowd", n.send(crowd...), map[Reason]uint64{PassNewQUIC: 5, PassTrickle: 3, DropBudget: 12})
	syn := ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, synFlag))
	n.expect("over TCP", n.send(syn, syn, syn, syn), map[Reason]uint64{PassNewTCP: 3, DropBudget: 1})

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
	element := c.element()
	element.TagKeys, element.Heartbeat = a.ids.tagKeys(), monotonic()-uint64(2*time.Hour)
	if err := a.maps.Config.Put(uint32(0), &element); err != nil {
		t.Fatal(err)
	}
	if got := judged(t, a, func() { run(t, program, frame) }); got[PassStale].Packets != 1 {
		t.Errorf("with an old heartbeat: %v", got)
	}
}

// TestRules sets, replaces, lists and removes rules, until there is no room.
func TestRules(t *testing.T) {
	n := newNode(t)
	n.configure(configured(Normal))
	v4, v6 := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")
	mapped := netip.MustParsePrefix("::ffff:192.0.2.7/128")
	until := time.Now().Add(time.Hour)
	for _, r := range []Rule{{Prefix: v4, Allow: true}, {Prefix: v4}, {Prefix: v6, Until: until}, {Prefix: mapped, Allow: true}} {
		if err := n.SetRule(r); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := n.Rules()
	if err != nil || len(rules) != 3 {
		t.Fatalf("rules %v, %v", rules, err)
	}
	if r := rules[0]; r != (Rule{Prefix: v4}) {
		t.Errorf("first %v", r)
	}
	if r := rules[1]; r != (Rule{Prefix: netip.MustParsePrefix("192.0.2.7/32"), Allow: true}) {
		t.Errorf("second %v", r)
	}
	if r := rules[2]; r.Prefix != v6 || r.Until.Sub(until).Abs() > time.Minute {
		t.Errorf("third %v, want until %v", r, until)
	}
	n.expect("the longest prefix", n.send(firstInitial), map[Reason]uint64{PassAllowed: 1})
	n.expect("the shorter one", n.send(fromSource(firstInitial, netip.MustParseAddr("192.0.2.8"))), map[Reason]uint64{DropDenied: 1})
	n.expect("IPv6", n.send(udp6(long(version1, initial, chosen8, 1200))), map[Reason]uint64{DropDenied: 1})
	n.expect("an established connection", n.send(fromSource(udp4(short(n.ids.New(0), 40)), netip.MustParseAddr("192.0.2.8"))), map[Reason]uint64{PassEstablishedQUIC: 1})
	for _, r := range rules {
		if err := n.RemoveRule(r.Prefix); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.RemoveRule(v4); err != nil {
		t.Error("removing what is not there:", err)
	}
	n.expect("nothing listed", n.send(firstInitial), map[Reason]uint64{PassNewQUIC: 1})

	host := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	for i := range 1024 {
		if err := n.SetRule(Rule{Prefix: host(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.SetRule(Rule{Prefix: host(1024)}); !errors.Is(err, ErrListFull) {
		t.Errorf("one too many: %v", err)
	}
	// What has expired makes room.
	expired := admissionRule{Until: 1}
	_, key, err := n.ruleOf(host(5))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.maps.Rules4.Put(key, &expired); err != nil {
		t.Fatal(err)
	}
	if err := n.SetRule(Rule{Prefix: host(1024)}); err != nil {
		t.Errorf("with one expired: %v", err)
	}
	if err := n.SetRule(Rule{}); err == nil {
		t.Error("no prefix, no error")
	}
}

// TestSamples reads what was drawn, and counts what nobody read.
func TestSamples(t *testing.T) {
	n := newNode(t)
	c := configured(Guarded)
	c.Sample = 1
	n.configure(c)
	samples, err := n.Samples()
	if err != nil {
		t.Fatal(err)
	}
	defer samples.Close()
	n.send(
		udp4(short(n.ids.New(0), 40)), // not judged
		firstInitial,
		udp6(long(version1, retry, chosen8, 100)),
		ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, synFlag)),
		ethernet(0x0800, make([]byte, 20)),
	)
	want := []Sample{
		{Source: netip.AddrPortFrom(client4, clientPort), Length: 1200, Reason: PassNewQUIC, Enforced: true},
		{Source: netip.AddrPortFrom(client6, clientPort), Length: 100, Reason: DropRetry, Enforced: true},
		{Source: netip.AddrPortFrom(client4, clientPort), TCP: true, Reason: PassNewTCP, Enforced: true},
		{Reason: DropMalformed, Enforced: true},
	}
	for _, w := range want {
		if got, err := samples.Next(); got != w || err != nil {
			t.Errorf("got %+v, %v; want %+v", got, err, w)
		}
	}
	samples.SetDeadline(time.Now())
	if _, err := samples.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no sample: %v", err)
	}
	for range 10_000 {
		if _, err := n.program.Run(&ebpf.RunOptions{Data: firstInitial}); err != nil {
			t.Fatal(err)
		}
	}
	counts, err := n.Counts()
	if err != nil || counts.SamplesLost == 0 {
		t.Errorf("lost %d samples of a full ring, %v", counts.SamplesLost, err)
	}
}

// TestKnown notes a completed handshake by the real clock: its source is known over
// both protocols, for as long as it is said, and its neighbour is not.
func TestKnown(t *testing.T) {
	a := needKernel(t, Options{})
	program := programOf(t, a, admissionProgAdmitXdp)
	c := configured(Closed)
	c.Trickle = Limit{PerSecond: 1e-3}
	if err := a.Configure(c); err != nil {
		t.Fatal(err)
	}
	syn := ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, synFlag))
	var port uint16
	became := func(frame []byte) Reason {
		port++
		for r := range judged(t, a, func() { run(t, program, fromPort(frame, port)) }) {
			return r
		}
		return Reasons
	}
	if got := became(syn); got != PassTrickle {
		t.Fatalf("the first became %s", got)
	}
	if got := became(firstInitial); got != DropClosed {
		t.Fatalf("the second became %s", got)
	}
	a.Know(client4)
	for _, frame := range [][]byte{syn, firstInitial} {
		if got := became(frame); got != PassKnown {
			t.Errorf("a known one became %s", got)
		}
		if got := became(fromSource(frame, netip.MustParseAddr("192.0.2.8"))); got != DropClosed {
			t.Errorf("its neighbour became %s", got)
		}
	}
	c.KnownFor = 0
	if err := a.Configure(c); err != nil {
		t.Fatal(err)
	}
	if got := became(syn); got != DropClosed {
		t.Errorf("after its time it became %s", got)
	}
}

// TestPinned loads a second time from the same folder: rules are still there.
func TestPinned(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Skipf("a BPF file system of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	rule := Rule{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Allow: true}
	first := needKernel(t, Options{Pin: dir})
	if err := first.SetRule(rule); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := needKernel(t, Options{Pin: dir})
	if rules, err := second.Rules(); err != nil || len(rules) != 1 || rules[0] != rule {
		t.Errorf("rules %v, %v", rules, err)
	}

	// What another version left is replaced.
	if err := os.Remove(filepath.Join(dir, admissionMapRules4)); err != nil {
		t.Fatal(err)
	}
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Pin(filepath.Join(dir, admissionMapRules4)); err != nil {
		t.Fatal(err)
	}
	third := needKernel(t, Options{Pin: dir})
	if err := third.SetRule(rule); err != nil {
		t.Error(err)
	}
}
