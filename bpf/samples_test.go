package bpf

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

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
