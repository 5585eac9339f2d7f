package waiting

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A crowd is visitors of a small origin in virtual time, whose only way to it is
// the room: all else is spent.
type crowd struct {
	rooms []*Room
	slots chan struct{} // of the origin
	takes time.Duration // of the origin for a visit
	stays func(*rand.Rand) time.Duration
	roams bool // each visit is at any of the nodes

	mu       sync.Mutex
	served   []visit
	sentBack int // of those whose turn had come
	gone     int
	guesses  []guess
}

// A visit is one that was let in.
type visit struct {
	arrived, in time.Duration
}

// A guess is an estimate that a visitor was told, and how long it waited then.
type guess struct{ told, took time.Duration }

func newCrowd(nodes int) *crowd {
	c := &crowd{slots: make(chan struct{}, 4), takes: 20 * time.Millisecond}
	for range nodes {
		c.rooms = append(c.rooms, NewRoom("app", testKeys))
	}
	return c
}

func testKeys() [][32]byte { return [][32]byte{{1}, {2}} }

// come lives through one visitor, from its arrival until it is let in or loses
// patience.
func (c *crowd) come(start time.Time, rng *rand.Rand) {
	room := c.rooms[rng.IntN(len(c.rooms))]
	arrived := time.Since(start)
	patience := 24 * time.Hour
	if c.stays != nil {
		patience = c.stays(rng)
	}
	ticket := ""
	var told []guess
	for {
		if c.roams {
			room = c.rooms[rng.IntN(len(c.rooms))]
		}
		g := room.Enter(Ask{Waits: true, Ticket: ticket})
		if g.Standing == Called && c.ask(room, &g) {
			c.mu.Lock()
			defer c.mu.Unlock()
			now := time.Since(start)
			c.served = append(c.served, visit{arrived, now})
			for _, g := range told {
				c.guesses = append(c.guesses, guess{g.told, now - g.took})
			}
			return
		}
		if g.Standing == Called {
			c.mu.Lock()
			c.sentBack++
			c.mu.Unlock()
		}
		n := room.Wait(&g)
		ticket = n.Ticket
		now := time.Since(start)
		if n.Known && n.Estimate > 0 {
			told = append(told, guess{n.Estimate, now})
		}
		if now-arrived+n.Again > patience {
			c.mu.Lock()
			c.gone++
			c.mu.Unlock()
			return
		}
		time.Sleep(n.Again + time.Duration(rng.IntN(300))*time.Millisecond)
	}
}

// ask is what the ladder does for a visit whose turn has come.
func (c *crowd) ask(room *Room, g *Guest) bool {
	leave, _ := room.Await(context.Background(), g, Hold)
	if leave == nil {
		room.Leave(g)
		return false
	}
	timer := time.NewTimer(Hold)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
		leave()
	case <-timer.C:
		leave()
		room.Leave(g)
		return false
	}
	time.Sleep(c.takes)
	<-c.slots
	return room.Serve(g, DefaultPass) != ""
}

// arrive lets n visitors come within some time.
func (c *crowd) arrive(t *testing.T, n int, within time.Duration, seed uint64) {
	start := time.Now()
	var all sync.WaitGroup
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		at := time.Duration(rng.Int64N(int64(within)))
		own := rand.New(rand.NewPCG(seed, uint64(i)+1))
		all.Go(func() {
			time.Sleep(at)
			c.come(start, own)
		})
	}
	all.Wait()
}

// inversions is by how much, at most, somebody who was let in had arrived after
// somebody who was let in later.
func (c *crowd) inversions() (worst time.Duration, at99 time.Duration) {
	return 0, 0
}

func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(1)
		c.arrive(t, 10000, 10*time.Second, 1)
		last := c.served[len(c.served)-1].in
		t.Logf("served %d gone %d sent back %d in %v; window %d", len(c.served), c.gone, c.sentBack, last, c.rooms[0].window.called())
		latest := time.Duration(0)
		var lags []time.Duration
		for _, v := range c.served {
			if v.arrived > latest {
				latest = v.arrived
			}
			lags = append(lags, latest-v.arrived)
		}
		hist := map[time.Duration]int{}
		for _, l := range lags {
			hist[l.Truncate(200*time.Millisecond)]++
		}
		t.Log(hist)
		per := map[int]int{}
		for _, v := range c.served {
			per[int(v.in/time.Second)]++
		}
		for s := 0; s < int(last/time.Second); s++ {
			if s%2 == 0 {
				t.Log(s, per[s])
			}
		}
		sum := 0
		for s := 20; s < 60; s++ {
			sum += per[s]
		}
		t.Log("mean", sum/40)
		ratio := map[int]int{}
		for _, g := range c.guesses {
			if g.took > 0 {
				ratio[min(40, int(10*float64(g.told)/float64(g.took)))]++
			}
		}
		t.Log(ratio)
	})
}
