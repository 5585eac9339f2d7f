package overflow

import (
	"testing"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
)

var policy = New(Config{At: 1, MaxBody: 1 << 20, Methods: []string{"GET", "HEAD", "put"}})

var ready = []Candidate{{}}

func TestDecide(t *testing.T) {
	f := func(facts Facts, place Place, reason outcome.Reason) {
		t.Helper()
		if facts.Method == "" {
			facts.Method = "GET"
		}
		d := Decide(&facts)
		if d.Place != place || d.Reason != reason {
			t.Errorf("got %s (%s), want %s (%s)", d.Place, d.Reason, place, reason)
		}
	}
	full := func(c ...Candidate) Facts {
		return Facts{Policy: policy, BodyKept: true, Waited: outcome.QueueTimeout, Functions: c}
	}
	with := func(facts Facts, change func(*Facts)) Facts { change(&facts); return facts }
	none := func(r outcome.Reason) Candidate { return Candidate{Reason: r} }

	// The origin and its queue come first.
	f(Facts{Permit: true}, Origin, outcome.None)
	f(Facts{Permit: true, Stale: true, StaleFirst: true, Functions: ready, Policy: policy}, Origin, outcome.None)
	f(Facts{}, Queue, outcome.OriginSaturated)
	f(Facts{Policy: policy, BodyKept: true, Functions: ready}, Queue, outcome.OriginSaturated)

	// Then the functions in order.
	f(full(ready...), Function, outcome.OriginSaturated)
	f(full(none(outcome.FunctionBusy), Candidate{}), Function, outcome.OriginSaturated)
	f(Facts{Policy: policy, BodyKept: true, NoOrigin: outcome.OriginDown, Functions: ready}, Function, outcome.OriginDown)

	// Stale before or after them.
	f(with(full(ready...), func(f *Facts) { f.Stale = true }), Function, outcome.OriginSaturated)
	f(with(full(ready...), func(f *Facts) { f.Stale, f.StaleFirst = true, true }), Stale, outcome.OriginSaturated)
	f(with(full(none(outcome.FunctionBusy)), func(f *Facts) { f.Stale = true }), Stale, outcome.OriginSaturated)

	// What may be stale only for want of an origin waits for one that is full, and
	// stands in for one that fails, after the functions.
	down := func(why outcome.Reason, c ...Candidate) Facts {
		return Facts{Policy: policy, BodyKept: true, NoOrigin: why, Functions: c, StaleIfDown: true}
	}
	for _, why := range []outcome.Reason{outcome.OriginDown, outcome.OriginFailed, outcome.OriginTimeout, outcome.OriginThrottled} {
		f(down(why), Stale, why)
		f(down(why, ready...), Function, why)
		f(with(down(why), func(f *Facts) { f.Reached = true }), Stale, why)
		f(with(down(why), func(f *Facts) { f.StaleIfDown = false }), Shed, why)
	}
	f(down(outcome.OriginSaturated), Shed, outcome.OriginSaturated)
	f(with(full(), func(f *Facts) { f.StaleIfDown = true }), Shed, outcome.OriginSaturated)
	f(Facts{StaleIfDown: true}, Queue, outcome.OriginSaturated)

	// A spent budget: stale, unless it says shed.
	f(with(full(none(outcome.BudgetSpent)), func(f *Facts) { f.Stale = true }), Stale, outcome.OriginSaturated)
	f(with(full(Candidate{Reason: outcome.BudgetSpent, NoStale: true}), func(f *Facts) { f.Stale = true }), Shed, outcome.BudgetSpent)
	f(full(none(outcome.BudgetSpent)), Shed, outcome.BudgetSpent)

	// What may not spill is shed.
	f(Facts{Waited: outcome.QueueFull}, Shed, outcome.OriginSaturated)
	f(with(full(ready...), func(f *Facts) { f.Method = "POST" }), Shed, outcome.MethodNotSpilled)
	f(with(full(ready...), func(f *Facts) { f.BodyKept = false }), Shed, outcome.BodyTooLarge)
	f(with(full(ready...), func(f *Facts) { f.Barred = outcome.Crawler }), Shed, outcome.Crawler)
	f(full(), Shed, outcome.OriginSaturated)

	// Who would be late goes elsewhere at once, if anything may take it, and else to
	// the origin all the same.
	late := func(c ...Candidate) Facts { return Facts{Policy: policy, BodyKept: true, Late: true, Functions: c} }
	f(late(ready...), Function, outcome.Deadline)
	f(late(none(outcome.FunctionBusy), Candidate{}), Function, outcome.Deadline)
	f(late(none(outcome.FunctionBusy)), Queue, outcome.OriginSaturated)
	f(late(), Queue, outcome.OriginSaturated)
	f(with(late(ready...), func(f *Facts) { f.Permit = true }), Origin, outcome.None)
	f(with(late(ready...), func(f *Facts) { f.Method = "POST" }), Queue, outcome.OriginSaturated)
	f(with(late(ready...), func(f *Facts) { f.Barred = outcome.Crawler }), Queue, outcome.OriginSaturated)
	f(with(late(ready...), func(f *Facts) { f.Stale = true }), Function, outcome.Deadline)
	f(with(late(), func(f *Facts) { f.Stale, f.StaleFirst = true, true }), Stale, outcome.Deadline)
	f(with(late(none(outcome.FunctionBusy)), func(f *Facts) { f.Stale = true }), Queue, outcome.OriginSaturated)
	f(with(late(ready...), func(f *Facts) { f.NoOrigin = outcome.OriginDown }), Function, outcome.OriginDown)
	f(with(late(), func(f *Facts) { f.Waited = outcome.QueueFull }), Shed, outcome.OriginSaturated)

	// Where a function failed that was asked before the origin, the origin is asked
	// if the request may be sent again.
	returned := func(method string, change func(*Facts)) Facts {
		facts := late(none(outcome.FunctionTimeout))
		facts.Policy, facts.Method, facts.Reached = New(Config{Methods: []string{"GET", "POST"}}), method, true
		change(&facts)
		return facts
	}
	f(returned("GET", func(*Facts) {}), Queue, outcome.OriginSaturated)
	f(returned("POST", func(*Facts) {}), Fail, outcome.FunctionTimeout)
	f(returned("POST", func(f *Facts) { f.Reached = false }), Queue, outcome.OriginSaturated)
	f(returned("POST", func(f *Facts) { f.Functions[0] = none(outcome.FunctionThrottled) }), Fail, outcome.FunctionThrottled)
	f(returned("GET", func(f *Facts) { f.NoRetry = true }), Fail, outcome.FunctionTimeout)
	f(returned("POST", func(f *Facts) { f.Broken = true }), Fail, outcome.FunctionError)

	// Page visits wait instead of being shed, for the same reasons, and when there
	// was nothing else; what failed has failed.
	waits := func(facts Facts) Facts { return with(facts, func(f *Facts) { f.Waits = true }) }
	f(waits(Facts{Permit: true}), Origin, outcome.None)
	f(waits(Facts{}), Queue, outcome.OriginSaturated)
	f(waits(full(ready...)), Function, outcome.OriginSaturated)
	f(waits(Facts{Waited: outcome.QueueFull}), Waiting, outcome.OriginSaturated)
	f(waits(full(none(outcome.BudgetSpent))), Waiting, outcome.BudgetSpent)
	f(waits(full(Candidate{Reason: outcome.BudgetSpent, NoStale: true})), Waiting, outcome.BudgetSpent)
	f(waits(with(full(none(outcome.BudgetSpent)), func(f *Facts) { f.Stale = true })), Stale, outcome.OriginSaturated)
	f(waits(Facts{NoOrigin: outcome.OriginDown}), Waiting, outcome.OriginDown)
	f(waits(Facts{NoOrigin: outcome.OriginFailed, Reached: true}), Fail, outcome.OriginFailed)
	// Those behind others take nothing that these wait for.
	f(waits(Facts{Behind: true}), Waiting, outcome.OthersFirst)
	f(waits(with(full(ready...), func(f *Facts) { f.Behind = true })), Waiting, outcome.OthersFirst)
	f(waits(with(full(ready...), func(f *Facts) { f.Behind, f.Stale = true, true })), Stale, outcome.OthersFirst)

	// What may have reached the origin moves only if it is idempotent.
	failed := func(method string) Facts {
		return Facts{
			Policy: New(Config{Methods: []string{"GET", "PUT", "POST"}}), Method: method, BodyKept: true,
			NoOrigin: outcome.OriginFailed, Reached: true, Functions: ready,
		}
	}
	f(failed("GET"), Function, outcome.OriginFailed)
	f(failed("PUT"), Function, outcome.OriginFailed)
	f(failed("POST"), Fail, outcome.OriginFailed)

	// An origin whose own code fails would fail as well in a function: what is stale
	// answers, and else the failure does.
	errored := with(failed("GET"), func(f *Facts) { f.Errored, f.StaleIfError = true, true })
	f(with(errored, func(f *Facts) { f.Stale = true }), Stale, outcome.OriginFailed)
	f(with(errored, func(f *Facts) { f.Stale, f.StaleFirst = true, true }), Stale, outcome.OriginFailed)
	f(errored, Fail, outcome.OriginFailed)

	// What nobody waits for takes a permit that is there, and nothing else.
	background := func(facts Facts) Facts { return with(facts, func(f *Facts) { f.Background = true }) }
	f(background(Facts{Permit: true}), Origin, outcome.None)
	f(background(Facts{}), Shed, outcome.OriginSaturated)
	f(background(full(ready...)), Shed, outcome.OriginSaturated)
	f(background(late(ready...)), Shed, outcome.Deadline)
	f(background(failed("GET")), Shed, outcome.OriginFailed)
	f(background(waits(Facts{NoOrigin: outcome.OriginDown})), Shed, outcome.OriginDown)
	f(background(with(failed("GET"), func(f *Facts) { f.Stale = true })), Stale, outcome.OriginFailed)

	// An origin that has no place for what it began sheds it.
	f(Facts{NoOrigin: outcome.OriginSaturated, Reached: true}, Shed, outcome.OriginSaturated)

	// A function that failed of its own is not tried again, and has no successor.
	f(with(full(none(outcome.FunctionError), Candidate{}), func(f *Facts) { f.Broken = true }), Fail, outcome.FunctionError)
	f(with(full(none(outcome.FunctionError)), func(f *Facts) { f.Broken, f.Stale = true, true }), Stale, outcome.OriginSaturated)
	f(with(full(none(outcome.FunctionTimeout), Candidate{}), func(f *Facts) { f.Reached = true }), Function, outcome.OriginSaturated)
	f(with(full(none(outcome.FunctionTimeout), Candidate{}), func(f *Facts) { f.Reached, f.NoRetry = true, true }), Fail, outcome.FunctionTimeout)
	f(with(full(none(outcome.FunctionTimeout), Candidate{}), func(f *Facts) { f.NoRetry, f.Stale = true, true }), Stale, outcome.OriginSaturated)
	f(with(full(none(outcome.FunctionTimeout)), func(f *Facts) { f.Reached = true }), Fail, outcome.FunctionTimeout)
}

