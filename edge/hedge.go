package edge

import (
	"context"
	"math"
	"net/http"
	"sync"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/overflow"
)

// How a hedge learns, and when it holds back. Not knobs.
const (
	hedgeQuantile = 0.95
	hedgeKnown    = 100  // requests before its latency is believed
	hedgeStep     = 0.05 // of the logarithm of the latency
	hedgeSaved    = 10   // calls that may be saved up
	// While more than half of the requests spill, the functions have enough to do;
	// the share is that of about the last hundred.
	hedgeBusy   = 0.5
	hedgeMemory = 0.01
)

// A hedge has a function answer, too, what the origin is late with: the slowest
// few of a hundred requests, and never more than its share of them (Dean and
// Barroso, The Tail at Scale, 2013). A nil hedge does so with none. It is safe for
// concurrent use.
type hedge struct {
	share float64

	mu       sync.Mutex
	n        int
	ln       float64 // of the latency in ns that all but a twentieth stay below
	saved    float64 // calls that may be made
	spilling float64 // share of the requests that go to functions
}

func newHedge(share float64) *hedge {
	if share == 0 {
		return nil
	}
	return &hedge{share: share}
}

// note counts a request that went to the origin or to a function.
func (h *hedge) note(spilled bool) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = min(hedgeSaved, h.saved+h.share)
	h.spilling *= 1 - hedgeMemory
	if spilled {
		h.spilling += hedgeMemory
	}
}

// learn takes the time until the origin answered, or was no longer waited for. The
// estimate rises and falls by steps that balance at the quantile (Robbins and
// Monro, 1951), in the logarithm, so that they fit any origin.
func (h *hedge) learn(took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ln := math.Log(float64(max(took, 1)))
	h.n++
	switch step := max(hedgeStep, 1/float64(h.n)); {
	case h.n == 1:
		h.ln = ln
	case ln > h.ln:
		h.ln += step * hedgeQuantile
	default:
		h.ln -= step * (1 - hedgeQuantile)
	}
}

// after says how long to wait for the origin, if a function may be asked then.
func (h *hedge) after() (time.Duration, bool) {
	if h == nil {
		return 0, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Duration(math.Exp(h.ln)), h.n >= hedgeKnown && h.saved >= 1 && h.spilling <= hedgeBusy
}

// spend takes a call, if there is one left.
func (h *hedge) spend() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saved < 1 {
		return false
	}
	h.saved--
	return true
}

// answered is what the origin or a function gave.
type answered struct {
	resp *http.Response
	err  error
}

// do sends a request to the origin, and if that is late a copy to a function. The
// one that answers second is told to stop. A nil response and error mean that the
// function answered: it is in l.hedged.
func (l *ladder) do(ctx context.Context, r, req *http.Request) (*http.Response, error) {
	h := l.route.hedge
	h.note(false)
	patience, may := h.after()
	if !may || l.upgrade {
		return l.timed(h, req)
	}
	asking, leave := context.WithCancel(ctx)
	l.leaveOrigin = leave // it is not called when the origin wins: the answer is being read
	first, began := make(chan answered, 1), time.Now()
	go func() {
		resp, err := l.timed(h, req.WithContext(asking))
		first <- answered{resp, err}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a := <-first:
		return a.resp, a.err
	case <-timer.C:
	}
	second, leaveFunction := l.startHedge(ctx, r)
	if second == nil {
		a := <-first
		return a.resp, a.err
	}
	resp, err := l.race(first, second, leaveFunction)
	if l.hedged != nil {
		h.learn(time.Since(began))
	}
	return resp, err
}

// timed sends a request to the origin, and learns how long that takes.
func (l *ladder) timed(h *hedge, req *http.Request) (*http.Response, error) {
	if h == nil {
		return l.route.origin.Do(req, l.permit)
	}
	began := time.Now()
	resp, err := l.route.origin.Do(req, l.permit)
	if err == nil {
		h.learn(time.Since(began))
	}
	return resp, err
}

// startHedge calls a function for a request that the origin has not answered, or
// returns nil if none may be. Whatever comes of it, it is not called again.
func (l *ladder) startHedge(ctx context.Context, r *http.Request) (<-chan answered, context.CancelFunc) {
	key := l.visitor.key(r.Header)
	l.facts.Background = l.facts.Background || l.unwanted.Load()
	l.refreshCandidates(key)
	number, ok := overflow.Hedge(&l.facts)
	if !ok || !l.route.hedge.spend() {
		return nil, nil
	}
	l.hedges.Add(1)
	l.called[number] = true
	l.facts.Functions[number].Reason = outcome.FunctionUnavailable
	f := l.route.functions[number]
	ctx, leave := context.WithCancel(ctx)
	call := l.call(ctx, r)
	l.route.pays(call, outcome.Hedged)
	second := make(chan answered, 1)
	go func() {
		resp, err := f.Invoke(ctx, call, key)
		second <- answered{resp, err}
	}()
	l.hedgedBy = number
	return second, leave
}

// race returns the first answer that is one. The origin's own refusal is none
// while the function may still answer.
func (l *ladder) race(first, second <-chan answered, leave context.CancelFunc) (*http.Response, error) {
	select {
	case a := <-first:
		if a.err == nil && !refusal(a.resp.StatusCode) {
			leave()
			go discard(second)
			return a.resp, nil
		}
		b := <-second
		if b.err == nil {
			if a.resp != nil {
				a.resp.Body.Close()
			}
			l.hedged = b.resp
			return nil, nil
		}
		leave()
		l.noteFailure(l.hedgedBy, b.err)
		return a.resp, a.err
	case b := <-second:
		if b.err != nil {
			leave()
			a := <-first
			if a.err != nil || refusal(a.resp.StatusCode) {
				l.noteFailure(l.hedgedBy, b.err)
			}
			return a.resp, a.err
		}
		l.leaveOrigin()
		discard(first) // its early hints end before the answer begins
		l.hedged = b.resp
		return nil, nil
	}
}

// discard closes an answer that came second.
func discard(late <-chan answered) {
	if a := <-late; a.resp != nil {
		a.resp.Body.Close()
	}
}

// hedgedAnswer is the answer of a function to what the origin was late with.
func (l *ladder) hedgedAnswer() *http.Response {
	l.outcome, l.reason, l.backend = outcome.Function, outcome.Hedged, l.route.functions[l.hedgedBy].Name()
	return l.hedged
}
