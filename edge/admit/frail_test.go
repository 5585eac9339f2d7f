package admit

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// forgetfulKernel takes everything, and judges nothing when it is asked.
type forgetfulKernel struct{ *frailKernel }

func (forgetfulKernel) Check() error { return errFrail }

// A kernel that attaches and never judges is tried ever later too.
func TestKernelThatNeverJudgesIsTriedEverLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, _ := governed(t, Surroundings{Kernel: forgetfulKernel{k}})
		pass(time.Hour)
		k.do(func() {
			if k.attachments < 15 || k.attachments > 25 { // one in five minutes, after eight
				t.Errorf("attached %d times in an hour", k.attachments)
			}
		})
		if s := c.State(); !strings.Contains(s.Refused, errFrail.Error()) {
			t.Errorf("state %+v", s)
		}
	})
}

// slowKernel has a driver that takes a while to be asked for native mode.
type slowKernel struct{ *frailKernel }

const slowly = 4 * time.Second

func (k slowKernel) Attach(native bool) (Mode, error) {
	if native {
		time.Sleep(slowly)
	}
	return k.frailKernel.Attach(native)
}

// What the driver takes is not the operator's time.
func TestTrialBeginsWhenTheDriverIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config(), 2)
		c.control.senses.gauges = idle()
		c.Use(Surroundings{Kernel: slowKernel{newFrailKernel()}, Log: slog.New(slog.DiscardHandler)})
		c.pass()
		if err := c.EnableNative(); err != nil {
			t.Fatal(err)
		}
		if s := c.State(); s.Trial != trialTime.Seconds() {
			t.Errorf("%v s are left", s.Trial)
		}
		if err := c.EndTrial(); err != nil {
			t.Error(err)
		}
	})
}

// An upgrade does not make a native mode last that was confirmed and took all visitors
// away.
func TestUpgradeEndsSilentTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, _ := governed(t, Surroundings{Kernel: k})
		for range 10 {
			k.do(func() { k.established++ })
			pass(beat)
		}
		if err := errors.Join(c.EnableNative(), c.Confirm()); err != nil {
			t.Fatal(err)
		}
		pass(beat)
		if err := c.EndTrial(); err != nil {
			t.Error(err)
		}
		if s := c.State(); s.Mode != Generic || !strings.Contains(s.Refused, errSilent.Error()) {
			t.Errorf("state %+v", s)
		}
	})
}

// Whoever serves visitors does not wait for a driver, and whoever reads the log does not
// learn whose address it is.
func TestOffencesWaitForNothingAndNameNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &bytes.Buffer{}
		c := at(t, Guarded)
		c.control.log = slog.New(slog.NewTextHandler(log, nil))
		h := &Handshake{c: c, source: newSource(v4(1), true)}
		c.control.mu.Lock()
		h.Blame(offence) // comes back
		c.control.mu.Unlock()
		for range tooMany {
			h.Blame(offence)
		}
		if len(c.Rules()) != 1 || strings.Contains(log.String(), v4(1).String()) ||
			!strings.Contains(log.String(), rangeOf(v4(1)).String()) {
			t.Errorf("rules %v, log:\n%s", c.Rules(), log)
		}
	})
}
