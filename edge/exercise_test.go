package edge_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/exercise"
)

// newExercise is a world that puts requests of /spill/ to its preferred function,
// too. The function says what the origin says unless the test lets it say something
// else.
func newExercise(t *testing.T, proto string, change ...func(*edge.RouteConfig)) *world {
	w := newWorldWith(t, proto, 4, func(_ *edge.Config, routes []edge.RouteConfig) {
		for i := range routes {
			if routes[i].Overflow == nil {
				continue
			}
			o := *routes[i].Overflow
			o.To, o.Exercise, o.ExerciseFields, o.ExerciseBody = []string{"first"}, 1, []string{"Content-Type", "Location"}, exercise.Exact
			routes[i].Overflow = &o
			for _, c := range change {
				c(&routes[i])
			}
		}
	})
	same := func(rw http.ResponseWriter, r *http.Request) { fmt.Fprintf(rw, "drawn %s", r.URL.Path) }
	w.origin.says(same)
	w.first.says(same)
	background(t, w.server.Exercise)
	return w
}

// proof is what is known of the preferred function in the place of /spill/.
func (w *world) proof(t *testing.T) exercise.State {
	t.Helper()
	for _, p := range w.server.Proofs() {
		if strings.HasSuffix(p.Route, "/spill/*") && p.Function == "first" {
			return p.State
		}
	}
	t.Fatal("there is no such proof")
	return exercise.State{}
}

// compared waits until something came of so many requests, and returns what.
func (w *world) compared(t *testing.T, n uint64) exercise.State {
	t.Helper()
	for {
		s := w.proof(t)
		done := s.Compared
		for _, skipped := range s.Uncompared {
			done += skipped
		}
		if done >= n {
			return s
		}
		if t.Context().Err() != nil {
			t.Fatalf("only %d of %d: %+v", done, n, s)
		}
	}
}

// TestPathExercise: the visitor gets the origin's answer, and a function the same
// request; it costs something, which is told apart.
func TestPathExercise(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newExercise(t, proto)
			asked := make(chan *http.Request, 10)
			w.first.says(func(rw http.ResponseWriter, r *http.Request) {
				asked <- r
				fmt.Fprintf(rw, "drawn %s", r.URL.Path)
			})
			if s := w.proof(t); s.Verdict != exercise.Never {
				t.Errorf("at first: %+v", s)
			}
			w.ask("GET", "/spill/a%2Fb?x=1", "", "Cookie", "a=b", "Range", "bytes=0-", "X-Amz-Evil", "1").check(t, 200, "origin", "drawn /spill/a/b")
			s := w.compared(t, 1)
			if s.Verdict != exercise.Proved || s.Compared != 1 || s.Equal != 1 {
				t.Errorf("afterwards: %+v", s)
			}
			r := <-asked
			if r.Method != "GET" || r.RequestURI != "/spill/a%2Fb?x=1" || r.Header.Get("Cookie") != "a=b" ||
				r.Header.Get("Range") != "" || r.Header.Get("X-Amz-Evil") != "" {
				t.Errorf("the function was asked %s %s %v", r.Method, r.RequestURI, r.Header)
			}
			var state edge.RouteState
			await(t, "the call is paid", func() bool {
				state = w.routeState(t, "default/spill/*", 0)
				return state.Exercises == 1
			})
			if state.ExercisesUSD <= 0 || state.CostUSD != 0 {
				t.Errorf("%+v", state)
			}
			w.ask("GET", "/spill/soon", "").check(t, 200, "origin", "")
			if n := w.first.requests.Load(); n != 1 {
				t.Errorf("%d calls within the least gap", n)
			}
		})
	}
}

func TestPathExerciseFindsDifferences(t *testing.T) {
	f := func(what, method string, function http.HandlerFunc, want exercise.Difference) {
		t.Run(what, func(t *testing.T) {
			w := newExercise(t, "h2", func(c *edge.RouteConfig) {
				if method == "HEAD" {
					c.Overflow.ExerciseBody = exercise.Off
				}
			})
			w.first.says(function)
			w.ask(method, "/spill/x", "").check(t, 200, "origin", "")
			s := w.compared(t, 1)
			got := exercise.Difference{}
			if s.Last != nil {
				got = s.Last.Difference
			}
			if s.Compared != 1 || got != want {
				t.Errorf("%+v, %+v", s, got)
			}
			if s.Last != nil && (s.Last.Path != "/spill/x" || s.Last.Method != method || s.Last.ID == "") {
				t.Errorf("it was %+v", s.Last)
			}
		})
	}
	f("status", "GET", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(404) }, exercise.Difference{Kind: exercise.Status, What: "200 and 404"})
	f("field", "GET", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "image/png")
		io.WriteString(rw, "drawn /spill/x")
	}, exercise.Difference{Kind: exercise.Header, What: "Content-Type"})
	f("body", "GET", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "painted /spill/x") }, exercise.Difference{Kind: exercise.Body})
	f("error of its own", "GET", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }, exercise.Difference{Kind: exercise.Failed, What: "ambiguous"})
	f("no answer", "GET", func(rw http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, exercise.Difference{Kind: exercise.Failed, What: "unavailable"})
	f("head", "HEAD", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}, exercise.Difference{})
	f("head of another kind", "HEAD", func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("Content-Type", "image/png") }, exercise.Difference{Kind: exercise.Header, What: "Content-Type"})
}

