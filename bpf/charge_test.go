package bpf

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What user space charges is owed like what packets cost, up to a bound, and by nobody
// else.
func TestCharge(t *testing.T) {
	a := needKernel(t, Options{})
	source, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	near := func(got, want time.Duration) bool { return got <= want && got > want-time.Minute }
	a.Charge(source, true, 6*time.Minute, 10*time.Minute)
	if got := a.Owes(source, true); !near(got, 6*time.Minute) {
		t.Errorf("owes %v", got)
	}
	if tcp, quic := a.Owes(other, true), a.Owes(source, false); tcp != 0 || quic != 0 {
		t.Errorf("another owes %v, and over QUIC %v", tcp, quic)
	}
	a.Charge(source, true, 6*time.Minute, 10*time.Minute)
	a.Charge(source, true, 6*time.Minute, 10*time.Minute)
	if got := a.Owes(source, true); !near(got, 12*time.Minute) {
		t.Errorf("owes %v beyond the bound", got)
	}
	a.Refund(source, true, time.Minute)
	if got := a.Owes(source, true); !near(got, 11*time.Minute) {
		t.Errorf("owes %v after a refund", got)
	}
}

// An interface that goes takes its program with it, which Check tells once.
func TestCheck(t *testing.T) {
	a := needKernel(t, Options{})
	ownNamespace(t)
	for _, mode := range modesHere(t) {
		_, err := a.Attach(interfaceIndex(t, "v0"), mode)
		need(t, err)
		if err := a.Check(); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		for _, command := range []string{"link del v0", "link add v0 type veth peer name v1"} {
			if output, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v: %s", command, err, output)
			}
		}
		if err := a.Check(); !errors.Is(err, ErrDetached) {
			t.Errorf("%s: the interface has gone: %v", mode, err)
		}
		if err := a.Check(); err != nil {
			t.Errorf("%s: told twice: %v", mode, err)
		}
	}
}
