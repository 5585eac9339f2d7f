package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"spillway/cmd/surge/crowd"
	bench "spillway/cmd/surge/origin"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
)

// An edgeState is the part of the edge's /status that the demo shows.
type edgeState struct {
	Ready     string                  `json:"ready"`
	Listeners []string                `json:"listeners"`
	Origins   map[string]origin.State `json:"origins"`
	Functions map[string]faas.State   `json:"functions"`
	Budgets   map[string]budget.State `json:"budgets"`
}

// A frame is one look at everything.
type frame struct {
	at      time.Time
	crowd   crowd.Snapshot
	origin  bench.Stats
	edge    edgeState
	busy    float64            // share of the machine's CPU time in use
	cpu     map[string]float64 // CPU seconds of each part so far
	toggles toggles
}

// toggles are what the visitor of the demo has done to it.
type toggles struct {
	Halved    bool
	Slowed    bool
	Killed    bool
	Throttled bool
	Emptied   bool
}

// A watcher looks at all parts twice a second, and keeps what it saw.
type watcher struct {
	stage *stage
	crowd *crowd.Crowd

	mu      sync.Mutex
	frames  []frame
	toggles toggles
	idle    float64
	total   float64
}

// watchEvery is the time between two looks.
const watchEvery = 500 * time.Millisecond

// run looks until ctx ends, and calls show with each frame.
func (w *watcher) run(ctx context.Context, show func(frame)) {
	w.idle, w.total = machineIdle()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			show(w.look(ctx))
		}
	}
}

// look takes a frame. A part that does not answer keeps its last state: it may
// be the one that was just killed.
func (w *watcher) look(ctx context.Context) frame {
	f := frame{at: time.Now(), crowd: w.crowd.Snapshot(), cpu: w.stage.cpu()}
	if last := w.last(); last != nil {
		f.origin, f.edge = last.origin, last.edge
	}
	if stats, err := w.stage.originStats(ctx); err == nil {
		f.origin = stats
	}
	if state, err := w.stage.edgeState(ctx); err == nil {
		f.edge = state
	}
	idle, total := machineIdle()
	w.mu.Lock()
	defer w.mu.Unlock()
	if total > w.total {
		f.busy = 1 - (idle-w.idle)/(total-w.total)
	}
	w.idle, w.total = idle, total
	f.toggles = w.toggles
	w.frames = append(w.frames, f)
	return f
}

func (w *watcher) last() *frame {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.frames) == 0 {
		return nil
	}
	return &w.frames[len(w.frames)-1]
}

// press carries out a key of the live view: h, s, k, t or b. Each undoes itself
// when it is pressed again.
func (w *watcher) press(ctx context.Context, key string) error {
	w.mu.Lock()
	next := w.toggles
	w.mu.Unlock()
	var err error
	switch key {
	case "h":
		next.Halved = !next.Halved
		slots := originSlots
		if next.Halved {
			slots /= 2
		}
		err = w.stage.control(ctx, url.Values{"slots": {fmt.Sprint(slots)}})
	case "s":
		next.Slowed = !next.Slowed
		speed := "1"
		if next.Slowed {
			speed = "0.5"
		}
		err = w.stage.control(ctx, url.Values{"speed": {speed}})
	case "k":
		next.Killed = !next.Killed
		verb := "revive"
		if next.Killed {
			verb = "die"
		}
		err = w.stage.control(ctx, url.Values{verb: {"1"}})
	case "t":
		next.Throttled = !next.Throttled
		on := "0"
		if next.Throttled {
			on = "1"
		}
		err = post(ctx, w.stage.functions, "http://functions/throttle", url.Values{"on": {on}})
	case "b":
		next.Emptied = !next.Emptied
		verb := "reset"
		if next.Emptied {
			verb = "empty"
		}
		_, err = w.stage.admin.Post(ctx, "/budget/spill?"+verb+"=1")
	default:
		return nil
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.toggles = next
	w.mu.Unlock()
	return nil
}

func (s *stage) control(ctx context.Context, query url.Values) error {
	return post(ctx, http.DefaultClient, s.originURL+"/control", query)
}

func (s *stage) originStats(ctx context.Context) (bench.Stats, error) {
	var stats bench.Stats
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.originURL+"/stats", nil)
	if err != nil {
		return stats, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return stats, err
	}
	defer resp.Body.Close()
	return stats, json.NewDecoder(resp.Body).Decode(&stats)
}

func (s *stage) edgeState(ctx context.Context) (edgeState, error) {
	var state edgeState
	err := s.admin.Status(ctx, &state)
	return state, err
}

// cpu returns the CPU seconds of each part so far.
func (s *stage) cpu() map[string]float64 {
	return map[string]float64{
		"edge": s.edge.cpu(), "origin": s.origin.cpu(), "functions": s.host.cpu(), "crowd": ownCPU(),
	}
}

// ownCPU is the CPU time of the demo itself, which is the crowd's.
func ownCPU() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
