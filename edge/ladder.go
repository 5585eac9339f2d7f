package edge

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/edge/waiting"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/limit"
)

// A ladder finds the place where one request runs, and runs it there: steps 5
// and 6 of the path. It may outlive the exchange that began it, since a fetch
// goes on for those who joined it; so it shares nothing with it that changes.
type ladder struct {
	route   *route
	visitor visitor
	proto   string
	id      string
	body    requestBody
	given   overflow.Facts // what is known before the first step
	upgrade bool           // the origin is asked to open a WebSocket
	interim informational
	guest   waiting.Guest
	// priority is 0 to 7; the lottery ranks the visitors of one priority.
	priority      int
	priorityField string // in which trusted proxies say so; empty is none
	lottery       *lottery

	facts  overflow.Facts
	permit limit.Permit
	called []bool // which functions were called already
	// fallback is the origin's own refusal. It is the answer when nobody has a
	// better one.
	fallback    *http.Response
	hedges      *atomic.Uint64 // functions that were asked because the origin was late
	hedged      *http.Response // what one of them has answered, and which
	hedgedBy    int
	leaveOrigin context.CancelFunc
	// unwanted: the visitor has been answered meanwhile.
	unwanted atomic.Bool
	// unread says why the rest of the request's body could not be read.
	unread outcome.Reason

	// What came of it; to be read once climb has returned.
	outcome outcome.Outcome
	reason  outcome.Reason
	backend string
	course  course
}

// An ending is a ladder's last rung: no response came, and why.
type ending struct {
	outcome outcome.Outcome
	reason  outcome.Reason
}

func (e *ending) Error() string { return string(e.outcome) + ": " + string(e.reason) }

// climb returns the response of the first place that gives one. Its error is an
// *ending.
func (l *ladder) climb(ctx context.Context, r *http.Request) (*http.Response, error) {
	l.facts, l.called, l.fallback, l.hedged = l.given, nil, nil, nil
	l.facts.Method, l.facts.BodyKept = r.Method, l.body.whole()
	l.route.arrivals.note(r.Method, &l.guest)
	l.course.limit, l.course.inFlight = l.route.origin.Limiter().Gate()
	key := "" // of the visitor; made only when a function may be called
	l.facts.NoOrigin = l.route.down()
	// Who has waited asks by the order of arrival.
	if l.facts.NoOrigin == outcome.None && !l.facts.Called && !l.leavesEarly(r, &key) && !l.yields() {
		l.permit, l.facts.Permit = l.route.origin.Limiter().Acquire(l.route.classOf(r.Method), l.share())
	}
	for {
		l.facts.Background = l.facts.Background || l.unwanted.Load()
		if !l.facts.Permit && !l.facts.Background && len(l.route.functions) > 0 {
			if key == "" {
				key = l.visitor.key(r.Header)
			}
			l.refreshCandidates(key)
		}
		d := overflow.Decide(&l.facts)
		began := l.route.note(&l.course, d)
		var resp *http.Response
		switch d.Place {
		case overflow.Origin:
			resp = l.askOrigin(ctx, r)
		case overflow.Queue:
			l.wait(ctx, r, d.Patient)
		case overflow.Function:
			resp = l.invoke(ctx, r, d, key)
		case overflow.Stale:
			return nil, l.end(outcome.Stale, d.Reason)
		case overflow.Waiting:
			return nil, l.end(outcome.Waiting, d.Reason)
		case overflow.Fail:
			return l.fall(outcome.Failed, d.Reason)
		case overflow.Shed:
			return l.fall(outcome.Shed, d.Reason)
		}
		l.course.trail.Leave(time.Since(began))
		if resp != nil {
			l.drop()
			return resp, nil
		}
		switch {
		case l.facts.Permit:
		case l.unread != outcome.None && l.unread != outcome.ClientGone:
			return nil, l.end(outcome.Refused, l.unread)
		case l.unread != outcome.None || ctx.Err() != nil:
			return nil, l.end(outcome.Canceled, outcome.ClientGone)
		}
	}
}

// fall ends the ladder at its foot: with the origin's own refusal if there was
// one, else without a response.
func (l *ladder) fall(o outcome.Outcome, why outcome.Reason) (*http.Response, error) {
	if l.fallback == nil {
		return nil, l.end(o, why)
	}
	l.outcome, l.reason, l.backend = outcome.Origin, outcome.OriginThrottled, l.route.originName
	return l.fallback, nil
}

func (l *ladder) end(o outcome.Outcome, why outcome.Reason) error {
	l.drop()
	return &ending{o, why}
}

func (l *ladder) drop() {
	if l.fallback != nil {
		l.fallback.Body.Close()
		l.fallback = nil
	}
}

// refreshCandidates asks every function that was not tried yet whether it can
// be called.
func (l *ladder) refreshCandidates(key string) {
	if l.facts.Functions == nil {
		l.facts.Functions = make([]overflow.Candidate, len(l.route.functions))
		l.called = make([]bool, len(l.route.functions))
	}
	for i := range l.route.functions {
		if !l.called[i] {
			l.facts.Functions[i] = l.route.candidate(i, key)
		}
	}
}

