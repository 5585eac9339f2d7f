package ideal

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/cmd/surge/origin"
)

const ms = time.Millisecond

func served(fates []Fate) (n int) {
	for _, f := range fates {
		if f.Served {
			n++
		}
	}
	return n
}

func TestLimitAndQueue(t *testing.T) {
	c := origin.Config{Model: origin.FIFO, Slots: 1}
	requests := []Request{
		{At: 0, Demand: 10 * ms, Wait: 20 * ms},
		{At: 1 * ms, Demand: 10 * ms, Wait: 20 * ms},
		{At: 2 * ms, Demand: 10 * ms, Wait: 20 * ms}, // with a queue of one: finds it full
		{At: 15 * ms, Demand: 10 * ms, Wait: 2 * ms}, // waits, and its time ends first
	}
	f := func(p Policy, want ...bool) {
		t.Helper()
		fates, err := Play(c, p, requests, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range fates {
			if f.Served != want[i] {
				t.Errorf("%+v: request %d: served %v, want %v", p, i, f.Served, want[i])
			}
		}
	}
	f(Policy{Limit: 1}, true, false, false, true)
	f(Policy{Limit: 1, Queue: true}, true, true, false, false)
	f(Policy{Limit: 2}, true, true, false, true)
	f(Policy{Limit: 9}, true, true, true, true)
}

func TestNewestWaiterGoesFirst(t *testing.T) {
	c := origin.Config{Model: origin.FIFO, Slots: 4}
	var requests []Request
	for range 4 {
		requests = append(requests, Request{Demand: 10 * ms})
	}
	requests = append(requests, Request{At: 1 * ms, Demand: 10 * ms, Wait: time.Second}, Request{At: 2 * ms, Demand: ms, Wait: time.Second})
	// The first four end together; both waiters go in then, the newest first.
	fates, err := Play(c, Policy{Limit: 4, Queue: true}, requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	if fates[5].Enter > fates[4].Enter || !fates[4].Served || fates[5].Enter < 10*ms {
		t.Errorf("the waiters entered at %v and %v", fates[4].Enter, fates[5].Enter)
	}
}

func TestChangesOfTheOrigin(t *testing.T) {
	c := origin.Config{Model: origin.Sharing, Slots: 2, Thrash: 0}
	var requests []Request
	for i := range 300 { // 300 a second on 100 a second
		requests = append(requests, Request{At: time.Duration(i) * time.Second / 300, Demand: 20 * ms, Wait: 10 * ms})
	}
	work := func(from, to time.Duration, changes ...Change) float64 {
		t.Helper()
		fates, err := Play(c, Policy{Limit: 4, Queue: true}, requests, changes)
		if err != nil {
			t.Fatal(err)
		}
		return Work(requests, fates, Window{from, to})
	}
	f := func(got, want float64) {
		t.Helper()
		if math.Abs(got-want) > .05*want+1e-9 {
			t.Errorf("%.3f slot seconds, want %.3f", got, want)
		}
	}
	f(work(200*ms, 800*ms), 1.2)
	f(work(400*ms, 600*ms, Change{300 * ms, 1, 1}, Change{700 * ms, 2, 1}), .2)
	f(work(400*ms, 600*ms, Change{300 * ms, 2, .5}), .2)
	f(work(400*ms, 600*ms, Change{300 * ms, 0, 1}, Change{700 * ms, 2, 1}), 0)
	f(work(800*ms, 980*ms, Change{300 * ms, 0, 1}, Change{700 * ms, 2, 1}), .36)
}

// On a crowd of ten times the capacity the oracle does all the work there is, with
// a limit at or below the knee.
func TestChoiceUsesTheOriginWhole(t *testing.T) {
	c := origin.Config{Model: origin.Sharing, Slots: 4, Service: 20 * ms, Thrash: .05}
	rng := rand.New(rand.NewPCG(1, 2))
	var requests []Request
	for at := 0.0; at < 4; at += rng.ExpFloat64() / 2000 {
		d := 20 * ms.Seconds() * math.Exp(.8326*rng.NormFloat64()-.3466)
		requests = append(requests, Request{At: time.Duration(at * 1e9), Demand: time.Duration(d * 1e9), Wait: 14 * ms})
	}
	windows := []Window{{time.Second, 2 * time.Second}, {2 * time.Second, 4 * time.Second}}
	f := func(p Policy, least, most int) {
		t.Helper()
		choice, err := Choose(c, p, requests, nil, windows)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range windows {
			slots := 4 * (w.To - w.From).Seconds()
			done, best := Work(requests, choice.Fates, w), Work(requests, choice.Most, w)
			if best > 1.01*slots || done < .97*slots || done < .98*best {
				t.Errorf("%+v: %.3f and at most %.3f of %.0f slot seconds in window %d", p, done, best, slots, i)
			}
		}
		if choice.Policy.Limit < least || choice.Policy.Limit > most {
			t.Errorf("%+v: limit %d, want %d to %d", p, choice.Policy.Limit, least, most)
		}
	}
	f(Policy{}, 5, 6)
	f(Policy{Queue: true}, 4, 4)
	f(Policy{Queue: true, Hop: 2 * ms}, 5, 6) // a slot would idle for the way back
}

// No policy does more work than there are slots, serves more than came, or lets
// anybody end before it has entered.
func TestBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model := rapid.SampledFrom([]origin.Model{origin.FIFO, origin.Sharing}).Draw(t, "model")
		c := origin.Config{Model: model, Slots: rapid.IntRange(1, 4).Draw(t, "slots"), Thrash: .05}
		var requests []Request
		at := time.Duration(0)
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			at += time.Duration(rapid.IntRange(0, 30).Draw(t, "pause")) * ms
			requests = append(requests, Request{
				At: at, Demand: time.Duration(rapid.IntRange(1, 60).Draw(t, "demand")) * ms,
				Wait: time.Duration(rapid.IntRange(0, 40).Draw(t, "wait")) * ms,
			})
		}
		p := Policy{Limit: rapid.IntRange(1, 9).Draw(t, "limit"), Queue: rapid.Bool().Draw(t, "queue"), Hop: time.Duration(rapid.IntRange(0, 5).Draw(t, "hop")) * ms}
		var changes []Change
		if rapid.Bool().Draw(t, "changes") {
			changes = []Change{{At: at / 3, Slots: rapid.IntRange(0, 4).Draw(t, "then"), Speed: 1}, {At: at / 2, Slots: c.Slots, Speed: .5}}
		}
		fates, err := Play(c, p, requests, changes)
		if err != nil {
			t.Fatal(err)
		}
		end, total := time.Duration(0), 0.0
		for n, f := range fates {
			if f.Served {
				if f.Enter < requests[n].At || f.End < f.Enter {
					t.Fatalf("request %d of %v: %+v", n, requests[n], f)
				}
				if f.Enter > requests[n].At+requests[n].Wait {
					t.Fatalf("request %d entered after %v, longer than it may wait", n, f.Enter-requests[n].At)
				}
				end, total = max(end, f.End), total+requests[n].Demand.Seconds()
			}
		}
		slots := 4
		if len(changes) == 0 {
			slots = c.Slots
		}
		if most := end.Seconds() * float64(slots); total > most+1e-6 {
			t.Fatalf("%v slot seconds done in %v, at most %v", total, end, most)
		}
		whole := Work(requests, fates, Window{0, end + 1})
		if math.Abs(whole-total) > 1e-6 || served(fates) > len(requests) {
			t.Fatalf("work in the whole run %v, of the served %v", whole, total)
		}
	})
}
