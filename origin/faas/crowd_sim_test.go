package faas

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"spillway/cmd/surge/functions"
	"spillway/edge/overflow"
	"spillway/edge/synctest"
)

// A crowd is a flash crowd in virtual time: half of what the origin can do, then
// within a second three times as much, then ten times. What the origin cannot take
// goes to the emulated platform.
type crowd struct {
	capacity       float64 // of the origin, requests a second
	threefold, ten time.Duration
	length         time.Duration
	seed           uint64
}

func (c crowd) load(at time.Duration) float64 {
	rise := func(from time.Duration) float64 { return min(max((at-from).Seconds(), 0), 1) }
	return c.capacity * (0.5 + 2.5*rise(c.threefold) + 7*rise(c.ten))
}

// A style is how requests that leave the origin are put to the platform.
type style string

const (
	ungated   style = "cap alone"
	gated     style = "gate"
	prewarmed style = "gate and prewarming"
)

// A reception is what became of the requests that left the origin.
type reception struct {
	mu                        sync.Mutex
	first, took               []time.Duration // in the first three seconds of the crowd, and from ten times on
	answered, refused, failed int
	platform                  functions.Stats
	bill                      functions.Bill
	state                     State
}

func quantile(took []time.Duration, q float64) time.Duration {
	slices.Sort(took)
	return took[int(q*float64(len(took)-1))].Round(time.Millisecond)
}

// emulated is a platform of the emulator, called without a network.
func emulated(t *testing.T, c functions.Config) (*functions.Emulator, fake) {
	t.Helper()
	e, err := functions.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e, func(ctx context.Context, r *Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequestWithContext(ctx, r.Method, "http://function"+r.Path, nil))
		resp := w.Result()
		resp.ContentLength = int64(w.Body.Len())
		if resp.StatusCode == http.StatusTooManyRequests {
			return nil, &Error{Class: Throttled}
		}
		return resp, nil
	}
}

// run lets the crowd come.
func (c crowd) run(t *testing.T, p functions.Config, s style) *reception {
	t.Helper()
	res := new(reception)
	synctest.Test(t, func(t *testing.T) {
		e, provider := emulated(t, p)
		config := Config{
			Memory: 512 << 20, Timeout: 5 * time.Second, MaxConcurrency: 1000, MaxResponse: 1 << 20,
			Ramp: RampConfig{Burst: 1000, PerSecond: 100}, WarmUp: "/warm-up",
		}
		f := New("thumb", config, provider, nil, slog.New(slog.DiscardHandler))
		var calls sync.WaitGroup
		began := time.Now()
		ask := func(at time.Duration) {
			start := time.Now()
			req := ask("GET", "/x", "", http.Header{})
			var resp *http.Response
			var err error
			if s == ungated {
				resp, err = provider(context.Background(), req)
			} else {
				resp, err = f.Invoke(context.Background(), req, "v")
			}
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			res.mu.Lock()
			defer res.mu.Unlock()
			switch {
			case err != nil && AsError(err).Class == Refused:
				res.refused++
			case err != nil:
				res.failed++
			default:
				res.answered++
				if at >= c.ten {
					res.took = append(res.took, time.Since(start))
				} else if at >= c.threefold && at < c.threefold+3*time.Second {
					res.first = append(res.first, time.Since(start))
				}
			}
		}
		rng := rand.New(rand.NewPCG(c.seed, 1))
		var trend overflow.Trend
		arrived, bin := 0, overflow.Bin
		for at := time.Duration(0); at < c.length; {
			at += time.Duration(rng.ExpFloat64() / c.load(at) * float64(time.Second))
			for ; bin <= at; bin += overflow.Bin {
				time.Sleep(time.Until(began.Add(bin)))
				trend.Observe(float64(arrived) / overflow.Bin.Seconds())
				arrived = 0
				if s == prewarmed {
					excess := trend.Ahead(f.StartTime()+overflow.Bin) - 0.8*c.capacity
					f.Prewarm(time.Now(), overflow.Instances(excess, f.CallTime()))
				}
			}
			time.Sleep(time.Until(began.Add(at)))
			arrived++
			if rng.Float64() >= c.capacity/c.load(at) {
				calls.Go(func() { ask(at) })
			}
		}
		calls.Wait()
		time.Sleep(config.Timeout) // warm-ups end
		synctest.Wait()
		res.platform, res.bill, res.state = e.Stats(), e.Bill(), f.State()
		if held := res.state.InFlight + res.state.Starting + res.state.Waiting; held != 0 {
			t.Errorf("%s: %+v at rest", s, res.state)
		}
	})
	return res
}

// TestCrowdInVirtualTime puts a flash crowd to the emulator's model of a platform
// that starts an instance in half a second, and answers in 60 ms.
func TestCrowdInVirtualTime(t *testing.T) {
	c := crowd{capacity: 200, threefold: 4 * time.Second, ten: 10 * time.Second, length: 20 * time.Second, seed: 1}
	p := functions.Config{Service: 60 * time.Millisecond, CV: 0.5, ColdStart: 500 * time.Millisecond, ColdCV: 0.36, Seed: 1}
	p999 := map[style][2]time.Duration{}
	for _, s := range []style{ungated, gated, prewarmed} {
		r := c.run(t, p, s)
		p999[s] = [2]time.Duration{quantile(r.first, .999), quantile(r.took, .999)}
		t.Logf("%s: p99 %v and p99.9 %v at first, %v and %v at 10x; cold %d, warm-ups %d; $%.3f per million", s,
			quantile(r.first, .99), p999[s][0], quantile(r.took, .99), p999[s][1],
			r.platform.ColdStarts, r.state.WarmUps, r.bill.USD/float64(r.answered)*1e6)
		if throttled := r.platform.ThrottledRamp + r.platform.ThrottledCap; r.failed+r.refused+throttled > 0 {
			t.Errorf("%s: %d failed, %d refused, %d throttled", s, r.failed, r.refused, throttled)
		}
	}
	if p999[gated][1] >= p999[ungated][1]/2 || p999[prewarmed][1] >= p999[ungated][1]/2 || p999[prewarmed][0] >= p999[ungated][0]/2 {
		t.Errorf("p99.9 %v", p999)
	}
}
