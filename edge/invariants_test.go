package edge_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
)

// A siege holds every request at the origin until it is told to end, and knows of
// each where it should be.
type siege struct {
	w      *world
	slots  int
	asked  *int // so far, in all sieges of the world
	inside chan *held
	heard  chan reply
	// running are at the origin, waiting are in its queue, the oldest first.
	running []*held
	waiting []string
}

// A held request is at the origin until leave is closed.
type held struct {
	path  string
	leave chan struct{}
}

// A reply is what the visitor of the path got.
type reply struct {
	path string
	answer
}

// most is how many may be in flight before a request for the path: the whole limit,
// or half of it, rounded down and never none.
func (s *siege) most(path string) int {
	if strings.HasPrefix(path, "/half/") {
		return max(1, s.slots/2)
	}
	return s.slots
}

// soon returns what comes, which does so at once or not at all.
func soon[T any](t *rapid.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("%s does not come", what)
		panic("unreachable")
	}
}

// arrive sends a request, and asks that it goes where it should.
func (s *siege) arrive(t *rapid.T, route string) {
	*s.asked++
	path := fmt.Sprintf("/%s/%d", route, *s.asked)
	go func() { s.heard <- reply{path, s.w.ask("GET", path, "")} }()
	switch {
	case len(s.running) < s.most(path):
		s.enters(t, path)
	case len(s.waiting) < s.slots:
		s.waiting = append(s.waiting, path)
	default:
		a := soon(t, "the answer for "+path, s.heard)
		if a.path != path || a.spillway != "function; reason=origin-saturated" {
			t.Fatalf("%s: %q (%v) with %d of %d in flight and %d waiting", a.path, a.spillway, a.err, len(s.running), s.slots, len(s.waiting))
		}
	}
	s.balance(t)
}

// enters asks that the request for path is the next at the origin.
func (s *siege) enters(t *rapid.T, path string) {
	select {
	case h := <-s.inside:
		if h.path != path {
			t.Fatalf("%s is at the origin, and not %s", h.path, path)
		}
		s.running = append(s.running, h)
	case a := <-s.heard:
		t.Fatalf("%s: %q (%v) with %d of %d in flight", a.path, a.spillway, a.err, len(s.running), s.slots)
	case <-time.After(10 * time.Second):
		t.Fatalf("%s does not come to the origin", path)
	}
}

// finish ends a request at the origin. Its place goes to the newest of those who may
// have it.
func (s *siege) finish(t *rapid.T, i int) {
	h := s.running[i]
	s.running = slices.Delete(s.running, i, i+1)
	close(h.leave)
	if a := soon(t, "the answer for "+h.path, s.heard); a.path != h.path || a.spillway != "origin" && a.spillway != "queued" {
		t.Fatalf("%s: %q (%v), when %s ended", a.path, a.spillway, a.err, h.path)
	}
	for i, path := range slices.Backward(s.waiting) {
		if len(s.running) < s.most(path) {
			s.waiting = slices.Delete(s.waiting, i, i+1)
			s.enters(t, path)
			break
		}
	}
	s.balance(t)
}

// balance asks the limiter whether all are where they should be.
func (s *siege) balance(t *rapid.T) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		l := s.w.limiter()
		if l.InFlight == len(s.running) && l.Queued == len(s.waiting) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d in flight and %d waiting, want %d and %d", l.InFlight, l.Queued, len(s.running), len(s.waiting))
		}
	}
}

// lift ends what a failure has left, so that the next siege begins at an idle origin.
func (s *siege) lift() {
	for _, h := range s.running {
		close(h.leave)
	}
	for deadline := time.Now().Add(5 * time.Second); s.w.server.InFlight() > 0 && time.Now().Before(deadline); {
		select {
		case h := <-s.inside:
			close(h.leave)
		case <-s.heard:
		case <-time.After(time.Millisecond):
		}
	}
}

