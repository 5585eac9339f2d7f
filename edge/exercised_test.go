package edge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/exercise"
	"spillway/edge/overflow"
	"spillway/edge/synctest"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
)

// unasked is a platform that is never called.
type unasked struct{}

func (unasked) Invoke(context.Context, *faas.Request) (*http.Response, error) { panic("called") }

// someFunctions returns functions of one call each, and their budgets.
func someFunctions(n int) (all []*faas.Function, budgets []*budget.Budget) {
	for i := range n {
		b := budget.New("b", budget.Config{PerMonth: 1}) // an hour may end amid a test
		all = append(all, faas.New(fmt.Sprint(i), faas.Config{MaxConcurrency: 1}, unasked{}, b, slog.New(slog.DiscardHandler)))
		budgets = append(budgets, b)
	}
	return all, budgets
}

// TestExerciseTakesTurns: each function of a route is proven, and one that cannot be
// called holds up no other.
func TestExerciseTakesTurns(t *testing.T) {
	functions, budgets := someFunctions(3)
	c := overflow.Config{Exercise: 1, Methods: []string{"GET"}}
	rt := &route{policy: overflow.New(c), functions: functions}
	e := rt.newExercised(&c)
	e.drill = newDrill(slog.New(slog.DiscardHandler))
	turn := func(e *exercised) string {
		next := e.next()
		if next == nil {
			return "none"
		}
		next.turn.Store(e.drill.turns.Add(1))
		return next.function.Name()
	}
	take := func(e *exercised, n int) (names []string) {
		for range n {
			names = append(names, turn(e))
		}
		return names
	}
	if got := take(e, 5); !slices.Equal(got, []string{"0", "1", "2", "0", "1"}) {
		t.Errorf("the turns are %v", got)
	}
	budgets[1].Empty(time.Now())
	later := rt.newExercised(&c) // after a reload
	later.drill = e.drill
	later.keep(e)
	if got := take(later, 5); !slices.Equal(got, []string{"2", "0", "2", "0", "2"}) {
		t.Errorf("without the second, the turns are %v", got)
	}
	if s := later.targets[1].proof.State(time.Now()); s.Uncompared["budget-spent"] == 0 {
		t.Errorf("%+v", s)
	}
	budgets[0].Empty(time.Now())
	budgets[2].Empty(time.Now())
	if got := turn(later); got != "none" {
		t.Errorf("%s without money", got)
	}
}

// TestExerciseKeepsNoProofOfAnotherOrigin: a route that a reload sends to another
// origin knows nothing of how the functions would do in the place of that one.
func TestExerciseKeepsNoProofOfAnotherOrigin(t *testing.T) {
	functions, _ := someFunctions(1)
	c, app, other := overflow.Config{Exercise: 1, Methods: []string{"GET"}}, new(origin.Origin), new(origin.Origin)
	compile := func(o *origin.Origin) *exercised {
		return (&route{origin: o, policy: overflow.New(c), functions: functions}).newExercised(&c)
	}
	known := compile(app)
	known.targets[0].proof.Note(exercise.Result{At: time.Now()})
	f := func(o *origin.Origin, want exercise.Verdict) {
		t.Helper()
		e := compile(o)
		e.keep(known)
		if s := e.targets[0].proof.State(time.Now()); s.Verdict != want {
			t.Errorf("%+v, want %s", s, want)
		}
	}
	f(app, exercise.Proved)
	f(other, exercise.Never)
}

// TestExerciseTellsWhatIsStale: once, a day after the last proof, and only where
// there shall be one.
func TestExerciseTellsWhatIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		functions, _ := someFunctions(2)
		c := overflow.Config{Exercise: 1, Methods: []string{"GET"}}
		e := (&route{policy: overflow.New(c), functions: functions}).newExercised(&c)
		s := &Server{drill: newDrill(slog.New(slog.NewTextHandler(&log, nil)))}
		e.drill = s.drill
		off := &exercised{route: "off", targets: []*target{{function: functions[0], proof: new(exercise.Proof)}}, drill: s.drill}
		s.settings.Store(&settings{sites: &sites{exercised: []*exercised{e, off}}})
		e.targets[1].proof.Note(exercise.Result{At: time.Now()})
		off.targets[0].proof.Note(exercise.Result{At: time.Now()}) // before a reload switched it off
		ctx, stop := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { s.Exercise(ctx) })
		time.Sleep(48 * time.Hour)
		stop()
		ended.Wait()
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `msg="function has not been compared with the origin for a day" route="" function=1`) {
			t.Errorf("told: %s", text)
		}
		if p := s.Proofs(); p[0].Verdict != exercise.Never || p[1].Verdict != exercise.Stale {
			t.Errorf("%+v", p)
		}
	})
}

// TestProvable: routes that nothing can be compared of are not said to be unproven.
func TestProvable(t *testing.T) {
	f := func(body string, matches, spills []string, want bool) {
		t.Helper()
		c := overflow.Config{Exercise: 1, ExerciseBody: body, Methods: spills}
		r := &route{methods: matches, policy: overflow.New(c)}
		if got := r.newExercised(&c).pace != nil; got != want {
			t.Errorf("body %s, matches %v and spills %v: %t", body, matches, spills, got)
		}
	}
	f(exercise.Exact, nil, []string{"GET", "HEAD"}, true)
	f(exercise.Off, []string{"POST", "HEAD"}, []string{"HEAD"}, true)
	f(exercise.JSON, []string{"POST", "HEAD"}, []string{"HEAD"}, false)
	f(exercise.Off, nil, []string{"POST"}, false)
	f(exercise.Exact, []string{"POST"}, []string{"GET", "POST"}, false)
	f(exercise.Off, []string{"GET"}, []string{"HEAD"}, false)
}

