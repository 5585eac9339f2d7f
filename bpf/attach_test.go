package bpf

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"spillway/bpf/bpftest"
)

func TestAttach(t *testing.T) {
	a := needKernel(t, Options{})
	ownNamespace(t)
	if err := a.Configure(configured(Normal)); err != nil {
		t.Fatal(err)
	}
	v0, v1, lo := interfaceIndex(t, "v0"), interfaceIndex(t, "v1"), interfaceIndex(t, "lo")
	for _, mode := range []Mode{Generic, Native, TCX, Auto} {
		if mode == TCX && refusesTCX(t, a, v0) {
			continue
		}
		attached, err := a.Attach(v0, mode)
		need(t, err)
		if want := map[Mode]Mode{Auto: Generic}[mode]; want != "" && attached.Mode != want || want == "" && attached.Mode != mode {
			t.Errorf("asked for %s, got %s", mode, attached.Mode)
		}
		if again, err := a.Attach(v0, mode); again != attached || err != nil {
			t.Errorf("attached again in %s mode: %+v, %v", mode, again, err)
		}
		before, err := a.Counts()
		if err != nil {
			t.Fatal(err)
		}
		counted := judged(t, a, func() {
			send(t, v1, udp4(long(version1, retry, chosen8, 100)))
			send(t, v1, udp4(short(a.ids.New(0), 100)))
			settle(t, a, before, DropRetry, PassEstablishedQUIC)
		})
		if counted[DropRetry].Packets != 1 || counted[PassEstablishedQUIC].Packets != 1 {
			t.Errorf("%s mode: counted %v", mode, counted)
		}
		if err := a.Detach(v0); err != nil {
			t.Fatal(err)
		}
		counted = judged(t, a, func() { send(t, v1, udp4(long(version1, retry, chosen8, 100))) })
		if counted[DropRetry].Packets != 0 {
			t.Errorf("%s mode: counted after Detach: %v", mode, counted)
		}
	}
	if _, err := a.Attach(lo, Native); !errors.Is(err, ErrNotByDriver) {
		t.Errorf("native mode of a loopback: %v", err)
	}
	if attached, err := a.Attach(lo, Auto); err != nil || attached.Mode != Generic {
		t.Errorf("a loopback: %+v, %v", attached, err)
	}
}

// settle waits until the reasons were counted once more than before; a frame on a
// cable is judged by a softirq, which may run after send has returned.
func settle(t *testing.T, a *Admission, before Counts, reasons ...Reason) {
	t.Helper()
	for ended := time.Now().Add(10 * time.Second); time.Now().Before(ended); runtime.Gosched() {
		now, err := a.Counts()
		if err != nil {
			t.Fatal(err)
		}
		waits := false
		for _, r := range reasons {
			waits = waits || now.Packets[r] == before.Packets[r]
		}
		if !waits {
			return
		}
	}
}

// TestInterfaceChanges takes cables down, away, and puts others in their place, while
// packets are judged: what is left alone is what ip shows of the interface.
func TestInterfaceChanges(t *testing.T) {
	for _, mode := range modesHere(t) {
		a := needKernel(t, Options{})
		ownNamespace(t)
		if err := a.Configure(configured(Normal)); err != nil {
			t.Fatal(err)
		}
		const index = 77
		refused := udp4(long(version1, retry, chosen8, 100))
		cable := func() {
			bpftest.IP(t,
				fmt.Sprintf("link add v2 index %d address 02:00:00:00:00:02 mtu 1400 numtxqueues 2 numrxqueues 2 type veth peer name v3", index),
				"link set v2 up", "link set v3 up")
		}
		shown := func() string { // but for the program
			lines := strings.Split(bpftest.IP(t, "-d link show v2"), "\n")
			lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "prog/xdp") })
			return strings.NewReplacer(" xdpgeneric", "", " xdp", "").Replace(strings.Join(lines, "\n"))
		}
		judges := func(when string) {
			t.Helper()
			// A cable that was just put up may not carry the first frames.
			v3 := interfaceIndex(t, "v3")
			before, err := a.Counts()
			for ended := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(ended); {
				send(t, v3, refused)
				var now Counts
				if now, err = a.Counts(); now.Packets[DropRetry] != before.Packets[DropRetry] {
					return
				}
			}
			t.Errorf("%s mode, %s: judged no packet, %v", mode, when, err)
		}
		cable()
		before := shown()
		if _, err := a.Attach(index, mode); err != nil {
			t.Fatal(err)
		}
		if now := shown(); now != before {
			t.Errorf("%s mode changed\n%s to\n%s", mode, before, now)
		}
		for _, end := range []string{"v2", "v3"} {
			bpftest.IP(t, "link set "+end+" down", "link set "+end+" up")
			judges(end + " was down")
		}
		bpftest.IP(t, "link del v3") // and v2 with it
		cable()
		if _, err := a.Attach(index, mode); err != nil {
			t.Fatal(err)
		}
		judges("another cable")
		if err := a.Detach(index); err != nil {
			t.Error(err)
		}
		if now := shown(); now != before {
			t.Errorf("%s mode left\n%s as\n%s", mode, before, now)
		}
		if _, err := a.Attach(index, mode); err != nil {
			t.Fatal(err)
		}
		bpftest.IP(t, "link del v3")
		if err := a.Detach(index); err != nil {
			t.Errorf("%s mode, where no interface is: %v", mode, err)
		}
		if _, err := a.Attach(index, mode); err == nil {
			t.Errorf("%s mode: attached to nothing", mode)
		}
	}
}