// TestPathExerciseLeavesAlone: what would not spill is not put to a function, nor is
// what an answer to proves nothing. The request at the end is compared, so that
// those before must have been passed over.
func TestPathExerciseLeavesAlone(t *testing.T) {
	w := newExercise(t, "h2", func(c *edge.RouteConfig) { c.Overflow.Methods = []string{"GET", "HEAD", "POST", "OPTIONS"} })
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/spill/none":
			rw.WriteHeader(404)
		case "/spill/part":
			rw.Header().Set("Content-Range", "bytes 0-0/2")
			rw.WriteHeader(206)
		case "/spill/large":
			rw.Header().Set("Content-Length", fmt.Sprint(exercise.MaxBody+1))
			io.Copy(rw, io.LimitReader(zeros{}, exercise.MaxBody+1))
		case "/spill/brotli":
			rw.Header().Set("Content-Encoding", "br")
			io.WriteString(rw, "?")
		case "/spill/error":
			rw.WriteHeader(500)
		default:
			io.WriteString(rw, "drawn "+r.URL.Path)
		}
	})
	ask := func(method, path, body string, header ...string) {
		t.Helper()
		if a := w.ask(method, "/spill/"+path, body, header...); a.err != nil || a.spillway != "origin" {
			t.Fatalf("%s: %+v", path, a)
		}
	}
	ask("POST", "x", "body")
	ask("OPTIONS", "x", "")
	ask("HEAD", "x", "")
	ask("GET", "x", "a body")
	ask("GET", "x", "", "User-Agent", "somebot/1.0 (+http://bot.example)")
	ask("GET", "x", "", "Sec-Purpose", "prefetch")
	ask("GET", "x", "", "Accept", "text/event-stream")
	for _, path := range []string{"none", "part", "large", "brotli", "error"} {
		ask("GET", path, "")
	}
	asked := make(chan string, 10)
	w.first.says(func(rw http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		io.WriteString(rw, "drawn "+r.URL.Path)
	})
	ask("GET", "last", "")
	s := w.compared(t, 1)
	if n := w.first.requests.Load(); n != 1 || s.Verdict != exercise.Proved || len(s.Uncompared) > 0 || <-asked != "/spill/last" {
		t.Errorf("%d calls, %+v", n, s)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestPathExerciseGivesUp: what cannot be compared to its end is not put to a
// function, and takes no slot with it.
func TestPathExerciseGivesUp(t *testing.T) {
	f := func(what, why string, origin http.HandlerFunc, ask func(t *testing.T, w *world)) {
		t.Run(what, func(t *testing.T) {
			w := newExercise(t, "h2")
			w.origin.says(origin)
			ask(t, w)
			s := w.compared(t, 1)
			if s.Compared != 0 || s.Uncompared[why] != 1 || s.Verdict != exercise.Never || w.first.requests.Load() != 0 {
				t.Errorf("%d calls, %+v", w.first.requests.Load(), s)
			}
		})
	}
	read := func(t *testing.T, w *world) { w.ask("GET", "/spill/x", "") }
	begin := func(t *testing.T, w *world, meanwhile func(body io.Reader, leave func())) {
		t.Helper()
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		req, _ := http.NewRequestWithContext(ctx, "GET", w.visitor.URL+"/spill/x", nil)
		resp, err := w.visitor.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		io.ReadFull(resp.Body, make([]byte, 3))
		meanwhile(resp.Body, leave)
	}
	f("too large", "too-large", func(rw http.ResponseWriter, _ *http.Request) {
		rw.(http.Flusher).Flush()
		io.Copy(rw, io.LimitReader(zeros{}, exercise.MaxBody+1))
	}, read)
	f("broken off", "unfinished", func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, "dra")
		rw.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}, read)
	f("visitor leaves", "unfinished", func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, "dra")
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	}, func(t *testing.T, w *world) { begin(t, w, func(_ io.Reader, leave func()) { leave() }) })
	goOn := make(chan struct{})
	f("budget spent meanwhile", "budget-spent", func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, "dra")
		rw.(http.Flusher).Flush()
		<-goOn
		io.WriteString(rw, "wn")
	}, func(t *testing.T, w *world) {
		begin(t, w, func(body io.Reader, _ func()) {
			w.budget.Empty(time.Now())
			close(goOn)
			io.ReadAll(body)
		})
	})
	f("budget spent", "budget-spent", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "drawn") }, func(t *testing.T, w *world) {
		w.budget.Empty(time.Now())
		w.ask("GET", "/spill/x", "").check(t, 200, "origin", "drawn")
	})
}