// TestBackgroundCostsNothing: neither a hedge nor a comparison is made for what nobody
// waits for.
func TestBackgroundCostsNothing(t *testing.T) {
	f := Facts{Policy: policy, Method: "GET", BodyKept: true, Functions: ready, Background: true}
	if _, ok := Hedge(&f); ok || Exercise(&f) {
		t.Error("a function may be called")
	}
}

func TestPatience(t *testing.T) {
	f := func(facts Facts, patient bool) {
		t.Helper()
		if d := Decide(&facts); d.Place != Queue || d.Patient != patient {
			t.Errorf("got %s patient=%v, want queue patient=%v", d.Place, d.Patient, patient)
		}
	}
	f(Facts{Method: "GET", Policy: policy, BodyKept: true, Functions: ready}, false)
	f(Facts{Method: "POST", Policy: policy, BodyKept: true, Functions: ready}, true)
	f(Facts{Method: "GET"}, true)
	f(Facts{Method: "GET", Stale: true}, false)
	f(Facts{Method: "GET", Stale: true, Waits: true, Called: true}, true)
	f(Facts{Method: "GET", Policy: policy, BodyKept: true, Functions: ready, Waits: true, Called: true}, false)
}

// TestLadder walks the ladder with every step failing, and asks that it ends,
// that no place is offered twice, and that money is spent by nobody barred.
func TestLadder(t *testing.T) {
	reasons := []outcome.Reason{outcome.None, outcome.None, outcome.FunctionBusy, outcome.BudgetSpent, outcome.FunctionThrottled}
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{
			Method:   rapid.SampledFrom([]string{"GET", "HEAD", "POST", "PUT"}).Draw(t, "method"),
			BodyKept: rapid.Bool().Draw(t, "kept"), Permit: rapid.Bool().Draw(t, "permit"),
			Stale: rapid.Bool().Draw(t, "stale"), StaleFirst: rapid.Bool().Draw(t, "first"),
			StaleIfDown: rapid.Bool().Draw(t, "if down"),
			Barred:      rapid.SampledFrom([]outcome.Reason{outcome.None, outcome.Crawler}).Draw(t, "barred"),
			Waits:       rapid.Bool().Draw(t, "waits"), Late: rapid.Bool().Draw(t, "late"),
		}
		if f.Waits {
			f.Called, f.Behind = rapid.Bool().Draw(t, "called"), rapid.Bool().Draw(t, "behind")
		}
		if rapid.Bool().Draw(t, "policy") {
			f.Policy = rapid.SampledFrom([]*Policy{policy, New(Config{Methods: []string{"GET", "POST"}})}).Draw(t, "methods")
		}
		for range rapid.IntRange(0, 4).Draw(t, "functions") {
			f.Functions = append(f.Functions, Candidate{
				Reason: rapid.SampledFrom(reasons).Draw(t, "reason"), NoStale: rapid.Bool().Draw(t, "nostale"),
			})
		}
		for step := 0; ; step++ {
			if step > 8 {
				t.Fatal("the ladder does not end")
			}
			d := Decide(&f)
			if f.Behind && d.Place != Stale && d.Place != Waiting {
				t.Fatalf("took a place before those who wait: %s", d.Place)
			}
			switch d.Place {
			case Origin:
				f.Permit, f.NoOrigin, f.Reached = false, outcome.OriginFailed, rapid.Bool().Draw(t, "sent")
			case Queue:
				if f.Reached && !Idempotent(f.Method) {
					t.Fatal("took to the origin what may have been carried out")
				}
				f.Waited = outcome.QueueTimeout
			case Function:
				if f.Policy == nil || f.Barred != outcome.None || !f.Policy.Spills(f.Method) {
					t.Fatal("spilled without leave")
				}
				if f.Reached && !Idempotent(f.Method) {
					t.Fatal("sent again what may have been carried out")
				}
				if f.Functions[d.Function].Reason != outcome.None {
					t.Fatal("offered a function twice")
				}
				f.Functions[d.Function].Reason = outcome.FunctionTimeout
				f.Reached = f.Reached || rapid.Bool().Draw(t, "ran")
			case Stale:
				if !f.Stale && (!f.StaleIfDown || f.NoOrigin == outcome.None) {
					t.Fatal("served an entry that is not there")
				}
				return
			case Waiting:
				if !f.Waits || f.Reached && !f.Behind {
					t.Fatal("sent to wait what must not")
				}
				return
			case Shed:
				if f.Waits {
					t.Fatal("shed what may wait")
				}
				if f.Reached {
					t.Fatal("called a failure shedding")
				}
				return
			case Fail:
				return
			default:
				t.Fatalf("unknown place %q", d.Place)
			}
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	b.ReportAllocs()
	f := Facts{Policy: policy, Method: "GET", BodyKept: true, Waited: outcome.QueueFull, Functions: ready}
	for b.Loop() {
		Decide(&f)
	}
}
