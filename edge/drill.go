package edge

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"spillway/edge/exercise"
	"spillway/edge/outcome"
	"spillway/origin/faas"
)

// How much is exercised at once in all. Not knobs: it is for nobody, and holds at
// most a mebibyte for each.
const (
	trialsMost   = 4
	trialWorkers = 2
	// longestWatch is how long a visitor may take to read an answer that is to be
	// compared: a few slow ones would keep all others from it.
	longestWatch = 30 * time.Second
	// longestPath is how much of a path is remembered.
	longestPath = 200
)

// A drill is where the trials of all routes are made.
type drill struct {
	log   *slog.Logger
	slots atomic.Int64
	turns atomic.Int64
	jobs  chan *trial
}

func newDrill(log *slog.Logger) *drill { return &drill{log: log, jobs: make(chan *trial, trialsMost)} }

// take takes one of the slots, each of which has a place among the jobs.
func (d *drill) take() bool {
	if d.slots.Add(1) > trialsMost {
		d.slots.Add(-1)
		return false
	}
	return true
}

func (d *drill) release() { d.slots.Add(-1) }

// Exercise puts requests to functions that the origin has answered, until ctx ends,
// and tells the log what comes of it.
func (s *Server) Exercise(ctx context.Context) error {
	var workers sync.WaitGroup
	for range trialWorkers {
		workers.Go(func() { s.drill.run(ctx) })
	}
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			workers.Wait()
			return nil
		case now := <-tick.C:
			for _, e := range s.settings.Load().sites.exercised {
				if e.pace != nil {
					e.check(now)
				}
			}
		}
	}
}

// check looks for proofs that have become too old.
func (e *exercised) check(now time.Time) {
	for _, t := range e.targets {
		e.tell(t, t.proof.Check(now), exercise.Result{})
	}
}

func (d *drill) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-d.jobs:
			t.run(ctx)
			d.release()
		}
	}
}

// run makes the comparison. What a stranger's answer makes panic must not take the
// node with it.
func (t *trial) run(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			t.e.drill.log.Error("comparison panicked", "panic", p, "stack", string(debug.Stack()))
			t.target.proof.Skip("panic")
		}
	}()
	difference, why := t.compare(ctx)
	now := time.Now()
	t.e.pace.Done(now)
	if why != "" {
		t.target.proof.Skip(why)
		return
	}
	r := exercise.Result{
		Difference: difference, At: now, Method: t.call.Method,
		Path: t.call.Path[:min(len(t.call.Path), longestPath)], ID: t.call.ID,
	}
	t.e.tell(t.target, t.target.proof.Note(r), r)
}

// compare calls the function and says how it differs, or why that proves nothing.
func (t *trial) compare(ctx context.Context) (_ exercise.Difference, why string) {
	if t.full() {
		return exercise.Difference{}, string(outcome.OriginSaturated)
	}
	resp, err := t.target.function.Exercise(ctx, t.call)
	var d exercise.Difference
	if err == nil {
		defer resp.Body.Close()
		d, err = t.e.rules.Compare(&t.answer, resp)
	}
	if errors.Is(err, exercise.ErrUnreadable) {
		return d, "unreadable"
	}
	if err != nil {
		return failure(err)
	}
	return d, ""
}

// failure tells a function that gives no answer from one that had no room for a
// request which nobody waits for.
func failure(err error) (d exercise.Difference, why string) {
	switch e := faas.AsError(err); e.Class {
	case faas.Refused, faas.Throttled, faas.Canceled:
		return d, string(e.Reason())
	default:
		return exercise.Difference{Kind: exercise.Failed, What: string(e.Class)}, ""
	}
}

// tell writes what is new into the log.
func (e *exercised) tell(t *target, n exercise.News, r exercise.Result) {
	log := e.drill.log.With("route", e.route, "function", t.function.Name())
	switch n {
	case exercise.Broke:
		log.Warn("function does not answer as the origin does", "kind", r.Kind, "what", r.What, "method", r.Method, "path", r.Path, "id", r.ID)
	case exercise.Mended:
		log.Info("function answers as the origin does")
	case exercise.WentCold:
		log.Warn("function has not been compared with the origin for a day")
	}
}