// TestPathExerciseNeverDelays: a function that hangs keeps no visitor, and what has
// no place is not exercised.
func TestPathExerciseNeverDelays(t *testing.T) {
	w := newExercise(t, "h1")
	called, leave := make(chan struct{}), make(chan struct{})
	defer close(leave)
	w.first.says(func(http.ResponseWriter, *http.Request) {
		close(called)
		<-leave
	})
	w.ask("GET", "/spill/x", "").check(t, 200, "origin", "drawn /spill/x")
	<-called
	for range 10 {
		w.ask("GET", "/spill/x", "").check(t, 200, "origin", "drawn /spill/x")
	}
}

// TestPathExerciseLeavesTheAnswerAsItIs: who reads what is compared gets hints before
// it, its beginning when the origin sends that, and the trailer after it.
func TestPathExerciseLeavesTheAnswerAsItIs(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newExercise(t, proto)
			goOn := make(chan struct{})
			w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Link", "</style.css>; rel=preload")
				rw.WriteHeader(http.StatusEarlyHints)
				rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
				rw.Header().Set("Trailer", "X-Sum")
				io.WriteString(rw, "drawn ")
				rw.(http.Flusher).Flush()
				<-goOn
				io.WriteString(rw, "/spill/x")
				rw.Header().Set("X-Sum", "14")
			})
			hints := 0
			trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil }}
			req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", w.visitor.URL+"/spill/x", nil)
			resp, err := w.visitor.Client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			begun := make([]byte, len("drawn "))
			io.ReadFull(resp.Body, begun)
			close(goOn)
			rest, err := io.ReadAll(resp.Body)
			if string(begun)+string(rest) != "drawn /spill/x" || err != nil || hints != 1 || resp.Trailer.Get("X-Sum") != "14" {
				t.Errorf("%q %q, %v, %d hints, trailer %v", begun, rest, err, hints, resp.Trailer)
			}
			if s := w.compared(t, 1); s.Equal != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestPathExerciseWhenSaturated: while the origin has no room, the functions have
// better to do.
func TestPathExerciseWhenSaturated(t *testing.T) {
	w := newExercise(t, "h2")
	patient := w.origins["app"]
	patient.Queue.UnsafeWait = time.Minute
	w.origins["app"] = patient
	w.reload(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	entered, answer := make(chan struct{}), make(chan struct{})
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/spill/x" {
			close(entered)
			<-answer
		} else {
			inside <- struct{}{}
			<-leave
		}
		io.WriteString(rw, "drawn")
	})
	var crowd sync.WaitGroup
	for i := range 3 {
		crowd.Go(func() { w.ask("GET", fmt.Sprintf("/plain/%d", i), "") })
		<-inside
	}
	crowd.Go(func() { w.ask("GET", "/spill/x", "") })
	<-entered
	crowd.Go(func() { w.ask("GET", "/plain/waits", "") }) // takes the slot as soon as it is free
	for w.backends.Origins["app"].Limiter().State().Queued == 0 {
		if t.Context().Err() != nil {
			t.Fatal("nobody waits")
		}
	}
	close(answer)
	<-inside
	if s := w.compared(t, 1); s.Uncompared["origin-saturated"] != 1 || w.first.requests.Load() != 0 {
		t.Errorf("%d calls, %+v", w.first.requests.Load(), s)
	}
	close(leave)
	crowd.Wait()
}

// TestExerciseOutlivesAReload: what is known of a function stays until the function
// changes.
func TestExerciseOutlivesAReload(t *testing.T) {
	w := newExercise(t, "h2")
	w.ask("GET", "/spill/x", "").check(t, 200, "origin", "")
	w.compared(t, 1)
	w.reload(t)
	if s := w.proof(t); s.Verdict != exercise.Proved || s.Compared != 1 {
		t.Errorf("after a reload: %+v", s)
	}
	w.ask("GET", "/spill/x", "").check(t, 200, "origin", "")
	if n := w.first.requests.Load(); n != 1 {
		t.Errorf("a reload began a new gap: %d calls", n)
	}
	w.routes[2].Overflow.Exercise = 0.5
	w.reload(t)
	w.ask("GET", "/spill/x", "").check(t, 200, "origin", "")
	if s := w.compared(t, 2); s.Equal != 2 {
		t.Errorf("with another share: %+v", s)
	}
	w.routes[2].Overflow.ExerciseBody = exercise.Off
	w.reload(t)
	if s := w.proof(t); s.Verdict != exercise.Never {
		t.Errorf("by other rules: %+v", s)
	}
	w.ask("GET", "/spill/x", "").check(t, 200, "origin", "")
	w.compared(t, 1)
	w.routes[2].Overflow.Exercise = 0
	w.reload(t)
	if s := w.proof(t); s.Verdict != exercise.NotWanted || s.Compared != 1 {
		t.Errorf("switched off: %+v", s)
	}
	w.backends.Functions["first"] = w.backends.Functions["second"]
	w.reload(t)
	w.routes[2].Overflow.Exercise = 1
	w.reload(t)
	for _, p := range w.server.Proofs() {
		if strings.HasSuffix(p.Route, "/spill/*") && p.Verdict != exercise.Never {
			t.Errorf("another function: %+v", p)
		}
	}
}