// TestHookInUse attaches beside a program of somebody else.
func TestHookInUse(t *testing.T) {
	a := needKernel(t, Options{})
	ownNamespace(t)
	v0 := interfaceIndex(t, "v0")
	other, err := ebpf.NewProgram(passEverything)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	theirs, err := link.AttachXDP(link.XDPOptions{Program: other, Interface: v0, Flags: link.XDPGenericMode})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()

	for _, mode := range []Mode{Generic, Native} {
		if _, err := a.Attach(v0, mode); !errors.Is(err, ErrHookInUse) {
			t.Errorf("%s mode: %v", mode, err)
		}
	}
	attached, err := a.Attach(v0, Auto)
	if refusesTCX(t, a, v0) {
		if !errors.Is(err, ErrHookInUse) || !errors.Is(err, ErrOldKernel) {
			t.Errorf("no mode is left: %+v, %v", attached, err)
		}
		return
	}
	need(t, err)
	if attached.Mode != TCX || !errors.Is(attached.Refused, ErrHookInUse) {
		t.Errorf("got %s, refused %v", attached.Mode, attached.Refused)
	}
}

// TestFirstInChain attaches beside a program that lets nobody after it see a packet.
func TestFirstInChain(t *testing.T) {
	a := needKernel(t, Options{})
	ownNamespace(t)
	if err := a.Configure(configured(Normal)); err != nil {
		t.Fatal(err)
	}
	v0, v1 := interfaceIndex(t, "v0"), interfaceIndex(t, "v1")
	if refusesTCX(t, a, v0) {
		return
	}
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual MIT/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	theirs, err := link.AttachTCX(link.TCXOptions{Program: other, Interface: v0, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if _, err := a.Attach(v0, TCX); err != nil {
		t.Fatal(err)
	}
	before, err := a.Counts()
	if err != nil {
		t.Fatal(err)
	}
	counted := judged(t, a, func() {
		send(t, v1, udp4(long(version1, retry, chosen8, 100)))
		settle(t, a, before, DropRetry)
	})
	if counted[DropRetry].Packets != 1 {
		t.Errorf("counted %v", counted)
	}
}

// TestVerifierAccepts loads every program, and shows what the verifier has against it.
// The log tells how much work one is, of which a million instructions are allowed.
func TestVerifierAccepts(t *testing.T) {
	a := needKernel(t, Options{})
	for _, name := range []string{admissionProgAdmitXdp, admissionProgAdmitTcx, admissionProgSteer} {
		a.attaching.Lock()
		p, err := a.program(name)
		a.attaching.Unlock()
		if refused := (*ebpf.VerifierError)(nil); errors.As(err, &refused) && may(unix.CAP_PERFMON) {
			t.Errorf("%s: %-60v", name, refused)
			continue
		}
		need(t, err)
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := info.VerifiedInstructions(); ok { // since 5.16
			t.Logf("%s: %d instructions verified", name, n)
		}
	}
}
