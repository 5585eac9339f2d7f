package origin

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/synctest"
	"spillway/origin/limit"
	"spillway/origin/scale"
)

// A crowd asks an origin of one server, of four slots and 100 ms on average, in virtual
// time, and tells it what was asked. Of two servers one would be drawn for each request,
// without a seed, and now and then a crowd would be unlike the others.
type crowd struct {
	*Origin
	rand *rand.Rand
	// asks are requests that have come, and taken those that had a permit.
	asks, taken atomic.Int64
	wg          sync.WaitGroup
}

// crowdCapacity is what the server can do, in requests a second.
const crowdCapacity = 40

func newCrowd(t *testing.T, seed uint64) *crowd {
	c := &crowd{rand: rand.New(rand.NewPCG(seed, 1))}
	slots, service := make(chan struct{}, 4), rand.New(rand.NewPCG(seed, 2))
	var mu sync.Mutex
	c.Origin = newOrigin(t, Config{
		Limit:    limit.Config{Min: 1, Max: 10000},
		ScaleOut: scale.Config{Target: 0.8, AtLeast: time.Minute, Every: 5 * time.Minute},
	})
	c.dial = network{"a": requests(func(conn net.Conn, _ *http.Request) bool {
		slots <- struct{}{}
		mu.Lock()
		takes := time.Duration(service.ExpFloat64() * float64(100*time.Millisecond))
		mu.Unlock()
		time.Sleep(takes)
		<-slots
		io.WriteString(conn, ok+"Content-Length: 0\r\n\r\n")
		return true
	})}.dial
	return c
}

// tell follows the requests, as the edge does.
func (c *crowd) tell(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		now := <-tick.C
		asks, taken, latency := c.asks.Swap(0), c.taken.Swap(0), 0.0
		for _, b := range c.limiter.State().Baselines {
			latency = b.Latency.Seconds()
		}
		c.Follow(now, scale.Asked{Work: float64(asks) * latency, Taken: float64(taken) * latency})
	}
}

// come sends requests for a while, at a multiple of what the server can do.
func (c *crowd) come(t *testing.T, load float64, length time.Duration) {
	for end := time.Now().Add(length); ; {
		time.Sleep(time.Duration(c.rand.ExpFloat64() / (load * crowdCapacity) * float64(time.Second)))
		if !time.Now().Before(end) {
			return
		}
		c.asks.Add(1)
		permit, free := c.limiter.Acquire(0, 1)
		if !free {
			continue // a function answers it
		}
		c.taken.Add(1)
		c.wg.Go(func() {
			resp, err := c.Do(Outgoing(t.Context(), get(t, "/"), visitor, nil), permit)
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		})
	}
}

// TestWantedInACrowd plays half of what an origin can do, three times, ten times and
// half of it again, with everything real but the network and the time.
func TestWantedInACrowd(t *testing.T) {
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, seed)
			ctx, stop := context.WithCancel(t.Context())
			var background sync.WaitGroup
			background.Go(func() { c.Run(ctx) })
			background.Go(func() { c.tell(ctx) })
			f := func(load float64, length time.Duration, least, most float64, needed bool) {
				t.Helper()
				c.come(t, load, length)
				s := c.State().Scale
				t.Logf("seed %d, %vx after %v: wants %.2f times, %d servers", seed, load, length, s.Ratio, s.Wanted)
				if s.Ratio < least || s.Ratio > most || s.Needed != needed {
					t.Errorf("%vx after %v: %+v, want %v to %v, needed %v", load, length, s, least, most, needed)
				}
			}
			f(0.5, 30*time.Second, 0.4, 1.1, false)
			f(3, 45*time.Second, 3, 4.7, false)
			f(3, 45*time.Second, 3, 4.7, true)
			f(10, 45*time.Second, 10, 15.6, true)
			f(0.5, 10*time.Minute, 0.4, 1, false)
			stop()
			c.wg.Wait()
			background.Wait()
			c.retire()
		})
	}
}

// TestWorkFactorInACrowd: what is asked, beyond what the origin can do by the learned
// latencies and this factor, is what it does not take.
func TestWorkFactorInACrowd(t *testing.T) {
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, seed)
			ctx, stop := context.WithCancel(t.Context())
			var background sync.WaitGroup
			background.Go(func() { c.Run(ctx) })
			background.Go(func() { c.tell(ctx) })
			f := func(load, least, most float64) {
				t.Helper()
				c.come(t, load, time.Minute)
				l := c.limiter.State()
				latency := l.Baselines[0].Latency.Seconds()
				beyond := load*crowdCapacity - l.Useful/c.WorkFactor()/latency
				t.Logf("seed %d, %vx: %.0f requests a second beyond it, by a factor of %.2f; %.0f without", seed, load,
					beyond, c.WorkFactor(), load*crowdCapacity-l.Useful/latency)
				if beyond < least*crowdCapacity || beyond > most*crowdCapacity {
					t.Errorf("%vx: %v requests a second", load, beyond)
				}
			}
			f(0.5, -10, 0.1)
			f(1.5, 0.1, 0.8)
			f(3, 1.5, 2.5)
			f(10, 8, 9.5)
			stop()
			c.wg.Wait()
			background.Wait()
			c.retire()
		})
	}
}
