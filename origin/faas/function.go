package faas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"spillway/edge/outcome"
	"spillway/origin/faas/budget"
)

// A Function is a function that may be called, within its slots, its budget and
// its health. It is safe for concurrent use.
type Function struct {
	name     string
	config   Config
	provider Provider
	budget   *budget.Budget // nil: calls cost nothing that is counted
	price    Price
	worst    float64 // the cost of a call's worst case
	log      *slog.Logger

	breaker breaker
	gate    *gate
	shared  *Shared
	retries retries
	plans   *plans
	held    atomic.Int64 // bytes of answers received and not yet read

	mu    sync.Mutex
	stats State
}

// New returns a function that is called through p and paid from b.
func New(name string, c Config, p Provider, b *budget.Budget, log *slog.Logger) *Function {
	f := &Function{
		name: name, config: c, provider: p, budget: b,
		price: c.price(), gate: newGate(c), plans: newPlans(c.Prewarm),
		log:   log.With("function", name),
		stats: State{Name: name, MaxConcurrency: c.MaxConcurrency, Failures: map[Class]uint64{}},
	}
	f.worst = c.Worst()
	if c.WarmsUp() {
		f.gate.warm = f.warm
	}
	return f
}

// Name is the name of the function in the configuration.
func (f *Function) Name() string { return f.name }

// Ready says why the function may not be called now for that client, and changes
// nothing. The answer may be out of date when the call is made.
func (f *Function) Ready(client string) outcome.Reason {
	now := time.Now()
	if why := f.breaker.refuse(now); why != outcome.None {
		return why
	}
	if why := f.gate.refuse(now); why != outcome.None {
		return why
	}
	if f.shared.full() {
		return outcome.SharedBusy
	}
	return f.budget.Check(now, client, f.worst)
}

// Invoke calls the function and returns its answer, cleaned and held to its
// limits, or an *[Error]. A slot and the worst-case charge are taken before the
// call; they are given back and corrected when the answer has been received or
// its Body was closed, which the caller must do.
//
// A platform does not stop because a visitor leaves. So a call that costs something
// goes on without one, to learn what it costs; one that is free is aborted.
func (f *Function) Invoke(ctx context.Context, r *Request, client string) (*http.Response, error) {
	c, why := f.begin(ctx, client)
	if why != outcome.None {
		e := &Error{Class: Refused, Refusal: why}
		f.count(e, bill{})
		return nil, e
	}
	return c.make(ctx, r)
}

