package admit

import (
	"errors"
	"fmt"
	"time"
)

// trialTime is how long the native mode has to show that it does no harm: drivers
// reset the link for it, and may not come back.
const trialTime = 10 * time.Second

// lateEnd is when a trial ends of which no pass has decided, because one hangs or the
// kernel failed meanwhile.
const lateEnd = trialTime + time.Second

// A trial is of the native mode, which ends by itself unless it is confirmed.
type trial struct {
	until       time.Duration
	before      Mode
	established uint64 // packets, when it began
	flowing     bool   // they grew before
	confirmed   bool
}

// silent reports whether packets of established connections came before, and none since.
func (t *trial) silent(counts []Count) bool {
	return t.flowing && established(counts) <= t.established
}

// The reasons for which a trial fails.
var (
	errGivenUp     = errors.New("native mode was given up")
	errUnconfirmed = errors.New("nobody confirmed it")
	errSucceeded   = errors.New("an upgrade came before anybody confirmed it")
	errSilent      = errors.New("no packets of established connections came any more")
	errNoTrial     = errors.New("native mode is not on trial")
	errNotNative   = errors.New("native mode is not on")
)

// established is how many packets belonged to connections.
func established(counts []Count) (n uint64) {
	for _, c := range counts {
		if !c.Drop && (c.Reason == "established_quic" || c.Reason == "established_tcp") {
			n += c.Packets
		}
	}
	return n
}

// EnableNative has packets judged by the drivers, on trial: unless Confirm is called
// and, if there were any before, packets of established connections keep coming, the
// mode before is back within ten seconds. The error says why it is not even tried;
// then the mode is as before.
func (c *Controller) EnableNative() error {
	k := &c.control
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case c.judge.Load() == nil:
		return fmt.Errorf("%w: %s", ErrNoKernel, k.refused)
	case k.mode == Native:
		return errors.New("native mode is on already")
	}
	k.endTrial()
	before, flowing := k.mode, k.drops.flowing(c.now())
	mode, err := k.kernel.Attach(true)
	now := c.now() // a driver takes seconds, which are none of the trial's
	if err != nil {
		return errors.Join(err, c.detachNative(now))
	}
	counts, _, err := k.kernel.Counts()
	if err != nil {
		return errors.Join(err, c.detachNative(now))
	}
	k.mode = mode
	k.refuse(nil)
	k.trial = &trial{until: now + trialTime, before: before, established: established(counts), flowing: flowing}
	k.deadMan = time.AfterFunc(lateEnd, func() { _, _ = k.kernel.Attach(false) })
	k.log.Warn("native mode is on trial", "seconds", trialTime.Seconds(), "before", before)
	return nil
}

// Confirm says that the node can be reached in native mode.
func (c *Controller) Confirm() error {
	k := &c.control
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.trial == nil {
		return errNoTrial
	}
	k.trial.confirmed = true
	return nil
}

// EndTrial goes back from a native mode that nobody has confirmed, or that is silent,
// before another process takes the interfaces over, which knows of no trial. Without one
// it does nothing.
func (c *Controller) EndTrial() error {
	k := &c.control
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.trial == nil:
		return nil
	case !k.trial.confirmed:
		return c.giveUp(c.now(), errSucceeded)
	case k.trial.silent(k.drops.counts):
		return c.giveUp(c.now(), errSilent)
	}
	k.endTrial()
	return nil
}

// giveUp ends a trial that has failed. An error of it is in the log.
func (c *Controller) giveUp(now time.Duration, why error) error {
	k := &c.control
	if err := c.detachNative(now); err != nil {
		return err
	}
	k.refuse(fmt.Errorf("%w: %w", errGivenUp, why))
	k.log.Warn("native mode was given up", "reason", why, "mode", k.mode)
	return nil
}

// DisableNative goes back to the best mode that needs nothing of drivers.
func (c *Controller) DisableNative() error {
	k := &c.control
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mode != Native {
		return errNotNative
	}
	if err := c.detachNative(c.now()); err != nil {
		return err
	}
	k.refuse(k.kernel.Refused())
	k.log.Info("native mode was ended", "mode", k.mode)
	return nil
}

// detachNative goes back to the best mode that needs nothing of drivers.
func (c *Controller) detachNative(now time.Duration) error {
	k := &c.control
	k.endTrial()
	mode, err := k.kernel.Attach(false)
	if err != nil {
		c.fall(now, err)
		return err
	}
	k.mode = mode
	return nil
}

func (k *control) endTrial() {
	k.trial = nil
	if k.deadMan != nil {
		k.deadMan.Stop()
	}
}

// watch ends a trial when its time has come.
func (c *Controller) watch(now time.Duration, counts []Count) {
	k := &c.control
	k.drops.note(now, established(counts))
	t := k.trial
	if t == nil {
		return
	}
	silent := t.silent(counts)
	switch {
	case t.confirmed && !silent && now < t.until-trialTime+lateEnd:
		k.endTrial()
		k.log.Info("native mode stays")
		return
	case now < t.until:
		return
	}
	why := errUnconfirmed
	if silent {
		why = errSilent
	}
	_ = c.giveUp(now, why)
}
