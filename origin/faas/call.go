package faas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"spillway/edge/outcome"
	"spillway/origin/faas/budget"
)

// A call is one invocation, from its slot and charge to its last byte.
type call struct {
	f       *Function
	visitor context.Context // of the one who asked
	ctx     context.Context // of the call, which may outlast the visitor
	cancel  context.CancelCauseFunc
	stop    context.CancelFunc
	start   time.Time
	slot    slot
	charge  *budget.Charge
	probe   bool // of the breaker that it passed, which is another for warm-ups

	tally     *Tally
	avoidable bool

	headed   bool  // the answer's head has come
	header   int64 // bytes of it
	bytes    int64 // bytes of its body so far
	declared int64 // bytes that the body should have; negative if unknown
}

// invoke asks the provider. A panic there must take with it neither the slot and the
// charge nor, where the call has a goroutine of its own, the node.
func (c *call) invoke(r *Request) (resp *http.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.f.log.Error("provider panicked", "panic", p, "stack", string(debug.Stack()))
			resp, err = nil, &Error{Class: Ambiguous, Executed: true, Err: errors.New("the provider panicked")}
		}
	}()
	return c.f.provider.Invoke(c.ctx, r)
}

// pass takes the call by the breakers, or says why it may not be made. A warm-up is no
// probe of whether visitors are answered.
func (c *call) pass(now time.Time) (why outcome.Reason) {
	if !c.slot.warmUp {
		c.probe, why = c.f.breaker.enter(now)
	} else if why = c.f.breaker.refuse(now); why == outcome.None {
		c.probe, why = c.f.gate.warmUps.enter(now)
	}
	return why
}

// received counts a part of the answer and returns what ends it: io.EOF, an
// *[Error], or nil.
func (c *call) received(n int, err error) error {
	c.bytes += int64(n)
	switch {
	case c.bytes > c.f.config.MaxResponse:
		return &Error{Class: TooLarge, Executed: true, Err: fmt.Errorf("answer of more than %d bytes", c.f.config.MaxResponse)}
	case c.bytes == c.declared:
		return io.EOF // whatever follows: a visitor that has all may close at once
	case err == nil, err == io.EOF:
		return err
	}
	return c.explain(fmt.Errorf("receive answer: %w", err))
}

// explain makes an *[Error] of a failure, from the cause that ended the call if
// one did.
func (c *call) explain(err error) *Error {
	if c.ctx.Err() == nil {
		return AsError(err)
	}
	e := c.aborted()
	if known := (*Error)(nil); errors.As(err, &known) {
		e.Executed, e.Answered = known.Executed, known.Answered
	}
	return e
}

// aborted is the failure of a call that was ended from this side.
func (c *call) aborted() *Error {
	switch cause := context.Cause(c.ctx); {
	case errors.Is(cause, errDeadline), errors.Is(cause, context.DeadlineExceeded):
		return &Error{Class: Timeout, Executed: true, Err: errDeadline}
	default:
		return &Error{Class: Canceled, Executed: true, Err: cause}
	}
}

// end settles the call. It is called once, with io.EOF when the whole answer was
// received and an *[Error] otherwise, which it returns.
func (c *call) end(err error) error {
	now := time.Now()
	c.cancel(nil)
	c.stop()
	var e *Error
	errors.As(err, &e)
	cost, billed, out := c.cost(now, e)
	// A platform that goes beyond its limits must not take the budget with it.
	settled := min(cost, c.f.worst)
	c.charge.Settle(now, settled)
	c.tally.add(settled, c.avoidable)
	c.f.leave(c.slot, useOf(e))
	c.f.count(e, bill{cost: cost, overrun: cost - settled, billed: billed, out: out})
	c.report(now, e)
	return err
}

// cost is what the call did cost, as far as can be told from here.
func (c *call) cost(now time.Time, e *Error) (usd float64, billed time.Duration, out int64) {
	f := c.f
	if e != nil && !e.Executed {
		return 0, 0, 0
	}
	d, out := now.Sub(c.start), c.header+c.bytes
	if e != nil {
		out = max(out, e.Received)
	}
	// A function does not stop because nobody listens any more: it runs to its
	// end, which may be at its timeout, and sends what it has.
	if e != nil && !e.Answered {
		d = max(d, f.config.Timeout)
		switch {
		case c.headed && c.declared >= 0:
			out = max(out, c.header+c.declared)
		case c.headed:
			out = max(out, c.header+f.config.MaxResponse)
		}
	}
	return f.price.Cost(d, f.config.Memory, out), f.price.billed(d), out
}

// report tells the breaker, and the log when the function's health changed.
func (c *call) report(now time.Time, e *Error) {
	r, retryAfter := succeeded, time.Duration(0)
	if e != nil {
		r, retryAfter = verdict(e), e.RetryAfter
	}
	probe := c.probe
	if c.slot.warmUp {
		c.reportWarmUp(now, r, e)
		if probe = false; e == nil || e.Executed {
			return // it may only not know what a warm-up is, or know nothing else
		}
	}
	switch opened, closed := c.f.breaker.leave(now, probe, r, retryAfter); {
	case opened:
		c.f.log.Warn("function is failing, calls are paused", "error", e)
	case closed:
		c.f.log.Info("function works again")
	}
}

// reportWarmUp tells the breaker of warm-ups, and the log.
func (c *call) reportWarmUp(now time.Time, r result, e *Error) {
	switch opened, closed := c.f.gate.warmUps.leave(now, c.probe, r, 0); {
	case opened:
		c.f.log.Warn("warm-ups fail and are paused; see warm_up of the function", "error", e)
	case closed:
		c.f.log.Info("warm-ups work again")
	}
}

// useOf is what a call's end says about the instance that had it.
func useOf(e *Error) use {
	switch {
	case e == nil, e.Class == TooLarge && e.Executed:
		return answered
	case e.Class == Throttled && !e.AccountWide:
		return refused
	case e.Class == Canceled, !e.Executed: // nor does a throttle of the whole account say anything of it
		return left
	}
	return lost
}

// verdict is what a failure says about the platform's health. Only a platform
// that is known to speak for itself may pause the calls of all visitors: a 429 or
// 503 that may be the function's own answer to one of them is one failure.
func verdict(e *Error) result {
	switch {
	case e.Class == Throttled:
		return throttled
	case e.Class == TooLarge, e.Class == Canceled:
		return saidNothing
	}
	return broke
}
