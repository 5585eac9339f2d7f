package edge

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"spillway/edge/exercise"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/origin"
	"spillway/origin/faas"
)

// exercised is what a route knows of how its functions would do in the place of its
// origin. It is immutable, but for its pace and its proofs.
type exercised struct {
	route   string
	origin  *origin.Origin
	share   float64
	pace    *exercise.Pace // nil: never
	rules   exercise.Rules
	targets []*target
	drill   *drill
}

// A target is one function of a route, and what is known of it there.
type target struct {
	function *faas.Function
	proof    *exercise.Proof
	turn     atomic.Int64 // when it was taken last, by number; the lowest is next
}

func (r *route) newExercised(c *overflow.Config) *exercised {
	e := &exercised{origin: r.origin, rules: exercise.NewRules(c.ExerciseFields, c.ExerciseBody)}
	if r.provable(&e.rules) {
		e.share, e.pace = c.Exercise, exercise.NewPace(c.Exercise)
	}
	for _, f := range r.functions {
		e.targets = append(e.targets, &target{function: f, proof: new(exercise.Proof)})
	}
	return e
}

// provable reports whether any request of the route may be put to a function, too:
// what only takes POST proves nothing.
func (r *route) provable(rules *exercise.Rules) bool {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if rules.Takes(method) && r.policy.Spills(method) && (len(r.methods) == 0 || slices.Contains(r.methods, method)) {
			return true
		}
	}
	return false
}

// addExercised notes a route that may spill.
func (s *sites) addExercised(r *route) {
	if r.exercised != nil {
		r.exercised.route = r.purse.name
		s.exercised = append(s.exercised, r.exercised)
	}
}

// keepProofs takes over from the settings in force what is known of functions that
// have not changed.
func (s *sites) keepProofs(was *settings, d *drill) {
	for _, e := range s.exercised {
		e.drill = d
		if was == nil {
			continue
		}
		for _, old := range was.sites.exercised {
			if old.route == e.route {
				e.keep(old)
			}
		}
	}
}

// keep takes over what is known. What was compared by other rules, or with another
// origin, is not.
func (e *exercised) keep(old *exercised) {
	if e.origin != old.origin || !e.rules.Equal(&old.rules) {
		return
	}
	if e.share == old.share {
		e.pace = old.pace
	}
	for i := range e.targets {
		for _, known := range old.targets {
			if known.function == e.targets[i].function {
				e.targets[i] = known
			}
		}
	}
}

// next returns the function that was compared least recently of those that may be
// called now.
func (e *exercised) next() *target {
	inTurn := slices.SortedStableFunc(slices.Values(e.targets), func(a, b *target) int {
		return cmp.Compare(a.turn.Load(), b.turn.Load())
	})
	for _, t := range inTurn {
		why := t.function.Spare()
		if why == outcome.None {
			return t
		}
		t.proof.Skip(string(why))
	}
	return nil
}

// exercise has the answer that the origin is giving compared with a function's, if it
// is time for that. The visitor waits for none of it: the function is called when
// the origin's answer has been read, by somebody else.
func (l *ladder) exercise(ctx context.Context, r *http.Request, resp *http.Response) *http.Response {
	e := l.route.exercised
	switch {
	case e == nil || e.pace == nil || l.upgrade || len(l.body.kept) > 0:
	case !overflow.Exercise(&l.facts) || !e.rules.Proves(r.Method, resp):
	case e.pace.Due(time.Now()):
		if t := l.trial(ctx, r, resp); t != nil {
			return t.watch(resp)
		}
	}
	return resp
}

// A trial is one request that is put to a function, too.
type trial struct {
	e      *exercised
	full   func() bool // whether the origin has no room
	target *target
	call   *faas.Request
	answer exercise.Answer
}

// trial begins one, or returns nil where there is no room or nobody to ask.
func (l *ladder) trial(ctx context.Context, r *http.Request, resp *http.Response) *trial {
	e := l.route.exercised
	if !e.drill.take() {
		return nil
	}
	target := e.next()
	if target == nil {
		e.drill.release()
		return nil
	}
	target.turn.Store(e.drill.turns.Add(1))
	t := &trial{e: e, full: l.route.full, target: target, call: l.call(ctx, r)}
	exercise.Ask(t.call.Header)
	t.call.Tally = &l.route.purse.exercises
	t.answer = exercise.Answer{Status: resp.StatusCode, Header: resp.Header.Clone()}
	return t
}

// watch returns the answer so that what is read of it is noted, if it has to be.
func (t *trial) watch(resp *http.Response) *http.Response {
	if resp.Body == http.NoBody || !t.e.rules.NeedsBody(resp.StatusCode) {
		t.e.drill.jobs <- t // never waits: there is room for all who have taken some
		return resp
	}
	t.answer.Body = make([]byte, 0, max(resp.ContentLength, 0))
	w := &witness{ReadCloser: resp.Body}
	w.trial.Store(t)
	w.patience = time.AfterFunc(longestWatch, func() { w.giveUp("unfinished") })
	resp.Body = w
	return resp
}

// A witness is the body of an origin's answer, of which a copy is kept until it is
// too large or was not read to its end in time. Nothing is asked of a function before.
type witness struct {
	io.ReadCloser
	trial    atomic.Pointer[trial] // nil once it is over
	patience *time.Timer
}

// Read implements io.Reader. It is called by one goroutine at a time.
func (w *witness) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	t := w.trial.Load()
	switch {
	case t == nil:
	case err != nil && err != io.EOF:
		w.giveUp("unfinished")
	case len(t.answer.Body)+n > exercise.MaxBody:
		w.giveUp("too-large")
	default:
		t.answer.Body = append(t.answer.Body, p[:n]...)
		if err == io.EOF && w.trial.CompareAndSwap(t, nil) {
			w.patience.Stop()
			t.e.drill.jobs <- t
		}
	}
	return n, err
}

// Close implements io.Closer.
func (w *witness) Close() error {
	w.patience.Stop()
	w.giveUp("unfinished")
	return w.ReadCloser.Close()
}

func (w *witness) giveUp(why string) {
	if t := w.trial.Swap(nil); t != nil {
		t.target.proof.Skip(why)
		t.e.drill.release()
	}
}

// A ProofState is what is known of one function in the place of a route's origin.
type ProofState struct {
	Route    string `json:"route"`
	Function string `json:"function"`
	exercise.State
}

// Proofs returns what is known of the functions of all routes that may spill.
func (s *Server) Proofs() []ProofState {
	var all []ProofState
	now := time.Now()
	for _, e := range s.settings.Load().sites.exercised {
		for _, t := range e.targets {
			p := ProofState{Route: e.route, Function: t.function.Name(), State: t.proof.State(now)}
			if e.pace == nil {
				p.Verdict = exercise.NotWanted
			}
			all = append(all, p)
		}
	}
	return all
}
