package admit

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/synctest"
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
	configure, attach, native, check, next error

	nexts   int
	samples chan Sample
	closed  chan struct{}
}

var _ Kernel = (*frailKernel)(nil)

var errFrail = errors.New("the kernel does not want to")

func newFrailKernel() *frailKernel {
	return &frailKernel{rules: map[netip.Prefix]Rule{}, owes: map[netip.Addr]time.Duration{}, samples: make(chan Sample), closed: make(chan struct{})}
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

func (f *frailKernel) Next() (s Sample, err error) {
	f.do(func() { f.nexts++; err = f.next })
	if err != nil {
		return s, err
	}
	select {
	case s = <-f.samples:
		return s, nil
	case <-f.closed:
		return s, os.ErrClosed
	}
}
func (f *frailKernel) Top(int) []TopSource { return nil }
func (f *frailKernel) Close() error        { close(f.closed); return nil }

// A program that somebody removed is there again after a second.
func TestRemovedProgramIsAttachedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, log := governed(t, Surroundings{Kernel: k})
		pass(time.Second)
		k.do(func() { k.check = errFrail })
		pass(checkEvery)
		if s := c.State(); s.Mode != UserSpace || c.judge.Load() != nil {
			t.Errorf("not noticed: %+v", s)
		}
		pass(firstRetry)
		if s := c.State(); s.Mode != Generic || k.attachments != 2 {
			t.Errorf("not attached again: %+v", s)
		}
		if n := strings.Count(log.String(), errFrail.Error()); n != 1 {
			t.Errorf("said %d times:\n%s", n, log)
		}
	})
}

// What a kernel counted before, for another process or while it failed, is not asked
// for in a moment.
func TestOldCountsAreNoDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		k.newQUIC = 10_000_000
		c, _ := governed(t, Surroundings{Kernel: k})
		calm := func(when string) {
			t.Helper()
			for range 20 {
				pass(beat)
				if s := c.State(); s.Level != Normal {
					t.Fatalf("%s: level %s, %s", when, s.Level, s.Why)
				}
			}
		}
		calm("taken over")
		k.do(func() { k.check = errFrail })
		calm("failed, and back")
		if s := c.State(); s.Mode != Generic {
			t.Errorf("state %+v", s)
		}
		for range 10 {
			k.do(func() { k.newQUIC += 2000 })
			pass(beat)
		}
		if s := c.State(); s.Level != Shedding {
			t.Errorf("level %s at 10,000 Initials a second", s.Level)
		}
	})
}

// What fails falls back to the same limits in user space, is said once, and is tried
// again, ever later.
func TestKernelThatFailsForLongIsTriedEverLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, log := governed(t, Surroundings{Kernel: k})
		pass(time.Second)
		k.do(func() { k.configure, k.attachments = errFrail, 0 })
		pass(time.Second)
		if s := c.State(); s.Mode != UserSpace || s.Heartbeat != -1 || !strings.Contains(s.Refused, errFrail.Error()) {
			t.Errorf("state %+v", s)
		}
		// User space charges now.
		h, _ := c.Connect(from(1), true)
		if h.receipt == 0 {
			t.Error("nothing was charged in user space")
		}
		pass(time.Hour)
		if n := strings.Count(log.String(), "does not want to"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log)
		}
		tries := 0
		k.do(func() { k.configure, k.attach = nil, errors.New("still not") })
		for range 3600 {
			pass(time.Second)
		}
		k.do(func() { tries, k.attach = k.attachments, nil })
		if tries < 10 || tries > 14 { // one in five minutes
			t.Errorf("tried %d times in an hour", tries)
		}
		pass(lastRetry)
		if s := c.State(); s.Mode != Generic {
			t.Errorf("state %+v", s)
		}
	})
}

func TestNoKernelIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := governed(t, Surroundings{NoKernel: errors.New("no privilege")})
		pass(time.Hour)
		if n := strings.Count(log.String(), "no privilege"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log)
		}
		if s := c.State(); s.Mode != UserSpace || s.Refused != "no privilege" || s.RefusedReason != Other {
			t.Errorf("state %+v", s)
		}
		if err := c.EnableNative(); !errors.Is(err, ErrNoKernel) {
			t.Errorf("native: %v", err)
		}
	})
}
