// Package crowd plays a flash crowd: visitors who arrive whether or not the server
// keeps up, ask for a page's worth of things, and leave when they lose patience.
//
// The load is open loop. Arrivals are a Poisson process drawn beforehand from a
// seed, and every latency is measured from the intended time of the arrival. A
// closed loop, which waits for an answer before it asks again, slows down with the
// server and so hides the very thing that is to be seen.
//
// Every scheduled request is accounted for in exactly one place: by the node's own
// word for it (the header field Spillway) when the answer was complete, else by a
// class that the client names, including those that this machine was too busy to
// send. Failure of the target is a result, not an error; Run fails only when no
// crowd can be played at all, as when the host does not resolve.
//
// It does not follow redirects, keep cookies, retry, run scripts or fall back to
// another protocol. It opens as many connections as it has visitors: point it only
// at servers that are yours.
package crowd

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Crowd can be run once.
type Crowd struct {
	config  Config
	targets targets
	holdURL template
	record  *recorder

	dialer   *dialer
	started  time.Time
	running  atomic.Bool // started is set
	inFlight atomic.Int64
}

// New checks the configuration. Nothing is sent before Run.
func New(c Config) (*Crowd, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	t, err := newTargets(c)
	if err != nil {
		return nil, err
	}
	crowd := &Crowd{config: c, targets: t, record: newRecorder(len(c.Phases), c.Timeout)}
	if c.Hold > 0 {
		held := c
		held.URLs = []string{c.HoldURL}
		h, err := newTargets(held)
		if err != nil {
			return nil, err
		}
		if h.authority != t.authority || h.scheme != t.scheme {
			return nil, fmt.Errorf("hold url %q: must be on %s://%s like the others", c.HoldURL, t.scheme, t.authority)
		}
		crowd.holdURL = h.urls[0]
	}
	return crowd, nil
}

// Run plays the crowd and waits until the last visitor has left. When ctx ends
// first it returns what was counted until then, and why ctx ended.
func (c *Crowd) Run(ctx context.Context) (Result, error) {
	address := c.config.Connect
	if address == "" {
		address = c.targets.authority
	}
	target, err := resolve(ctx, address, c.config.Addresses)
	if err != nil {
		return Result{}, fmt.Errorf("find target: %w", err)
	}
	c.dialer = newDialer(c.config, c.targets, target)
	defer c.dialer.closeAll()
	res := c.result()
	if c.config.Hold > 0 {
		holders := c.hold(ctx)
		c.play(ctx, &res)
		res.Held = holders.finish()
	} else {
		c.play(ctx, &res)
	}
	return res, context.Cause(ctx)
}

// result returns a Result with what is known beforehand.
func (c *Crowd) result() Result {
	return Result{
		Protocol:           c.config.Protocol,
		RequestsPerVisitor: len(c.targets.urls),
		Parameters:         parameters(c.config),
		Environment:        environment(),
	}
}

// play sends the visitors and fills in what became of them.
func (c *Crowd) play(ctx context.Context, res *Result) {
	cpu := cpuTime()
	c.started = time.Now()
	c.running.Store(true)
	c.pace(ctx)
	res.Seconds = time.Since(c.started).Seconds()
	res.CPUSeconds = (cpuTime() - cpu).Seconds()
	c.record.result(res, c.config.Phases)
	if res.Visitors > 0 {
		res.CPUMicrosPerVisitor = res.CPUSeconds * 1e6 / float64(res.Visitors)
	}
}

// pace starts every visitor at its time, or as soon after as it can, and waits for
// all of them.
func (c *Crowd) pace(ctx context.Context) {
	var present sync.WaitGroup
	defer present.Wait()
	schedule := newArrivals(c.config.Phases, c.config.Seed)
	for n := uint64(0); ; n++ {
		intended, phase, ok := schedule.next()
		if !ok {
			return
		}
		if err := sleepUntil(ctx, c.started.Add(intended)); err != nil {
			return
		}
		c.record.schedule(time.Since(c.started), intended, phase, len(c.targets.urls))
		if c.inFlight.Add(1) > int64(c.config.MaxInFlight) {
			c.inFlight.Add(-1)
			c.turnAway(n, intended, phase)
			continue
		}
		present.Go(func() {
			defer c.inFlight.Add(-1)
			c.visit(ctx, n, intended, phase)
		})
	}
}

// turnAway records a visitor that was not sent.
func (c *Crowd) turnAway(n uint64, intended time.Duration, phase int) {
	v := &visit{visitor: c.config.visitor(n), phase: phase, intended: intended}
	for range c.targets.urls {
		c.ended(v, sample{class: ClassCapped})
	}
}

// sleepUntil returns at once when it is late: the schedule does not wait.
func sleepUntil(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, d)
}

// Snapshot tells how the crowd is doing. It may be called at any time.
func (c *Crowd) Snapshot() Snapshot {
	s := Snapshot{Length: Length(c.config.Phases), InFlight: int(c.inFlight.Load())}
	if !c.running.Load() {
		return s
	}
	s.Elapsed = time.Since(c.started)
	if i, rate := phaseAt(c.config.Phases, s.Elapsed); s.Elapsed < s.Length {
		s.Phase, s.Rate = c.config.Phases[i].Name, rate
	}
	c.record.snapshot(&s, s.Elapsed)
	return s
}
