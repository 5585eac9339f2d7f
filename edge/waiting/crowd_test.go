package waiting

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

// A crowd is the visitors of a small origin in virtual time, to which there is no
// other way than the room: all else is spent.
type crowd struct {
	rooms []*Room
	slots chan struct{} // of the origin
	takes time.Duration // of the origin, for a visit

	leaves float64   // the share that loses patience within leavesIn
	near   []float64 // the share of visits at each node; nil: at the first

	mu       sync.Mutex
	start    time.Time
	served   []visit // in the order of admission
	gone     int
	sentAway int // although their turn had come
	guesses  []guess
}

// A visit is one that was let in. Times are since the start.
type visit struct{ arrived, in time.Duration }

// A guess is what a visitor was told, and how long it took.
type guess struct{ told, took time.Duration }

const leavesIn = 40 * time.Second

func testKeys() [][32]byte { return [][32]byte{{1}, {2}} }

// newCrowd returns a crowd in front of nodes with the given clocks, and of an
// origin that serves 200 visits a second.
func newCrowd(ahead ...time.Duration) *crowd {
	c := &crowd{slots: make(chan struct{}, 4), takes: 20 * time.Millisecond}
	for _, skew := range ahead {
		r := NewRoom("app", testKeys)
		r.clock = func() int64 { return time.Now().Add(skew).UnixMicro() }
		c.rooms = append(c.rooms, r)
	}
	return c
}

// arrive lets n visitors come within some time, and waits for the last.
func (c *crowd) arrive(n int, within time.Duration) {
	c.start = time.Now()
	rng := rand.New(rand.NewPCG(1, 2))
	var all sync.WaitGroup
	for i := range n {
		at, own := time.Duration(rng.Int64N(int64(within))), rand.New(rand.NewPCG(3, uint64(i)))
		all.Go(func() {
			time.Sleep(at)
			c.live(own)
		})
	}
	all.Wait()
}

// live is one visitor, from its arrival until it is let in or loses patience.
func (c *crowd) live(rng *rand.Rand) {
	arrived, patience := time.Since(c.start), 24*time.Hour
	if rng.Float64() < c.leaves {
		patience = time.Duration(rng.Int64N(int64(leavesIn)))
	}
	told := []guess{}
	for ticket := ""; ; {
		room := c.room(rng)
		g := room.Enter(Ask{Waits: true, Ticket: ticket})
		if g.Standing == Called {
			if c.ask(room, &g) {
				c.in(arrived, told)
				return
			}
			c.count(&c.sentAway)
		}
		n := room.Wait(&g)
		ticket = n.Ticket
		now := time.Since(c.start)
		if n.Known && n.Estimate > 0 {
			told = append(told, guess{n.Estimate, now})
		}
		if now+n.Again > arrived+patience {
			c.count(&c.gone)
			return
		}
		time.Sleep(n.Again + time.Duration(rng.IntN(300))*time.Millisecond) // the network
	}
}

func (c *crowd) room(rng *rand.Rand) *Room {
	x := rng.Float64()
	for i, share := range c.near {
		if x -= share; x < 0 {
			return c.rooms[i]
		}
	}
	return c.rooms[0]
}

// ask is what the ladder does for a visit whose turn has come.
func (c *crowd) ask(room *Room, g *Guest) bool {
	defer room.Leave(g)
	leave, _ := room.Await(context.Background(), g, Hold)
	if leave == nil {
		return false
	}
	timer := time.NewTimer(Hold)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
		leave()
	case <-timer.C:
		leave()
		return false
	}
	time.Sleep(c.takes)
	<-c.slots
	return room.Serve(g, DefaultPass) != ""
}

func (c *crowd) in(arrived time.Duration, told []guess) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Since(c.start)
	c.served = append(c.served, visit{arrived, now})
	for _, g := range told {
		c.guesses = append(c.guesses, guess{g.told, now - g.took})
	}
}

func (c *crowd) count(what *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*what++
}

// overtaken is by how much at most somebody had arrived after somebody who was
// let in later.
func (c *crowd) overtaken() (worst time.Duration) {
	latest := time.Duration(0)
	for _, v := range c.served {
		latest = max(latest, v.arrived)
		worst = max(worst, latest-v.arrived)
	}
	return worst
}

