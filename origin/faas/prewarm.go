package faas

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"spillway/edge/outcome"
)

// WarmUpField marks a request that is made for the sake of an instance alone, and
// that a function may answer with anything, the sooner the better. Visitors cannot
// send it.
const WarmUpField = "X-Spillway-Warm-Up"

// noWarmUp as the path of warm-ups means that none are made.
const noWarmUp = "off"

// WarmsUp reports whether calls are made that only start instances.
func (c Config) WarmsUp() bool { return c.WarmUp != "" && c.WarmUp != noWarmUp }

// warmUpHost is what a warm-up names as its host: no visitor asked for one.
const warmUpHost = "warm-up.invalid"

// warmUpClient is whose share of the budget pays for warm-ups, so that they cannot
// use up what is meant for visitors.
const warmUpClient = "warm-up"

// leadTime is how long before a planned event its instances are made ready. Not a
// knob: they stay ready for minutes and start within seconds.
const leadTime = 30 * time.Second

// PlanConfig says that instances are to be ready for an event that is known ahead.
type PlanConfig struct {
	// At is when, by RFC 3339; seconds may be left out. Empty means always.
	At string `koanf:"at" format:"time"`
	// Instances is how many.
	Instances int `koanf:"instances" min:"1" required:"true"`
	// For is how long they are kept ready.
	For time.Duration `koanf:"for" unit:"duration" default:"30m" min:"1s"`
}

// ParseTime reads a time as RFC 3339 writes it, or the same without seconds.
func ParseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as 2026-12-01T18:00Z", text)
}

// A plan is how many instances are to be ready from one time until another. A zero
// time is no bound.
type plan struct {
	from, until time.Time
	instances   int
}

// plans are those of the configuration, and last that of the operator.
type plans struct {
	fixed []plan

	mu       sync.Mutex
	operator plan
}

// newPlans leaves out what is no time, which the configuration does not let pass.
func newPlans(configs []PlanConfig) *plans {
	p := new(plans)
	for _, c := range configs {
		next := plan{instances: c.Instances}
		if c.At != "" {
			at, err := ParseTime(c.At)
			if err != nil {
				continue
			}
			next.from, next.until = at.Add(-leadTime), at.Add(c.For)
		}
		p.fixed = append(p.fixed, next)
	}
	return p
}

// wanted is how many instances the plans want to be ready at now.
func (p *plans) wanted(now time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := p.operator.at(now)
	for _, next := range p.fixed {
		most = max(most, next.at(now))
	}
	return most
}

func (p plan) at(now time.Time) int {
	if now.Before(p.from) || !p.until.IsZero() && !now.Before(p.until) {
		return 0
	}
	return p.instances
}

// KeepReady sees to it that so many instances are ready until then, in the stead of
// what it was told before. Zero instances end it. [Function.Prewarm] acts on it.
func (f *Function) KeepReady(instances int, until time.Time) {
	f.plans.mu.Lock()
	defer f.plans.mu.Unlock()
	f.plans.operator = plan{until: until, instances: instances}
}

// ReadyToWarm says why no warm-up may be made now, whatever slots there are, and
// changes nothing. It does not say that the function knows none.
func (f *Function) ReadyToWarm(now time.Time) outcome.Reason {
	if why := f.breaker.refuse(now); why != outcome.None {
		return why
	}
	if why := f.gate.warmUps.refuse(now); why != outcome.None {
		return why
	}
	if f.shared.full() {
		return outcome.SharedBusy
	}
	return f.budget.Check(now, warmUpClient, f.worst)
}

// Prewarm makes the platform start what is missing of so many instances, or of as
// many as are planned: by warm-ups that overlap, within the slots, the ramp and
// the budget. It does not wait for them.
func (f *Function) Prewarm(now time.Time, instances int) {
	for range f.gate.missing(now, max(instances, f.plans.wanted(now))) {
		if f.gate.warm == nil || f.ReadyToWarm(now) != outcome.None {
			break
		}
		s, why := f.gate.enterWarmUp()
		if why != outcome.None {
			break
		}
		c, why := f.charge(s, warmUpClient)
		if why != outcome.None {
			break
		}
		go c.warmUp()
	}
}

// warm makes the warm-up of a slot, if it can be paid for, and reports whether it was
// answered.
func (f *Function) warm(s slot) bool {
	c, why := f.charge(s, warmUpClient)
	return why == outcome.None && c.warmUp()
}

// warmUp makes the call, and reports whether it was answered. What it answers does not
// matter, if it is the function that does.
func (c *call) warmUp() bool {
	resp, err := c.make(context.Background(), warmUpRequest(c.f.config.WarmUp))
	if err != nil {
		return false // counted, and the breakers know
	}
	_, err = io.Copy(io.Discard, resp.Body) // how it ends was counted, too
	resp.Body.Close()
	return err == nil
}

func warmUpRequest(path string) *Request {
	return &Request{
		Method: http.MethodGet, Host: warmUpHost, Path: path,
		Header: http.Header{}, Proto: "https", ID: "warm-up", WarmUp: true,
	}
}

// CallTime is how long a call takes on an instance that is ready, as learned.
func (f *Function) CallTime() time.Duration {
	f.gate.mu.Lock()
	defer f.gate.mu.Unlock()
	return f.gate.fleet.call.value()
}

// MaxRate is how many calls a second the function can be given at most.
func (f *Function) MaxRate() float64 {
	return float64(f.config.MaxConcurrency) / f.CallTime().Seconds()
}

// StartTime is what the start of an instance adds to it, as learned.
func (f *Function) StartTime() time.Duration {
	f.gate.mu.Lock()
	defer f.gate.mu.Unlock()
	return f.gate.fleet.start.value()
}