// make makes the call, for a visitor who may leave.
func (c *call) make(visitor context.Context, r *Request) (*http.Response, error) {
	c.visitor, c.tally, c.avoidable = visitor, r.Tally, r.Avoidable
	f, ctx := c.f, visitor
	if !f.price.free() {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, stop := context.WithTimeoutCause(ctx, f.config.Timeout, errDeadline)
	ctx, c.cancel = context.WithCancelCause(ctx)
	c.ctx, c.stop = ctx, stop
	asked := *r
	asked.MaxAnswer = f.config.MaxResponse
	if f.price.free() {
		return c.ask(&asked)
	}
	answered := make(chan reply)
	go func() {
		resp, err := c.ask(&asked)
		select {
		case answered <- reply{resp, err}:
		case <-c.visitor.Done():
			if err == nil {
				resp.Body.Close()
			}
		}
	}()
	select {
	case a := <-answered:
		return a.resp, a.err
	case <-c.visitor.Done():
		return nil, &Error{Class: Canceled, Executed: true, Err: context.Cause(c.visitor)}
	}
}

type reply struct {
	resp *http.Response
	err  error
}

// ask makes the call. The answer may still be coming in when it returns.
func (c *call) ask(r *Request) (*http.Response, error) {
	resp, err := c.invoke(r)
	if err == nil {
		if err = c.accept(resp); err != nil {
			resp.Body.Close()
		}
	}
	if err != nil {
		return nil, c.end(c.explain(err))
	}
	if _, ok := resp.Body.(whole); ok {
		c.end(io.EOF)
		return resp, nil
	}
	b := newBody(c, resp.Body)
	resp.Body = b
	go b.receive()
	return resp, nil
}

// begin takes what a call needs, after a short wait if that gets it an instance
// sooner, or says what is missing and takes nothing.
func (f *Function) begin(ctx context.Context, client string) (*call, outcome.Reason) {
	if why := f.breaker.refuse(time.Now()); why != outcome.None {
		return nil, why
	}
	slot, why := f.gate.enter(ctx)
	if why != outcome.None {
		return nil, why
	}
	if ctx.Err() != nil {
		f.gate.leave(slot, unused)
		return nil, outcome.ClientGone
	}
	return f.charge(slot, client)
}

// charge takes what else a call needs that has a slot, its place at what is shared
// and its money, or gives the slot back.
func (f *Function) charge(s slot, client string) (*call, outcome.Reason) {
	return f.chargeWithin(s, client, 1)
}

// chargeWithin is charge for a client that is to stay within a share of the budget.
func (f *Function) chargeWithin(s slot, client string, share float64) (*call, outcome.Reason) {
	if !f.shared.enter() {
		f.gate.leave(s, unused)
		return nil, outcome.SharedBusy
	}
	now := time.Now()
	charge, why := f.budget.ReserveWithin(now, client, f.worst, share)
	if why != outcome.None {
		f.leave(s, unused)
		return nil, why
	}
	c := &call{f: f, start: now, slot: s, charge: charge, declared: -1}
	if why := c.pass(now); why != outcome.None {
		charge.Settle(now, 0)
		f.leave(s, unused)
		return nil, why
	}
	return c, outcome.None
}

// leave gives back what a call held.
func (f *Function) leave(s slot, u use) {
	f.shared.leave()
	f.gate.leave(s, u)
}

// window is how much of one answer may be received ahead of its visitor.
func (f *Function) window() int {
	if f.held.Load() >= readAheadTotal {
		return readAheadLeast
	}
	return readAhead
}

// accept checks and cleans the head of an answer.
func (c *call) accept(resp *http.Response) error {
	if resp.Body == http.NoBody {
		resp.Body = whole{Reader: new(bytes.Reader)}
	}
	c.declared, c.header, c.headed = resp.ContentLength, headerSize(resp.Header), true
	if w, ok := resp.Body.(whole); ok {
		c.declared = int64(w.Len()) // the length of a HEAD answer is not its own
		c.bytes = c.declared        // paid for, whatever is wrong with it
		if w.received > 0 {
			c.header, c.bytes = 0, w.received // which has the fields in it
		}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		return &Error{Class: FunctionError, Executed: true, Answered: true, Err: fmt.Errorf("status %d", resp.StatusCode)}
	}
	if resp.StatusCode >= 500 {
		return &Error{Class: FunctionError, Executed: true, Answered: true, Err: fmt.Errorf("function answered %d", resp.StatusCode)}
	}
	if err := clean(resp.Header); err != nil {
		return &Error{Class: FunctionError, Executed: true, Answered: true, Err: err}
	}
	if c.declared > c.f.config.MaxResponse {
		// Much of it has left the platform by the time that it is told to stop.
		c.bytes = max(c.bytes, c.f.config.MaxResponse)
		return &Error{Class: TooLarge, Executed: true, Answered: true, Err: fmt.Errorf("answer of %d bytes", c.declared)}
	}
	// RFC 9110 section 8.6: no length on a 204. What the transport found is true.
	if resp.ContentLength >= 0 && resp.StatusCode != http.StatusNoContent {
		resp.Header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	resp.Trailer = nil
	return nil
}

var errDeadline = errors.New("no complete answer within the timeout")

// A State is a snapshot for metrics and the status view. Counters only grow.
type State struct {
	Name           string           `json:"name"`
	InFlight       int              `json:"in_flight"`
	MaxConcurrency int              `json:"max_concurrency"`
	Ready          int              `json:"ready"`                // instances believed to be ready, with a call or without
	Starting       int              `json:"starting"`             // calls that wait for the start of an instance
	Waiting        int              `json:"waiting"`              // for an instance that is ready
	MayStart       int              `json:"may_start"`            // instances, now; -1 is no bound
	CallSeconds    float64          `json:"call_seconds"`         // of a call on a ready instance, as learned
	StartSeconds   float64          `json:"start_seconds"`        // that a start adds, as learned
	ColdStarts     uint64           `json:"cold_starts"`          // calls that made the platform start an instance, warm-ups included
	Waited         uint64           `json:"waited"`               // calls that stood at the gate
	WarmUps        uint64           `json:"warm_ups"`             // calls for the sake of an instance
	Breaker        string           `json:"breaker"`              // closed, open, half-open
	RetryAt        time.Time        `json:"retry_at,omitzero"`    // when an open or throttled function may be called again
	Calls          uint64           `json:"calls"`                // made, refused ones excluded
	OK             uint64           `json:"ok"`                   // answers received to their end
	Failures       map[Class]uint64 `json:"failures,omitempty"`   // by class, refused ones included
	CostUSD        float64          `json:"cost_usd"`             // of all calls that have ended, budgeted or not
	OverrunUSD     float64          `json:"overrun_usd,omitzero"` // the part of it that was beyond the worst case, which no budget bore
	HeldUSD        float64          `json:"held_usd,omitzero"`    // the part of it that was for instances kept ready
	PricedAs       string           `json:"priced_as"`
	BytesOut       uint64           `json:"bytes_out"`
	BusySeconds    float64          `json:"busy_seconds"` // as billed
}

// State returns a snapshot.
func (f *Function) State() State {
	f.mu.Lock()
	s := f.stats
	s.Failures = maps.Clone(f.stats.Failures)
	f.mu.Unlock()
	f.gate.fill(&s)
	s.Breaker, s.RetryAt = f.breaker.state(time.Now())
	s.PricedAs = f.price.Label
	return s
}

// A bill is what one call did cost, and why.
type bill struct {
	cost, overrun float64 // in US dollars; overrun is the part beyond the charge
	billed        time.Duration
	out           int64
}

// count adds a call that has ended to the totals; a nil error is a success.
func (f *Function) count(e *Error, b bill) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e == nil {
		f.stats.OK++
		f.retries.earn()
	} else {
		f.stats.Failures[e.Class]++
	}
	if e == nil || e.Class != Refused {
		f.stats.Calls++
	}
	f.stats.CostUSD += b.cost
	f.stats.OverrunUSD += b.overrun
	f.stats.BusySeconds += b.billed.Seconds()
	f.stats.BytesOut += uint64(b.out)
}