// TestSpillsOnlyWhatHasNoRoom: a request goes to a function only if in this instant its
// part of the origin's limit is in use, and as many wait for it as may.
func TestSpillsOnlyWhatHasNoRoom(t *testing.T) {
	over := make(chan struct{})
	inside, heard, asked := make(chan *held, 100), make(chan reply, 100), 0
	worlds := map[int]*world{}
	for slots := 1; slots <= 4; slots++ {
		w := newWorldWith(t, "h2", slots, func(_ *edge.Config, routes []edge.RouteConfig) {
			half := *routes[2].Overflow
			half.At = 0.5
			routes[0] = edge.RouteConfig{Match: edge.MatchConfig{Path: "/half/*"}, Origin: "app", Overflow: &half}
		})
		c := w.origins["app"]
		c.Queue.Wait = time.Minute // nobody leaves the queue for the sake of time
		w.origins["app"] = c
		w.reload(t)
		w.origin.says(func(_ http.ResponseWriter, r *http.Request) {
			h := &held{r.URL.Path, make(chan struct{})}
			inside <- h
			select {
			case <-h.leave:
			case <-over:
			}
		})
		worlds[slots] = w
	}
	t.Cleanup(func() { close(over) })
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.IntRange(1, 4).Draw(t, "slots")
		s := &siege{w: worlds[slots], slots: slots, asked: &asked, inside: inside, heard: heard}
		defer s.lift()
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			if len(s.running) > 0 && rapid.IntRange(0, 2).Draw(t, "step") == 0 {
				s.finish(t, rapid.IntRange(0, len(s.running)-1).Draw(t, "which"))
			} else {
				s.arrive(t, rapid.SampledFrom([]string{"spill", "half"}).Draw(t, "route"))
			}
		}
		for len(s.running) > 0 {
			s.finish(t, 0)
		}
	})
}

// misbehaves answers as the path says: whole or in parts, with errors, or never.
func misbehaves(rw http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	switch {
	case strings.Contains(r.URL.Path, "cut"):
		rw.Header().Set("Content-Length", "100")
		io.WriteString(rw, "part")
		rw.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case strings.Contains(r.URL.Path, "gone"):
		panic(http.ErrAbortHandler)
	case strings.Contains(r.URL.Path, "error"):
		rw.WriteHeader(http.StatusServiceUnavailable)
	case strings.Contains(r.URL.Path, "hang"):
		<-r.Context().Done()
	case strings.Contains(r.URL.Path, "store"):
		cacheable(60, "stored")(rw, r)
	default:
		io.WriteString(rw, "fine")
	}
}

// TestOutcomesAddUp: whatever visitors and backends do, each request ends in exactly
// one outcome, and it is the one that its visitor was told.
func TestOutcomesAddUp(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newWorldWith(t, proto, 2, func(_ *edge.Config, routes []edge.RouteConfig) {
				routes[2].Overflow = &overflow.Config{To: []string{"first"}, At: 1, Methods: []string{"GET", "HEAD"}, MaxBody: 1 << 10}
			})
			w.origin.says(echoSockets)
			if s, err := w.openSocket(t, "/plain/socket"); err != nil {
				t.Fatal(err)
			} else {
				s.close()
			}
			for _, backend := range []*script{w.origin, w.first, w.second} {
				backend.says(misbehaves)
			}
			seen := map[string]uint64{}
			rapid.Check(t, func(t *rapid.T) {
				var mu sync.Mutex
				var all sync.WaitGroup
				for i := range rapid.IntRange(1, 6).Draw(t, "requests") {
					method := rapid.SampledFrom([]string{"GET", "GET", "GET", "HEAD", "POST"}).Draw(t, "method")
					route := rapid.SampledFrom([]string{"plain", "stale", "spill", "nowhere"}).Draw(t, "route")
					does := rapid.SampledFrom([]string{"fine", "fine", "store", "cut", "gone", "error", "hang"}).Draw(t, "does")
					path := fmt.Sprintf("/%s/%s/%d", route, does, i)
					patience := time.Duration(rapid.IntRange(1, 30).Draw(t, "patience")) * time.Millisecond
					body := rapid.SampledFrom([]int{0, 10, 6 << 20}).Draw(t, "body")
					all.Go(func() {
						if word := w.tries(method, path, body, patience); word != "" {
							mu.Lock()
							defer mu.Unlock()
							seen[word]++
						}
					})
				}
				all.Wait()
				w.addsUp(t, seen)
			})
		})
	}
}

// tries asks with a patience that may be too short, and returns the outcome that a
// complete answer tells.
func (w *world) tries(method, path string, body int, patience time.Duration) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if method != "POST" {
		body = 0
	}
	req, err := http.NewRequestWithContext(ctx, method, w.visitor.URL+path, strings.NewReader(strings.Repeat("x", body)))
	if err != nil {
		return ""
	}
	resp, err := w.visitor.Client.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return ""
	}
	word, _, _ := strings.Cut(resp.Header.Get("Spillway"), ";")
	return word
}

// addsUp compares the requests that have come with the outcomes that were counted.
func (w *world) addsUp(t *rapid.T, seen map[string]uint64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		arrived, sum, counted := w.arrived.Load(), int64(0), w.server.Outcomes()
		for _, n := range counted {
			sum += int64(n)
		}
		if w.server.InFlight() == 0 && sum == arrived {
			for word, n := range seen {
				if counted[outcome.Outcome(word)] < n {
					t.Fatalf("%d visitors were told %s, counted are %v", n, word, counted)
				}
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests have come, counted are %v", arrived, counted)
		}
	}
}