// perSecond counts those who were let in.
func (c *crowd) perSecond() []int {
	n := make([]int, c.served[len(c.served)-1].in/time.Second+1)
	for _, v := range c.served {
		n[v.in/time.Second]++
	}
	return n
}

// within returns the share of the estimates that were right within a factor, of
// those for longer than the time between two visits.
func (c *crowd) within(factor float64) float64 {
	right, all := 0, 0
	for _, g := range c.guesses {
		if g.took > 5*time.Second {
			all++
			if r := float64(g.told) / float64(g.took); r < factor && r > 1/factor {
				right++
			}
		}
	}
	return float64(right) / float64(all)
}

// flows asks that the origin was never left half idle, from the time on at which
// the room has found out how many it can call.
func (c *crowd) flows(t *testing.T, from int) {
	t.Helper()
	n := c.perSecond()
	for second := from; second < len(n)-3; second++ {
		if n[second] < 100 {
			t.Errorf("in second %d the origin served %d of 200: %v", second, n[second], n)
		}
	}
}

func TestCrowdIsLetInByTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(0)
		c.arrive(10_000, 10*time.Second)
		if len(c.served) != 10_000 || c.sentAway > 0 {
			t.Errorf("%d served, %d sent away in their turn", len(c.served), c.sentAway)
		}
		if worst := c.overtaken(); worst > 2*time.Second {
			t.Errorf("somebody was overtaken by one who came %v later", worst)
		}
		if share := c.within(1.5); share < .95 {
			t.Errorf("%.0f%% of the estimates were right within a factor of 1.5", 100*share)
		}
		c.flows(t, 15)
	})
}

func TestThoseWhoLeaveHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(0)
		c.leaves = .3
		c.arrive(10_000, 10*time.Second)
		if c.gone < 1000 || len(c.served)+c.gone != 10_000 || c.sentAway > 0 {
			t.Errorf("%d served, %d gone, %d sent away in their turn", len(c.served), c.gone, c.sentAway)
		}
		if worst := c.overtaken(); worst > 2*time.Second {
			t.Errorf("somebody was overtaken by one who came %v later", worst)
		}
		if share := c.within(1.5); share < .9 {
			t.Errorf("%.0f%% of the estimates were right within a factor of 1.5", 100*share)
		}
		c.flows(t, 15)
	})
}

// TestNodesKeepTheOrder lets visitors go to one of two nodes with clocks that differ,
// each time anew. Nodes tell each other nothing. To one few come: without what they
// bring from the other it would call them nine seconds too soon.
func TestNodesKeepTheOrder(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Second, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(0, ahead)
			c.near = []float64{.95, .05}
			c.arrive(10_000, 10*time.Second)
			if len(c.served) != 10_000 || c.sentAway > 0 {
				t.Errorf("%d served, %d sent away in their turn", len(c.served), c.sentAway)
			}
			// Who is called comes when its page asks again, up to two seconds later.
			if worst := c.overtaken(); worst > ahead+3*time.Second {
				t.Errorf("clocks %v apart: somebody was overtaken by one who came %v later", ahead, worst)
			}
		})
	}
}

// TestWhoKeepsComingIsLetIn asks that nobody who stays waits forever, whatever the
// crowd and the origin.
func TestWhoKeepsComingIsLetIn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := rapid.IntRange(1, 20).Draw(rt, "slots")
		takes := time.Duration(rapid.IntRange(1, 2000).Draw(rt, "takes")) * time.Millisecond
		leaves := rapid.Float64Range(0, .8).Draw(rt, "leaves")
		n := rapid.IntRange(1, 200).Draw(rt, "visitors")
		within := time.Duration(rapid.IntRange(1, 300).Draw(rt, "within")) * time.Second
		synctest.Test(t, func(*testing.T) {
			c := newCrowd(0)
			c.slots, c.takes, c.leaves = make(chan struct{}, slots), takes, leaves
			c.arrive(n, within)
			if len(c.served)+c.gone != n {
				rt.Errorf("%d of %d served, %d gone", len(c.served), n, c.gone)
			}
		})
	})
}
