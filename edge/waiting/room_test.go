package waiting

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

// stillRoom returns a room whose clock stands still.
func stillRoom() (*Room, *int64) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro()
	r := NewRoom("app", testKeys)
	r.clock = func() int64 { return now }
	return r, &now
}

// wait sends one visitor to wait.
func wait(r *Room) Notice {
	g := r.Enter(Ask{Waits: true})
	return r.Wait(&g)
}

func (r *Room) with(ticket string) Guest { return r.Enter(Ask{Waits: true, Ticket: ticket}) }

func standing(t *testing.T, g Guest, want Standing) {
	t.Helper()
	if g.Standing != want {
		t.Errorf("stands %d, want %d", g.Standing, want)
	}
}

func TestNobodyOvertakesThoseWhoWait(t *testing.T) {
	r, now := stillRoom()
	standing(t, r.with(""), Free)
	n := wait(r)
	standing(t, r.with(""), Behind)
	standing(t, r.with("nonsense"), Behind)
	standing(t, r.Enter(Ask{}), Outside)
	g := r.with(n.Ticket)
	standing(t, g, Called)
	standing(t, r.with(""), Behind)
	r.Serve(&g, DefaultPass)
	standing(t, r.with(""), Free)

	// Once there has been room for all for a while, those who come need not wait.
	wait(r)
	for range 20 {
		*now += second
		if g := r.with(""); g.Standing == Free {
			break
		}
		wait(r)
	}
	standing(t, r.with(""), Free)
	wait(r) // who came first found no room
	standing(t, r.with(""), Behind)
}

// TestLookTellsHowARequestWouldStand, and takes neither turn nor pass.
func TestLookTellsHowARequestWouldStand(t *testing.T) {
	r, _ := stillRoom()
	f := func(a Ask, want Standing) {
		t.Helper()
		before := r.State()
		for range 2 * passBurst { // more often than a pass is good for
			if got := r.Look(a).Standing; got != want {
				t.Fatalf("%+v stands %v, want %v", a, got, want)
			}
		}
		if now := r.State(); now != before {
			t.Errorf("%+v changed the room from %+v to %+v", a, before, now)
		}
		g := r.Enter(a)
		standing(t, g, want)
		r.Leave(&g)
	}
	f(Ask{}, Outside)
	f(Ask{Waits: true}, Free)
	first, second := wait(r).Ticket, wait(r).Ticket
	f(Ask{Waits: true}, Behind)
	f(Ask{Waits: true, Ticket: first}, Called)
	held := r.with(first)
	f(Ask{Waits: true, Ticket: first}, Behind) // it has its turn already
	pass := r.Serve(&held, DefaultPass)
	f(Ask{Waits: true, Pass: pass}, Admitted)
	f(Ask{Pass: pass}, Admitted)
	f(Ask{Pass: second}, Outside)
	f(Ask{Waits: true, Ticket: first}, Behind) // it is used
}

func TestATicketIsGoodForOneAdmission(t *testing.T) {
	r, now := stillRoom()
	n := wait(r)
	first, copied := r.with(n.Ticket), r.with(n.Ticket)
	standing(t, first, Called)
	standing(t, copied, Behind)
	if again := r.Wait(&copied); again.Ticket == "" || r.State().Tickets != 1 {
		t.Error("a visitor who asks twice lost its place")
	}
	r.Leave(&first) // it was not served
	third := r.with(n.Ticket)
	standing(t, third, Called)
	pass := r.Serve(&third, time.Minute)
	if r.Serve(&third, time.Minute) != "" {
		t.Error("served twice")
	}
	standing(t, r.with(n.Ticket), Free) // nobody waits; but the ticket is none any more
	if r.State().Void != 1 {
		t.Errorf("%+v", r.State())
	}
	wait(r)
	standing(t, r.with(n.Ticket), Behind)

	// The pass lasts for its time.
	admitted := r.Enter(Ask{Waits: true, Pass: pass})
	standing(t, admitted, Admitted)
	if n := r.Wait(&admitted); n.Ticket != "" || n.Ahead != 0 {
		t.Errorf("with a pass, told %+v", n)
	}
	standing(t, r.Enter(Ask{Waits: true, Pass: n.Ticket}), Behind)
	*now += 59 * second
	standing(t, r.Enter(Ask{Pass: pass}), Admitted)
	*now += second
	standing(t, r.Enter(Ask{Pass: pass}), Outside)
}

