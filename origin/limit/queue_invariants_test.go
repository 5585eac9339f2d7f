package limit

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A lineup is what the queue should be: whose turn is next, by level and then by
// who came last.
type lineup struct {
	places []place
	most   int
}

type place struct {
	level   Level
	visitor uint64
}

// enter lets a visitor stand in line, or says that there is no room.
func (l *lineup) enter(p place) (out place, pushed, ok bool) {
	if len(l.places) >= l.most {
		if l.most == 0 || l.places[len(l.places)-1].level <= p.level {
			return place{}, false, false
		}
		out, pushed = l.places[len(l.places)-1], true
		l.places = l.places[:len(l.places)-1]
	}
	i, _ := slices.BinarySearchFunc(l.places, p, func(a, b place) int { return cmp.Compare(a.level, b.level) })
	l.places = slices.Insert(l.places, i, p)
	return out, pushed, true
}

// The order of the queue is that of levels and, within one, the newest first; full,
// it lets go of the oldest of the least important for who is more important. What
// visitors say of the urgency of their requests changes none of that.
func TestQueueOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.IntRange(1, 4).Draw(t, "slots")
		l := New(Config{Min: slots, Max: slots})
		var held []Permit
		for p, ok := l.Acquire(0, 1); ok; p, ok = l.Acquire(0, 1) {
			held = append(held, p)
		}
		length := rapid.SampledFrom([]float64{0, 0.5, 1, 3}).Draw(t, "length")
		want := &lineup{most: int(math.Ceil(length * float64(slots)))}
		var waiting []*waiter
		claims := rapid.Bool().Draw(t, "urgencies")
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "release") {
				held[0].Release(OK)
				held = held[1:]
				if len(want.places) > 0 {
					waiting = served(t, l, waiting, want, &held)
				} else {
					p, ok := l.Acquire(0, 1)
					if !ok {
						t.Fatal("nobody waits and a place is gone")
					}
					held = append(held, p)
				}
				continue
			}
			r := Request{
				Share: 1, Length: length,
				Level:   Level(rapid.SampledFrom([]int{0, 1, 63, 64, 500, 501, 1023}).Draw(t, "level")),
				Visitor: rapid.Uint64Range(1, 4).Draw(t, "visitor"),
			}
			if claims {
				r.Urgency = rapid.Uint8Range(0, 7).Draw(t, "urgency")
			}
			waiting = entered(t, l, waiting, want, r)
		}
		for _, w := range waiting {
			if l.abandon(w).Valid() {
				t.Fatal("a waiter was granted a permit that nobody gave back")
			}
		}
		for _, p := range held {
			p.Release(OK)
		}
		if s := l.State(); s.InFlight != 0 || s.Queued != 0 || l.queue.standing.patient != 0 || l.queue.used != [levels / 64]uint64{} {
			t.Fatalf("at rest: %+v", s)
		}
	})
}

// entered lets a request wait, as the lineup does.
func entered(t *rapid.T, l *Limiter, waiting []*waiter, want *lineup, r Request) []*waiter {
	out, pushed, ok := want.enter(place{r.Level, r.Visitor})
	before := l.queue.standing
	wait, waits := l.Look(r)
	if l.queue.standing != before {
		t.Fatal("a look was noticed")
	}
	w := l.enqueue(r)
	if waits != (w != nil) || waits && wait != w.Wait {
		t.Fatalf("foretold %v, %v", wait, waits)
	}
	left := slices.DeleteFunc(slices.Clone(waiting), func(w *waiter) bool { return w.waiting })
	waiting = slices.DeleteFunc(waiting, func(w *waiter) bool { return !w.waiting })
	if w != nil {
		waiting = append(waiting, w)
	}
	for _, w := range left {
		if (<-w.answer).Valid() {
			t.Fatal("a permit out of nothing")
		}
	}
	switch {
	case len(left) > 1:
		t.Fatalf("%d left for one", len(left))
	case pushed && (len(left) == 0 || left[0].Level != out.level || left[0].Visitor != out.visitor):
		t.Fatalf("%v should have left", out)
	case ok && w == nil:
		t.Fatal("turned away with room")
	case !pushed && len(left) == 1 && (ok || left[0].Visitor != r.Visitor || left[0].Level != r.Level || left[0].Urgency <= r.Urgency):
		t.Fatal("pushed out somebody else")
	case !ok && w != nil && len(left) == 0:
		t.Fatal("more wait than may")
	}
	return waiting
}

// served checks who got the place that became free.
func served(t *rapid.T, l *Limiter, waiting []*waiter, want *lineup, held *[]Permit) []*waiter {
	first := want.places[0]
	want.places = want.places[1:]
	i := slices.IndexFunc(waiting, func(w *waiter) bool { return !w.waiting })
	if i < 0 {
		t.Fatal("nobody got the place")
	}
	w := waiting[i]
	if w.Level != first.level || w.Visitor != first.visitor {
		t.Fatalf("served visitor %d of level %d, want %v", w.Visitor, w.Level, first)
	}
	p := <-w.answer
	if !p.Valid() {
		t.Fatal("no permit")
	}
	*held = append(*held, p)
	waiting = slices.Delete(waiting, i, i+1)
	for _, other := range waiting {
		if other.Visitor == w.Visitor && other.Level == w.Level && other.Urgency < w.Urgency {
			t.Fatalf("served urgency %d before %d of the same visitor", w.Urgency, other.Urgency)
		}
		if !other.waiting {
			t.Fatal("one place for two")
		}
	}
	if n := l.State().Queued; n != len(waiting) || n != len(want.places) {
		t.Fatalf("%d wait, counted %d, want %d", len(waiting), n, len(want.places))
	}
	return waiting
}

