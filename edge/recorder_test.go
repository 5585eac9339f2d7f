package edge_test

import (
	"testing"
	"time"

	"spillway/edge/outcome"
)

// TestRecorderTellsTheSteps: each request that the cache did not answer is kept,
// with the way that it went.
func TestRecorderTellsTheSteps(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.keeps(t, "/stale/a", "max-age=0")
		w.origin.says(cacheable(60, "kept"))
		w.ask("GET", "/plain/hit", "")
		w.ask("GET", "/plain/hit", "").check(t, 200, "hit; reason=fresh", "kept")
		release := w.occupy(t)
		f := func(method, path, id string, want outcome.Outcome, backend string, steps ...outcome.Outcome) {
			t.Helper()
			w.ask(method, path, "", "X-Request-Id", id)
			w.quiet(t)
			e, ok := w.server.Recorder().Find(id, time.Now())
			if !ok || e.Outcome != want || e.Backend != backend || e.Method != method || e.Status == 0 || e.Took <= 0 {
				t.Errorf("%s: %+v", id, e)
			}
			taken := e.Trail.Steps()
			if len(taken) != len(steps) || len(steps) > 0 && (e.Limit != 1 || e.InFlight != 1) {
				t.Fatalf("%s: %+v, limit %d, in flight %d", id, taken, e.Limit, e.InFlight)
			}
			for i, s := range steps {
				if taken[i].Outcome != s || s == outcome.Queued && taken[i].Seconds <= 0 {
					t.Errorf("%s: step %d is %+v", id, i, taken[i])
				}
			}
		}
		f("GET", "/spill/x?token=secret", "a", outcome.Function, "first", outcome.Queued, outcome.Function)
		f("GET", "/stale/a", "b", outcome.Stale, "", outcome.Queued, outcome.Stale)
		f("POST", "/spill/x", "c", outcome.Shed, "", outcome.Queued, outcome.Shed)
		f("GET", "/nowhere", "d", outcome.Refused, "")
		release()
		w.settled(t)
		var all uint64
		for o, n := range w.server.Outcomes() {
			if o != outcome.Hit {
				all += n
			}
		}
		seconds, entries := w.server.Recorder().Last(time.Now())
		var seen uint64
		for _, s := range seconds {
			seen += s.Seen
		}
		if seen != all || uint64(len(entries)) != all {
			t.Errorf("%d seen and %d kept of %d", seen, len(entries), all)
		}
	})
}
