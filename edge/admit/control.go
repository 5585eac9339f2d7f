package admit

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"
)

const (
	// beat is the time between two passes: the kernel's policy is never older, and a
	// level rises that fast.
	beat = 200 * time.Millisecond
	// checkEvery is how often the kernel is asked whether it still judges.
	checkEvery = time.Second
	// A kernel that failed is tried again after the first, then twice as long, and so
	// on to the last.
	firstRetry, lastRetry = time.Second, 5 * time.Minute
	// spentFor is how long origins and functions must be at their end to count.
	spentFor = time.Second
)

// Surroundings are what a Controller governs, and what it cannot see by itself.
type Surroundings struct {
	// Kernel judges packets. Nil leaves all to user space, for the reason that is
	// NoKernel.
	Kernel   Kernel
	NoKernel error
	// Refusal says in a word why the kernel refuses, or NoKernel. Nil is Other for all.
	Refusal func(error) Refusal
	// Spent reports whether origins are saturated and functions can take nothing. Nil
	// is never.
	Spent func() bool
	// Cache is how many bytes the cache may hold outside of the heap.
	Cache int64
	Log   *slog.Logger
}

// A control is what the passes of Run keep.
type control struct {
	mu     sync.Mutex // guards what follows, but kernel and what it came with
	stair  stair
	pinned pin
	demand Signals
	senses senses
	budget budgets
	policy Policy
	// spentSince is when the surroundings were last not at their end.
	spentSince time.Duration

	// The surroundings, which do not change after Use.
	kernel  Kernel
	refusal func(error) Refusal
	spent   func() bool
	log     *slog.Logger

	// How the kernel does.
	mode     Mode
	refused  string        // why it is no better mode
	reason   Refusal       // the same in a word
	said     string        // the last reason that is in the log
	beaten   time.Duration // when the kernel was last told a policy
	checked  time.Duration
	retryAt  time.Duration
	delay    time.Duration // before the next retry
	trial    *trial        // of the native mode
	deadMan  *time.Timer   // ends it whatever else hangs
	offences offences
	drops    drops
}

// A pin holds the level where an operator wants it.
type pin struct {
	level Level
	until time.Time
}

func (k *control) begin(c *Controller) {
	k.mode, k.reason, k.log = UserSpace, NotRefused, slog.New(slog.DiscardHandler)
	k.senses.gauges = gauges{cpu: processCPU, delay: schedulerDelay(), memory: heapShare(Given(), 0)}
	k.senses.look(reading{}, c.cores)
	k.budget.follow(Normal, k.senses.pace)
	c.enact(Normal)
}

// Use tells the Controller of its surroundings. It is called before all else, at most
// once. Rules that the kernel has already, from a process before, are taken over.
func (c *Controller) Use(s Surroundings) {
	k := &c.control
	k.kernel, k.refusal, k.spent, k.log = s.Kernel, s.Refusal, s.Spent, s.Log
	k.refuse(s.NoKernel)
	if s.Cache > 0 {
		k.senses.memory = heapShare(Given(), s.Cache)
	}
	if s.Kernel == nil {
		return
	}
	rules, err := s.Kernel.Rules()
	if err != nil {
		k.log.Warn("cannot read the rules of an earlier process", "error", err)
	}
	for _, r := range rules {
		if err := c.SetRule(r); err != nil {
			k.log.Warn("cannot take over a rule of an earlier process", "prefix", r.Prefix, "error", err)
		}
	}
}