// askOrigin uses the permit in hand.
func (l *ladder) askOrigin(ctx context.Context, r *http.Request) *http.Response {
	l.facts.Permit = false
	l.route.arrivals.noteTaken(r.Method)
	ctx = origin.WithInformational(ctx, l.interim.relay)
	req := origin.Outgoing(ctx, r, l.client(r), l.body.reader())
	req.Header.Set("X-Request-Id", l.id)
	if l.upgrade {
		req.Header["Connection"], req.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	resp, err := l.do(ctx, r, req)
	if l.hedged != nil {
		return l.hedgedAnswer()
	}
	l.outcome, l.reason, l.backend = outcome.Origin, outcome.None, l.route.originName
	if l.facts.Waited == outcome.OriginSaturated {
		l.outcome = outcome.Queued
	}
	if err == nil {
		return l.taken(ctx, r, resp)
	}
	sent := true
	l.facts.NoOrigin = outcome.OriginFailed
	if failure := (*origin.Error)(nil); errors.As(err, &failure) {
		l.facts.NoOrigin, sent = failure.Reason, failure.Sent
		if failure.Reason == outcome.ClientGone {
			l.unread = bodyFailure(r, err)
		}
	}
	l.facts.Reached = l.facts.Reached || sent // a function may have been reached
	return nil
}

// taken returns an answer of the origin, unless there may be a better one: then it is
// kept for when there is none.
func (l *ladder) taken(ctx context.Context, r *http.Request, resp *http.Response) *http.Response {
	switch {
	case refusal(resp.StatusCode):
		l.facts.NoOrigin = outcome.OriginThrottled
	case resp.StatusCode == http.StatusInternalServerError && l.facts.StaleIfError: // RFC 5861 section 4
		l.facts.NoOrigin, l.facts.Errored = outcome.OriginFailed, true
	default:
		return l.exercise(ctx, r, resp)
	}
	l.fallback, l.facts.Reached = resp, true
	return nil
}

// refusal reports whether a status says that the origin, or what stands before
// it, could not take the request. 429 does not: it is about the client.
func refusal(status int) bool {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// wait stands in the origin's queue. Afterwards either the permit or the reason
// why there is none is among the facts.
func (l *ladder) wait(ctx context.Context, r *http.Request, patient bool) {
	if l.facts.Called {
		l.waitAtDoor(ctx, r, patient)
		return
	}
	l.noteWait(l.route.origin.Limiter().Wait(ctx, l.bid(r, patient)))
}

// noteWait puts what came of a wait among the facts.
func (l *ladder) noteWait(permit limit.Permit, result limit.WaitResult) {
	l.permit, l.facts.Permit = permit, permit.Valid()
	switch {
	case l.facts.Permit:
		l.facts.Waited = outcome.OriginSaturated
	case result == limit.QueueFull, result == limit.PushedOut:
		l.facts.Waited = outcome.QueueFull
	default:
		l.facts.Waited = outcome.QueueTimeout
	}
}

// invoke calls a function.
func (l *ladder) invoke(ctx context.Context, r *http.Request, d overflow.Decision, key string) *http.Response {
	f := l.route.functions[d.Function]
	l.route.hedge.note(true)
	call := l.call(ctx, r)
	l.route.pays(call, l.facts.NoOrigin)
	resp, err := f.Invoke(ctx, call, key)
	l.outcome, l.reason, l.backend = outcome.Function, d.Reason, f.Name()
	if err == nil {
		return resp
	}
	l.called[d.Function] = true
	l.noteFailure(d.Function, err)
	return nil
}

// noteFailure puts among the facts why a function gave no answer.
func (l *ladder) noteFailure(function int, err error) {
	c := &l.facts.Functions[function]
	c.Reason = outcome.FunctionUnavailable
	if failure := (*faas.Error)(nil); errors.As(err, &failure) {
		c.Reason = failure.Reason()
		l.facts.Reached = l.facts.Reached || failure.Executed
		l.facts.Broken = failure.Class == faas.FunctionError
		l.facts.NoRetry = failure.Executed && !l.route.functions[function].MayRetry()
	}
}

// call is the request as a function gets it.
func (l *ladder) call(ctx context.Context, r *http.Request) *faas.Request {
	out := origin.Outgoing(ctx, r, l.client(r), http.NoBody)
	path, query := origin.Target(r)
	return &faas.Request{
		Method: r.Method, Host: r.Host, Path: path, Query: query,
		Header: out.Header, Body: l.body.kept, Client: l.visitor.addr, Proto: l.proto, ID: l.id,
	}
}

// share is the part of the origin's limit that the request may fill.
func (l *ladder) share() float64 {
	if l.given.Background {
		return l.route.mayFill(&l.guest) * backgroundShare
	}
	return l.route.mayFill(&l.guest)
}

func (l *ladder) client(r *http.Request) origin.Client {
	return origin.Client{
		Addr: l.visitor.peer, Visitor: l.visitor.addr, Trusted: l.visitor.trusted,
		Proto: l.proto, Host: r.Host, Priority: l.priorityField,
	}
}
