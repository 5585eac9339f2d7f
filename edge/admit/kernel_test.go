package admit

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"
)

// frailKernel fails as a test wants it to, which no kernel at hand can be made to do.
type frailKernel struct {
	mu          sync.Mutex
	attached    Mode
	attachments int
	policy      Policy
	beats       int
	rules       map[netip.Prefix]Rule
	owes        map[netip.Addr]time.Duration
	refunds     int
	refunded    netip.Addr
	known       int
	established uint64
	newQUIC     uint64
	hang        chan struct{} // Configure waits for it

	// What goes wrong.
	configure, attach, native, check error

	closed chan struct{}
}

var _ Kernel = (*frailKernel)(nil)

var errFrail = errors.New("the kernel does not want to")

func newFrailKernel() *frailKernel {
	return &frailKernel{rules: map[netip.Prefix]Rule{}, owes: map[netip.Addr]time.Duration{}, closed: make(chan struct{})}
}

func (f *frailKernel) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *frailKernel) Attach(native bool) (mode Mode, err error) {
	f.do(func() {
		f.attachments++
		switch {
		case native && f.native != nil:
			f.attached, err = "", f.native
		case native:
			f.attached = Native
		case f.attach != nil:
			err = f.attach
		default:
			f.attached = Generic
		}
		mode = f.attached
	})
	return mode, err
}
func (f *frailKernel) Refused() error { return nil }

func (f *frailKernel) Configure(p Policy) (err error) {
	if f.hang != nil {
		<-f.hang
	}
	f.do(func() {
		if err = f.configure; err == nil {
			f.policy = p
			f.beats++
		}
	})
	return err
}

func (f *frailKernel) Check() (err error) {
	f.do(func() { err, f.check = f.check, nil })
	return err
}

func (f *frailKernel) Owes(a netip.Addr, _ bool) (d time.Duration) {
	f.do(func() { d = f.owes[a] })
	return d
}

func (f *frailKernel) Charge(a netip.Addr, _ bool, cost, most time.Duration) {
	f.do(func() { f.owes[a] = min(f.owes[a]+cost, most) })
}

func (f *frailKernel) Refund(a netip.Addr, _ bool, _ time.Duration) {
	f.do(func() { f.refunds++; f.refunded = a })
}
func (f *frailKernel) Know(netip.Addr) { f.do(func() { f.known++ }) }
func (f *frailKernel) Forget()         { f.do(func() { clear(f.owes) }) }

func (f *frailKernel) SetRule(r Rule) error {
	f.do(func() { f.rules[r.Prefix] = r })
	return nil
}

func (f *frailKernel) RemoveRule(p netip.Prefix) error {
	f.do(func() { delete(f.rules, p) })
	return nil
}

func (f *frailKernel) Rules() (all []Rule, err error) {
	f.do(func() {
		for _, r := range f.rules {
			all = append(all, r)
		}
	})
	return all, nil
}

func (f *frailKernel) Counts() (counts []Count, lost uint64, err error) {
	f.do(func() {
		counts = []Count{{Reason: "established_quic", Packets: f.established}, {Reason: "new_quic", Packets: f.newQUIC}}
	})
	return counts, 0, nil
}

func (f *frailKernel) Next() (Sample, error) {
	<-f.closed
	return Sample{}, os.ErrClosed
}
func (f *frailKernel) Top(int) []TopSource { return nil }
func (f *frailKernel) Close() error        { close(f.closed); return nil }