// TestExerciseHoldsNoMore: trials in all have so many slots, whatever becomes of them.
func TestExerciseHoldsNoMore(t *testing.T) {
	d := newDrill(slog.New(slog.DiscardHandler))
	for range trialsMost {
		if !d.take() {
			t.Fatal("no slot")
		}
	}
	for range 2 {
		if d.take() {
			t.Error("more than there are")
		}
	}
	functions, budgets := someFunctions(1)
	c := overflow.Config{ExerciseBody: exercise.Exact}
	e := (&route{policy: overflow.New(c), functions: functions}).newExercised(&c)
	e.drill = d
	d.release()
	budgets[0].Empty(time.Now())
	if l := (&ladder{route: &route{exercised: e}}); l.trial(t.Context(), nil, nil) != nil || !d.take() {
		t.Error("a slot is lost where there is nobody to ask")
	}
	body := func(text string) *http.Response {
		tr := &trial{e: e, target: e.targets[0], call: &faas.Request{Method: "GET"}}
		return tr.watch(&http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader(text))})
	}
	for i, end := range []func(*http.Response){
		func(r *http.Response) { r.Body.Close() },
		func(r *http.Response) { r.Body.Close(); r.Body.Close(); io.ReadAll(r.Body) },
		func(r *http.Response) { io.ReadFull(r.Body, make([]byte, 3)); r.Body.Close() },
	} {
		if end(body("text")); d.slots.Load() != int64(trialsMost-i-1) || len(d.jobs) > 0 {
			t.Errorf("%d: %d slots, %d jobs", i, d.slots.Load(), len(d.jobs))
		}
	}
	read, _ := io.ReadAll(body("text").Body)
	if tr := <-d.jobs; string(read) != "text" || string(tr.answer.Body) != "text" || d.slots.Load() != 1 {
		t.Errorf("%q, %q, %d slots", read, tr.answer.Body, d.slots.Load())
	}
}

// TestExerciseWaitsForNoSlowVisitor: few of them could else keep all routes from being
// compared. They get their answers all the same.
func TestExerciseWaitsForNoSlowVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		functions, _ := someFunctions(1)
		c := overflow.Config{ExerciseBody: exercise.Exact}
		e := (&route{policy: overflow.New(c), functions: functions}).newExercised(&c)
		e.drill = newDrill(slog.New(slog.DiscardHandler))
		begin := func() io.ReadCloser {
			e.drill.take()
			tr := &trial{e: e, target: e.targets[0], call: &faas.Request{Method: "GET"}}
			resp := tr.watch(&http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader("text"))})
			io.ReadFull(resp.Body, make([]byte, 1))
			return resp.Body
		}
		slow, quick := begin(), begin()
		time.Sleep(longestWatch - time.Second)
		if io.ReadAll(quick); e.drill.slots.Load() != 2 || len(e.drill.jobs) != 1 {
			t.Errorf("in time: %d slots, %d jobs", e.drill.slots.Load(), len(e.drill.jobs))
		}
		time.Sleep(2 * time.Second)
		if s := e.targets[0].proof.State(time.Now()); e.drill.slots.Load() != 1 || s.Uncompared["unfinished"] != 1 {
			t.Errorf("too late: %d slots, %+v", e.drill.slots.Load(), s)
		}
		rest, err := io.ReadAll(slow)
		if slow.Close(); string(rest) != "ext" || err != nil || e.drill.slots.Load() != 1 || len(e.drill.jobs) != 1 {
			t.Errorf("%q, %v; %d slots, %d jobs", rest, err, e.drill.slots.Load(), len(e.drill.jobs))
		}
	})
}

// TestExerciseCostsTheOthersNothing: what is not compared has no part in it.
func TestExerciseCostsTheOthersNothing(t *testing.T) {
	functions, _ := someFunctions(1)
	c := overflow.Config{To: []string{"f"}, Methods: []string{"GET"}, Exercise: 0.001, ExerciseBody: exercise.Exact}
	rt := &route{policy: overflow.New(c), functions: functions}
	rt.exercised = rt.newExercised(&c)
	rt.exercised.pace.Due(time.Now()) // the next one is not due
	l := &ladder{route: rt, facts: overflow.Facts{Policy: rt.policy, Method: "GET", BodyKept: true}}
	r, resp := &http.Request{Method: "GET"}, &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"image/png"}}}
	if n := testing.AllocsPerRun(1000, func() { l.exercise(t.Context(), r, resp) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkExerciseNotDue(b *testing.B) {
	functions, _ := someFunctions(1)
	c := overflow.Config{To: []string{"f"}, Methods: []string{"GET"}, Exercise: 1e-12, ExerciseBody: exercise.Exact}
	rt := &route{policy: overflow.New(c), functions: functions}
	rt.exercised = rt.newExercised(&c)
	now := time.Now()
	rt.exercised.pace.Due(now)
	rt.exercised.pace.Done(now)
	resp := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"image/png"}}}
	b.RunParallel(func(pb *testing.PB) {
		l := &ladder{route: rt, facts: overflow.Facts{Policy: rt.policy, Method: "GET", BodyKept: true}}
		r := &http.Request{Method: "GET"}
		for pb.Next() {
			l.exercise(context.Background(), r, resp)
		}
	})
}
