package faas

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"spillway/edge/outcome"
)

// exerciseClient is whose share of the budget pays for calls that only prove that
// the function answers, and exerciseShare how large that is at most. Not a knob: a
// proof costs so little that more would be a mistake.
const (
	exerciseClient = "exercise"
	exerciseShare  = 0.01
)

// ErrNoWarmUp is why a function is not tried that knows no warm-ups.
var ErrNoWarmUp = errors.New("warm_up is off")

// Spare says why the function may not be called now for a proof, and changes
// nothing. Whatever a visitor might want soon is not spare.
func (f *Function) Spare() outcome.Reason {
	now := time.Now()
	if why := f.breaker.refuse(now); why != outcome.None {
		return why
	}
	if why := f.gate.refuseSpare(now); why != outcome.None {
		return why
	}
	if f.shared.full() {
		return outcome.SharedBusy
	}
	return f.budget.CheckWithin(now, exerciseClient, f.worst, exerciseShare)
}

// Exercise is [Function.Invoke] for a proof that the function answers: nobody waits
// for it. It stands at no gate, takes no more than half of the slots, and is paid
// out of a small share of the budget that is its own.
func (f *Function) Exercise(ctx context.Context, r *Request) (*http.Response, error) {
	why := f.breaker.refuse(time.Now())
	var s slot
	if why == outcome.None {
		s, why = f.gate.enterSpare()
	}
	var c *call
	if why == outcome.None {
		c, why = f.chargeWithin(s, exerciseClient, exerciseShare)
	}
	if why != outcome.None {
		return nil, &Error{Class: Refused, Refusal: why}
	}
	return c.make(ctx, r)
}

// Try makes one warm-up, paid as all are, and waits for its answer: it says whether
// the function can be reached, takes the node's credentials, and runs. The error is
// [ErrNoWarmUp] or an *[Error].
func (f *Function) Try(ctx context.Context) error {
	if f.gate.warm == nil {
		return ErrNoWarmUp
	}
	s, why := f.gate.enterWarmUp()
	var c *call
	if why == outcome.None {
		c, why = f.charge(s, warmUpClient)
	}
	if why != outcome.None {
		return &Error{Class: Refused, Refusal: why}
	}
	resp, err := c.make(ctx, warmUpRequest(f.config.WarmUp))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