// Whatever comes, waits, leaves and ends, with shares and a limit that moves: no
// permit is lost or doubled, nobody is forgotten, and nobody waits behind the less
// important while there is room for both.
func TestQueueKeepsAccount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := New(Config{Min: 1, Max: 8})
		set := func(limit int) {
			p := *l.plan.Load()
			p.limit, p.steady = uint64(limit), uint64(limit)
			l.publish(p)
		}
		set(4)
		var held []Permit
		var waiting []*waiter
		settle := func() {
			waiting = slices.DeleteFunc(waiting, func(w *waiter) bool {
				if w.waiting {
					return false
				}
				if p := <-w.answer; p.Valid() {
					held = append(held, p)
				}
				return true
			})
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"acquire", "wait", "wait", "wait", "release", "release", "leave", "limit"}).Draw(t, "step") {
			case "acquire":
				if p, ok := l.Acquire(0, 1); ok {
					held = append(held, p)
				}
			case "wait":
				if w := l.enqueue(Request{
					Share:   rapid.SampledFrom([]float64{0.5, 1}).Draw(t, "share"),
					Level:   Level(rapid.SampledFrom([]int{0, 5, 700, 2000}).Draw(t, "level")),
					Visitor: rapid.Uint64Range(0, 3).Draw(t, "visitor"), Urgency: rapid.Uint8Range(0, 7).Draw(t, "urgency"),
					Patient: rapid.Bool().Draw(t, "patient"), Wait: 1e9, Length: 1,
				}); w != nil {
					waiting = append(waiting, w)
				}
			case "release":
				if len(held) > 0 {
					held[0].Release(OK)
					held[0].Release(OK)
					held = held[1:]
				}
			case "leave":
				if len(waiting) > 0 {
					if l.abandon(waiting[0]).Valid() {
						t.Fatal("a waiter had a permit that it was not told of")
					}
					waiting = waiting[1:]
				}
			case "limit":
				set(rapid.IntRange(1, 8).Draw(t, "limit"))
			}
			settle()
			checkAccount(t, l, waiting, held)
		}
		for _, w := range waiting {
			l.abandon(w)
		}
		for _, p := range held {
			p.Release(OK)
		}
		checkAccount(t, l, nil, nil)
	})
}

func checkAccount(t *rapid.T, l *Limiter, waiting []*waiter, held []Permit) {
	s := l.State()
	if s.InFlight != len(held) || s.Queued != len(waiting) {
		t.Fatalf("in flight %d of %d, waiting %d of %d", s.InFlight, len(held), s.Queued, len(waiting))
	}
	patient := 0
	for _, w := range waiting {
		if w.Patient {
			patient++
		}
		if !l.Full(w.Share) {
			t.Fatalf("a waiter with a share of %v waits beside room: %s", w.Share, fmt.Sprint(s))
		}
	}
	if n := l.queue.standing.patient; n != patient {
		t.Fatalf("%d patient, counted %d", patient, n)
	}
}

// An urgent request takes a place of its visitor only if it may have one.
func TestUrgencyKeepsShares(t *testing.T) {
	l, held := full(t, 4)
	half := l.enqueue(Request{Share: 0.5, Length: 1, Visitor: 7})
	whole := l.enqueue(Request{Share: 1, Length: 1, Visitor: 7, Urgency: 5})
	held[0].Release(OK)
	if whole.waiting || !half.waiting {
		t.Fatalf("whole waits: %v, half waits: %v", whole.waiting, half.waiting)
	}
	for _, p := range held[1:] {
		p.Release(OK)
	}
	l.enqueue(Request{Share: 1, Length: 1, Visitor: 7})
	if half.waiting {
		t.Error("the urgent one still waits at an idle origin")
	}
}

// When many places become free at once, each request gets one.
func TestUrgencyWithManyPlaces(t *testing.T) {
	l, _ := full(t, 1)
	var all []*waiter
	for urgency := range uint8(4) {
		all = append(all, l.enqueue(Request{Share: 1, Length: 4, Visitor: 7, Urgency: urgency}))
	}
	p := *l.plan.Load()
	p.limit, p.steady = 4, 4
	l.publish(p)
	for i, w := range all {
		if w.waiting != (i == 3) {
			t.Errorf("urgency %d waits: %v", i, w.waiting)
		}
	}
	if s := l.State(); s.InFlight != 4 || s.Queued != 1 {
		t.Errorf("%+v", s)
	}
}

func TestLevels(t *testing.T) {
	f := func(priority, user int, want Level) {
		t.Helper()
		if got := LevelOf(priority, user); got != want || got.priority() != int(want)/Users {
			t.Errorf("level of %d, %d: %d, want %d", priority, user, got, want)
		}
	}
	f(0, 0, 0)
	f(4, 5, 4*128+5)
	f(7, 127, 1023)
	f(-1, 500, 1023)
	f(8, 0, 7*128)
}
