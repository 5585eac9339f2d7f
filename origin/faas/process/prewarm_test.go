package process

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"spillway/origin/faas"
)

// TestPrewarmStartsInstances: warm-ups of the real bootstrap start what was asked
// for, and what comes then starts nothing.
func TestPrewarmStartsInstances(t *testing.T) {
	c := thumbnail(t)
	c.MaxInstances = 3
	h, p := host(t, c)
	f := faas.New("f", faas.Config{
		Provider: "process", Memory: 128 << 20, Timeout: 20 * time.Second, MaxConcurrency: 3, MaxResponse: 1 << 20,
		Ramp: faas.RampConfig{Burst: 3}, WarmUp: "/.well-known/spillway/warm-up",
	}, p, nil, slog.New(slog.DiscardHandler))
	f.KeepReady(3, time.Now().Add(time.Hour))
	f.Prewarm(time.Now(), 0)
	if s := f.State(); s.Starting+s.Ready != 3 {
		t.Errorf("%+v", s)
	}
	for s := f.State(); s.Ready < 3 || s.InFlight > 0; s = f.State() {
		f.Prewarm(time.Now(), 0) // one that has failed is made again
		time.Sleep(time.Millisecond)
	}
	started := h.Stats().Functions["f"]
	if started.Instances == 0 || started.Instances > 3 || started.Errors > 0 {
		t.Errorf("%+v", started)
	}
	var wg sync.WaitGroup
	for range started.Instances {
		wg.Go(func() {
			r := get("/overlay/market.jpg")
			r.Query = "text=visitor%201&w=320"
			resp, err := f.Invoke(t.Context(), r, "visitor")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	wg.Wait()
	if s := h.Stats().Functions["f"]; s.ColdStarts != started.ColdStarts {
		t.Errorf("%d cold starts after prewarming, %d by it", s.ColdStarts, started.ColdStarts)
	}
}