// Run governs until ctx ends: several times a second it finds the level from what the
// node sees of its load, and tells the kernel, which passes everything when it hears
// nothing for three seconds. It closes the kernel at the end.
func (c *Controller) Run(ctx context.Context) error {
	k := &c.control
	if k.kernel == nil {
		k.log.Info("packets are not judged in the kernel, connections are in user space", "reason", k.refused)
	}
	var samples sync.WaitGroup
	if k.kernel != nil {
		samples.Go(func() { c.readSamples(ctx) })
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	c.pass()
	for {
		select {
		case <-tick.C:
			c.pass()
		case <-ctx.Done():
			err := c.close()
			samples.Wait()
			return err
		}
	}
}

func (c *Controller) close() error {
	k := &c.control
	c.judge.Store(nil)
	if k.kernel == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endTrial()
	return k.kernel.Close()
}

// pass looks, decides, and has it obeyed.
func (c *Controller) pass() {
	k := &c.control
	spent := k.spent != nil && k.spent() // which may wait for others
	k.mu.Lock()
	defer k.mu.Unlock()
	now := c.now()
	counts := c.look(now)
	k.demand.Spent = k.lasts(spent, now)
	demand, why := k.demand.Demand()
	was := k.level(time.Now())
	k.stair = k.stair.step(demand, why, now)
	level := k.level(time.Now())
	if level != was {
		k.log.Info("admission level", "level", level, "before", was, "why", k.why(time.Now()))
	}
	k.budget.follow(level, k.senses.pace)
	c.enact(level)
	c.tend(now, counts)
	c.expire(time.Now())
	k.drops.log(k.log, now)
}

// look takes the signals, and returns what the kernel counted.
func (c *Controller) look(now time.Duration) []Count {
	k, n := &c.control, &c.counts
	r := reading{
		at: now, cpu: k.senses.cpu(), started: n.started.Load(), startedTCP: n.startedTCP.Load(), retries: n.retries.Load(),
		dropped: n.refusedSource.Load() + n.refusedBudget.Load() + n.refusedClosed.Load(),
	}
	r.newQUIC, r.newTCP = r.started-r.startedTCP, r.startedTCP
	// The first of two datagrams is asked for a Retry, and so is the second.
	r.asked = max(r.newQUIC, r.retries/2)
	var counts []Count
	if c.judge.Load() != nil {
		var err error
		if counts, k.drops.lost, err = k.kernel.Counts(); err != nil {
			c.fall(now, err)
		} else {
			r.judged(counts)
			k.drops.counts = counts
		}
	}
	r.asked += r.startedTCP
	k.senses.look(r, c.cores)
	p := k.senses.pace
	k.demand = Signals{
		HandshakeCPU: max(p.cpu, k.senses.asked*p.cost.Seconds()/p.cores),
		Delay:        p.delay,
		HalfOpen:     float64(c.half.Load()) / float64(c.maxHalf),
		Connections:  float64(c.conns.Load()) / float64(c.maxConns),
		Memory:       k.senses.memory(),
	}
	c.memory.Store(math.Float64bits(k.demand.Memory))
	return counts
}

// lasts reports whether origins and functions have been at their end for a while.
func (k *control) lasts(spent bool, now time.Duration) bool {
	if !spent {
		k.spentSince = now
	}
	return now-k.spentSince >= spentFor
}

// enact makes a level and the budgets of the moment the policy of user space.
func (c *Controller) enact(level Level) {
	k := &c.control
	k.policy = k.budget.policy(level, c.enforce, k.senses.pace)
	k.policy.DropFragments = c.dropFragments
	c.force.Store(newForce(k.policy, k.senses.pace, c.now()))
}

// tend has the kernel obey the policy, or tries to have one again.
func (c *Controller) tend(now time.Duration, counts []Count) {
	k := &c.control
	switch {
	case k.kernel == nil:
	case c.judge.Load() == nil:
		if now >= k.retryAt {
			c.attach(now)
		}
	default:
		c.beat(now)
		c.watch(now, counts)
	}
}

// beat tells the kernel the policy, which is the heartbeat, and now and then asks
// whether it judges at all. Only then it is as good as new.
func (c *Controller) beat(now time.Duration) {
	k := &c.control
	err := k.kernel.Configure(k.policy)
	if err == nil && now-k.checked >= checkEvery {
		k.checked = now
		if err = k.kernel.Check(); err == nil {
			k.delay = firstRetry
		}
	}
	if err != nil {
		c.fall(now, err)
		return
	}
	k.beaten = now
}

// attach lets the kernel judge.
func (c *Controller) attach(now time.Duration) {
	k := &c.control
	err := k.kernel.Configure(k.policy)
	var mode Mode
	if err == nil {
		mode, err = k.kernel.Attach(false)
	}
	if err != nil {
		c.fall(now, err)
		return
	}
	k.mode, k.beaten, k.checked = mode, now, now
	k.refuse(k.kernel.Refused())
	k.say(k.log.Info, "packets are judged in the kernel", k.refused, "mode", mode)
	c.judge.Store(&k.kernel)
}

// fall goes on without the kernel, which passes everything soon, for it hears nothing
// any more.
func (c *Controller) fall(now time.Duration, why error) {
	k := &c.control
	c.judge.Store(nil)
	k.mode, k.trial = UserSpace, nil
	k.refuse(why)
	k.say(k.log.Warn, "packets are not judged in the kernel, connections are in user space", k.refused)
	k.delay = min(max(k.delay, firstRetry), lastRetry)
	k.retryAt = now + k.delay
	k.delay *= 2
}

// say logs what has changed since it was last said.
func (k *control) say(log func(string, ...any), message, reason string, more ...any) {
	if said := message + reason; said != k.said {
		k.said = said
		log(message, append(more, "reason", reason)...)
	}
}

// level is that in force.
func (k *control) level(now time.Time) Level {
	if now.Before(k.pinned.until) {
		return k.pinned.level
	}
	return k.stair.level
}

func (k *control) why(now time.Time) string {
	if now.Before(k.pinned.until) {
		return "set by the operator"
	}
	return k.stair.why
}

// Errors of SetLevel and of the native mode.
var (
	ErrNoKernel = errors.New("packets are not judged in the kernel")
	errLevel    = errors.New("there is no such level")
)

// SetLevel holds the level until a time. A time that has passed, or zero, leaves it to
// the signals again.
func (c *Controller) SetLevel(level Level, until time.Time) error {
	if level > Closed {
		return errLevel
	}
	c.control.mu.Lock()
	c.control.pinned = pin{level, until}
	c.control.mu.Unlock()
	c.pass()
	return nil
}
