package bpf

import (
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
)

// needKernel loads the programs, or skips the test if this machine may or can not.
func needKernel(t testing.TB, o Options) *Admission {
	t.Helper()
	if o.ConnectionIDs == nil {
		o.ConnectionIDs = testIDs(t, nil)
	}
	if o.UDPPort == 0 {
		o.UDPPort, o.TCPPorts = testUDPPort, [2]uint16{testTCPPort, testTCPPort2}
	}
	a, err := Load(o)
	need(t, err)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrNoPrivilege), errors.Is(err, ErrOldKernel):
		t.Skipf("programs in the kernel: %v", err)
	default:
		t.Fatalf("%+v", err)
	}
}

// sinceKernel reports whether the kernel is of this version or later.
func sinceKernel(t testing.TB, major, minor uint32) bool {
	t.Helper()
	version, err := features.LinuxVersionCode()
	if err != nil {
		t.Fatal(err)
	}
	return version >= major<<16|minor<<8
}

// modesHere returns the modes that the kernel has.
func modesHere(t testing.TB) []Mode {
	t.Helper()
	if sinceKernel(t, 6, 6) {
		return []Mode{Generic, Native, TCX}
	}
	return []Mode{Generic, Native}
}

// refusesTCX reports whether the kernel is one before tcx, and checks that Attach
// says so then.
func refusesTCX(t testing.TB, a *Admission, iface int) bool {
	t.Helper()
	if sinceKernel(t, 6, 6) {
		return false
	}
	if attached, err := a.Attach(iface, TCX); !errors.Is(err, ErrOldKernel) {
		t.Errorf("tcx before 6.6: %+v, %v", attached, err)
	}
	return true
}

var testKeys = Keys{[16]byte([]byte("the first key of")), [16]byte([]byte("two, of 16 bytes"))}

func testIDs(t testing.TB, serverID []byte) *ConnectionIDs {
	t.Helper()
	ids, err := NewConnectionIDs(serverID, testKeys)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// program returns one of the programs.
func programOf(t testing.TB, a *Admission, name string) *ebpf.Program {
	t.Helper()
	a.attaching.Lock()
	defer a.attaching.Unlock()
	p, err := a.program(name)
	need(t, err)
	return p
}

// run gives a frame to a program and returns whether it was dropped.
func run(t testing.TB, p *ebpf.Program, frame []byte) bool {
	t.Helper()
	verdict, err := p.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatalf("run the program with %d bytes: %v", len(frame), err)
	}
	const xdpDrop, xdpPass, tcxDrop = 1, 2, 2
	if p.Type() == ebpf.XDP {
		if verdict != xdpDrop && verdict != xdpPass {
			t.Fatalf("verdict %d", verdict)
		}
		return verdict == xdpDrop
	}
	if verdict != tcxDrop && int32(verdict) != -1 {
		t.Fatalf("verdict %d", int32(verdict))
	}
	return verdict == tcxDrop
}

// judged returns the reasons that were counted while f ran.
func judged(t testing.TB, a *Admission, f func()) map[Reason]Count {
	t.Helper()
	before, err := a.Counts()
	if err != nil {
		t.Fatal(err)
	}
	f()
	after, err := a.Counts()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[Reason]Count{}
	for r := range after.Packets {
		now, then := after.Packets[r], before.Packets[r]
		c := Count{now.Packets - then.Packets, now.Unenforced - then.Unenforced}
		if c != (Count{}) {
			counted[Reason(r)] = c
		}
	}
	return counted
}

// configured are settings under which nothing is limited.
func configured(level Level) Config {
	return Config{Level: level, Enforce: true, DropFragments: true, Stale: time.Hour, KnownFor: time.Hour}
}
