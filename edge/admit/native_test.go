package admit

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/synctest"
)

func TestNativeModeIsOnTrial(t *testing.T) {
	f := func(name string, confirm, silent bool, want Mode, why string) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFrailKernel()
				c, log := governed(t, Surroundings{Kernel: k})
				come := func(times int) {
					for range times {
						k.do(func() { k.established++ })
						pass(beat)
					}
				}
				come(10)
				if err := c.EnableNative(); err != nil {
					t.Fatal(err)
				}
				if s := c.State(); s.Mode != Native || s.Trial <= 0 {
					t.Errorf("state %+v", s)
				}
				if confirm {
					if err := c.Confirm(); err != nil {
						t.Error(err)
					}
				}
				if !silent {
					come(2)
				}
				pass(trialTime - time.Second)
				if s := c.State(); s.Mode != Native {
					t.Errorf("given up before the time: %+v", s)
				}
				pass(2 * time.Second)
				s := c.State()
				if s.Mode != want || s.Trial != 0 || why != "" && !strings.Contains(s.Refused, why) {
					t.Errorf("state %+v", s)
				}
				if why != "" && s.RefusedReason != GivenUp {
					t.Errorf("the reason is %s", s.RefusedReason)
				}
				if why != "" && strings.Count(log.String(), why) != 1 {
					t.Errorf("log:\n%s", log)
				}
				if err := c.Confirm(); !errors.Is(err, errNoTrial) {
					t.Errorf("confirmed afterwards: %v", err)
				}
			})
		})
	}
	f("confirmed", true, false, Native, "")
	f("unconfirmed", false, false, Generic, "nobody confirmed")
	f("silent", true, true, Generic, "no packets of established")
}

func TestUpgradeEndsTrial(t *testing.T) {
	f := func(confirm bool, want Mode) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c, _ := governed(t, Surroundings{Kernel: newFrailKernel()})
			pass(beat)
			err := c.EnableNative()
			if confirm {
				err = errors.Join(err, c.Confirm())
			}
			if err = errors.Join(err, c.EndTrial()); err != nil {
				t.Fatal(err)
			}
			if s := c.State(); s.Mode != want || !confirm && !strings.Contains(s.Refused, "upgrade") {
				t.Errorf("confirmed %v: %+v", confirm, s)
			}
		})
	}
	f(true, Native)
	f(false, Generic)
}

// The trial ends though no pass does.
func TestNativeModeEndsWhenPassesHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		stuck := make(chan struct{})
		var hang atomic.Bool
		c, _ := governed(t, Surroundings{Kernel: k, Spent: func() bool {
			if hang.Load() {
				<-stuck
			}
			return false
		}})
		if err := c.EnableNative(); err != nil {
			t.Fatal(err)
		}
		hang.Store(true)
		pass(lateEnd + time.Second)
		k.do(func() {
			if k.attached != Generic {
				t.Errorf("attached %q", k.attached)
			}
		})
		if err := c.Confirm(); err != nil {
			t.Error(err)
		}
		hang.Store(false)
		close(stuck)
		pass(time.Second)
		if s := c.State(); s.Mode != Generic {
			t.Errorf("state %+v", s)
		}
	})
}

func TestNativeModeThatDriversRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, _ := governed(t, Surroundings{Kernel: k})
		k.native = errFrail
		if err := c.EnableNative(); !errors.Is(err, errFrail) {
			t.Errorf("error %v", err)
		}
		pass(time.Second)
		if s := c.State(); s.Mode != Generic || s.Heartbeat < 0 || k.attached != Generic {
			t.Errorf("attached %q, state %+v", k.attached, s)
		}
		k.do(func() { k.attach = errFrail })
		if err := c.EnableNative(); !errors.Is(err, errFrail) {
			t.Errorf("error %v", err)
		}
		if s := c.State(); s.Mode != UserSpace {
			t.Errorf("no way back, and the state is %+v", s)
		}
	})
}