func TestAPassIsGoodForOneVisitor(t *testing.T) {
	r, now := stillRoom()
	g := r.with(wait(r).Ticket)
	pass := r.Serve(&g, DefaultPass)
	used := func() (n int) {
		for n <= passBurst && r.Enter(Ask{Pass: pass}).Standing == Admitted {
			n++
		}
		return n
	}
	if n := used(); n != passBurst {
		t.Errorf("used %d times at once", n)
	}
	*now += 2 * second
	if n := used(); n != 10 {
		t.Errorf("used %d times after two seconds", n)
	}
}

// A clock that was hours ahead, as before it was first set, has used up no pass of
// today.
func TestPassesOutliveAClockThatIsSetBack(t *testing.T) {
	r, now := stillRoom()
	for i := range r.meters {
		r.meters.take(uint64(i), *now+3*60*minute)
	}
	g := r.with(wait(r).Ticket)
	standing(t, r.Enter(Ask{Pass: r.Serve(&g, DefaultPass)}), Admitted)
}

func TestWhoDoesNotComeBackIsNotWaitedFor(t *testing.T) {
	r, now := stillRoom()
	var all []Notice
	for range startWindow + 1 {
		*now += second / 10
		all = append(all, wait(r))
	}
	last := all[startWindow]
	standing(t, r.with(last.Ticket), Behind)
	// The others should have come by now; the last one does.
	for range 3 {
		*now += 4 * second
		g := r.with(last.Ticket)
		r.Wait(&g)
	}
	if s := r.State(); s.Visitors != 1 || s.Left != startWindow {
		t.Errorf("%+v", s)
	}
	standing(t, r.with(last.Ticket), Called)
	*now += 60 * second
	if r.Crowded() {
		t.Error("those who have left are waited for")
	}
	// Who comes late is called at once.
	standing(t, r.with(all[0].Ticket), Called)
}

// TestACrowdAtTheDoorCallsFewer asks it of a room that is ahead of another as well:
// that one may let in those whom the origin has room for.
func TestACrowdAtTheDoorCallsFewer(t *testing.T) {
	f := func(ahead bool) {
		synctest.Test(t, func(t *testing.T) {
			r := NewRoom("app", testKeys)
			r.clock = func() int64 { return time.Now().UnixMicro() }
			for range 100 {
				wait(r)
			}
			now := r.clock()
			if ahead {
				r.peers.note(hint{node: r.node + 1, at: now, cursor: now - minute}, r.node, now)
			}
			for arrival := range int64(crowdedBy + 1) {
				r.door.stand(arrival)
			}
			time.Sleep(crowded + time.Second)
			if r.State(); r.window.size >= startWindow {
				t.Errorf("ahead %v: %v are called", ahead, r.window.size)
			}
		})
	}
	f(false)
	f(true)
}

// A node that is gone holds nobody up for longer than its hints count, also if its
// clock was minutes ahead.
func TestNodesThatAreGoneHoldNobodyUp(t *testing.T) {
	f := func(ahead time.Duration) {
		t.Helper()
		r, now := stillRoom()
		wait(r)
		r.peers.note(hint{node: r.node + 1, at: *now + ahead.Microseconds(), cursor: *now - minute}, r.node, *now)
		for passed := int64(0); passed <= peerLife; passed += second {
			r.peers.step(*now + passed)
			if r.peers.bound > *now {
				t.Errorf("clock %v ahead: forgotten after %d s", ahead, passed/second)
			}
		}
		if r.peers.step(*now + peerLife + second); r.peers.bound < *now {
			t.Errorf("clock %v ahead: still waited for", ahead)
		}
	}
	f(0)
	f(4 * time.Minute)
}

