package bpf

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// TestRefund completes handshakes: what they were charged is given back, and no more.
func TestRefund(t *testing.T) {
	a := needKernel(t, Options{})
	program := programOf(t, a, admissionProgAdmitXdp)
	c := configured(Guarded)
	cost := maxSpan / 2
	c.Source = Limit{PerSecond: 1 / cost.Seconds(), Burst: 1} // two pass
	c.QUICTrickle, c.TCPTrickle = hardly, hardly
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
	element := a.element(c, monotonic())
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

// TestKnown notes a completed handshake by the real clock: its source is known over
// both protocols, for as long as it is said, and its neighbour is not.
func TestKnown(t *testing.T) {
	a := needKernel(t, Options{})
	program := programOf(t, a, admissionProgAdmitXdp)
	c := configured(Closed)
	c.QUICTrickle, c.TCPTrickle = hardly, hardly
	if err := a.Configure(c); err != nil {
		t.Fatal(err)
	}
	client := client4
	for a.hash.of(client, false)%knownRow == a.hash.of(client, true)%knownRow {
		client = client.Prev() // one that has two places, for the one protocol and for the other
	}
	syn := ipv4(client, protocolTCP, 0, 0, tcp(testTCPPort, synFlag))
	first := fromSource(firstInitial, client)
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
	if got := became(first); got != PassTrickle {
		t.Fatalf("the first over QUIC became %s", got)
	}
	a.Know(client)
	for _, frame := range [][]byte{syn, first} {
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

// TestKnownAtOnce notes handshakes until the unit of their times ends, when the clock of
// the programs has yet to follow: whoever is known is known at once.
func TestKnownAtOnce(t *testing.T) {
	a := needKernel(t, Options{})
	program := programOf(t, a, admissionProgAdmitXdp)
	c := configured(Closed)
	c.QUICTrickle, c.TCPTrickle = hardly, hardly
	if err := a.Configure(c); err != nil {
		t.Fatal(err)
	}
	syn := ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, synFlag))
	run(t, program, syn) // takes the trickle
	begun := monotonic() >> knownUnit
	for after := 0; after < 50; {
		a.Know(client4)
		if run(t, program, syn) {
			t.Fatal("dropped right after it became known")
		}
		if monotonic()>>knownUnit != begun {
			after++
		}
	}
}