// TestHoardedTicketsDoNotCrowdTheDoor lets somebody come with many old tickets,
// the youngest first, each of which is before all that are known.
func TestHoardedTicketsDoNotCrowdTheDoor(t *testing.T) {
	r, now := stillRoom()
	called := 0
	for i := range 1000 {
		s := ticket{kind: kindTicket, id: uint64(i + 1), at: *now - int64(i)*second}
		if r.with(s.sign(&testKeys()[0], "app")).Standing == Called {
			called++
		}
	}
	if called > 2*startWindow {
		t.Errorf("%d were called at once", called)
	}
}

func TestTheOldestTicketsAreForgottenFirst(t *testing.T) {
	r, now := stillRoom()
	s := &r.spent
	at := func(minutes int64, id uint64) *ticket { return &ticket{id: id, at: *now + minutes*minute} }
	s.add(at(0, 1), *now)
	s.add(at(5, 2), *now)
	s.all = mostSpent
	s.add(at(6, 3), *now)
	if !s.has(at(0, 1)) || !s.has(at(0, 99)) || !s.has(at(5, 2)) || s.has(at(5, 99)) || !s.has(at(6, 3)) {
		t.Errorf("%+v", s)
	}
	s.all = 2
	s.add(at(365, 4), *now+365*minute)
	if len(s.minutes) != 3 { // of 5, 6 and 365
		t.Errorf("%d minutes are remembered", len(s.minutes))
	}
	s.add(at(400, 5), *now+400*minute)
	if len(s.minutes) != 2 {
		t.Errorf("%d minutes are remembered", len(s.minutes))
	}
}

// TestRoom lets any visitors come, return, be served, fail and leave in any order,
// and asks what must hold whatever happens.
func TestRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, now := stillRoom()
		tickets, asking, served := map[string]bool{}, []Guest{}, map[uint64]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				g := r.with("")
				if waiting := len(r.seats.all); g.Standing == Free && waiting > 0 && *now-r.calm <= calmTime {
					t.Fatalf("one of the street overtakes %d", waiting)
				}
				tickets[r.Wait(&g).Ticket] = true
			},
			"return": func(t *rapid.T) {
				if len(tickets) == 0 {
					t.Skip("nobody waits")
				}
				text := rapid.SampledFrom(slices.Sorted(maps.Keys(tickets))).Draw(t, "ticket")
				g := r.with(text)
				if g.Standing == Called {
					if r.seats.line.before(g.ticket.at) >= r.window.called() {
						t.Fatal("called before its turn")
					}
					asking = append(asking, g)
					return
				}
				tickets[r.Wait(&g).Ticket] = true
			},
			"end": func(t *rapid.T) {
				if len(asking) == 0 {
					t.Skip("nobody asks")
				}
				i := rapid.IntRange(0, len(asking)-1).Draw(t, "guest")
				g := asking[i]
				asking = append(asking[:i], asking[i+1:]...)
				if rapid.Bool().Draw(t, "fails") {
					r.Leave(&g)
					return
				}
				if served[g.ticket.id] || r.Serve(&g, DefaultPass) == "" {
					t.Fatal("served twice")
				}
				served[g.ticket.id] = true
			},
			"later": func(t *rapid.T) {
				*now += int64(rapid.IntRange(0, 600_000).Draw(t, "ms")) * 1000
			},
			"": func(t *rapid.T) {
				n := len(r.seats.all)
				if n == 0 {
					return
				}
				if r.seats.line.all != n || int(r.waiting.Load()) != n || r.seats.line.sum(slots) != n {
					t.Fatalf("%d seats, %d in line, %d told, %d counted", n, r.seats.line.all, r.waiting.Load(), r.seats.line.sum(slots))
				}
				if len(r.holding) != len(asking) {
					t.Fatalf("%d hold, %d ask", len(r.holding), len(asking))
				}
			},
		})
	})
}
