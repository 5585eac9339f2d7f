package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

func TestServers(t *testing.T) {
	f := func(server, problem string) {
		t.Helper()
		_, err := New("app", withDefaults(Config{Servers: []string{server}}), slog.New(slog.DiscardHandler))
		if problem == "" && err != nil || problem != "" && (err == nil || !strings.Contains(err.Error(), problem)) {
			t.Errorf("server %q: %v", server, err)
		}
	}
	f("http://10.0.0.5:8080", "")
	f("https://[2001:db8::1]:8443/", "")
	f("h2c://10.0.0.5:8080", "")
	f("unix:/run/app.sock", "")
	f("10.0.0.5:8080", "no URL")
	f("unix:app.sock", "not an absolute path")
	f("unix:/"+strings.Repeat("x", 107), "longer than 107 bytes")
	f("http://a:0", "not a port")
	f("http://a:70000", "not a port")
	f("ftp://10.0.0.5", "neither http, https nor h2c")
	f("http://", "neither http, https nor h2c")
	f("http://a/base", "more than scheme, host and port")
	f("http://a?b", "more than scheme, host and port")
	f("http://u:p@a", "has a password")
	if _, err := New("app", Config{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no servers: no error")
	}
}

// TestBalance: every server gets its share, and a busy one hardly anything.
func TestBalance(t *testing.T) {
	o := newOrigin(t, Config{Servers: []string{"http://a", "http://b", "http://c", "http://d"}})
	got := map[*server]int{}
	for range 4000 {
		s, _ := o.pool.pick(nil, true)
		got[s]++
	}
	for _, s := range o.pool.all() {
		if got[s] < 800 || got[s] > 1600 {
			t.Errorf("%s got %d of 4000", s.address, got[s])
		}
	}
	busy := o.pool.all()[0]
	busy.inFlight.Store(100)
	for range 1000 {
		if s, _ := o.pool.pick(nil, true); s == busy {
			t.Fatal("the busiest of four is never the less busy of two")
		}
	}
	if n := testing.AllocsPerRun(100, func() { o.pool.pick(nil, true) }); n != 0 {
		t.Errorf("a pick allocates %v times", n)
	}
}

// TestMoves: with one of two servers dead no request fails, and after five
// failures none is delayed by it.
func TestMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Servers: []string{"http://a", "http://dead"}})
		o.dial = network{"a": says(true, ok+"Content-Length: 0\r\n\r\n")}.dial
		for range 50 {
			in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\n\r\n")
			_, err := o.Do(Outgoing(t.Context(), in, visitor, bytes.NewReader([]byte("hello"))), o.acquire(t))
			if err != nil {
				t.Fatal(err)
			}
		}
		s := o.State()
		if dead := s.Servers[1]; dead.Requests != streakToOpen || dead.Breaker != "open" || s.Retried != streakToOpen {
			t.Errorf("%d retried, dead server: %+v", s.Retried, dead)
		}
		if s.OK != 50-streakToOpen || s.Canceled != streakToOpen {
			t.Errorf("a request that moved is no fair sample: %+v", s)
		}
		if !o.Up() {
			t.Error("down with a server left")
		}
		o.checkRest(t)
	})
}

// TestMovesOnce: a request moves at most once, and never when its body cannot be
// sent again or may have been seen.
func TestMovesOnce(t *testing.T) {
	f := func(name string, servers network, body io.Reader, sent bool, attempts uint64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{Servers: []string{"http://a", "http://b", "http://c"}})
				o.dial = servers.dial
				in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
				_, err := o.Do(Outgoing(t.Context(), in, visitor, body), o.acquire(t))
				failure := (*Error)(nil)
				if !errors.As(err, &failure) || failure.Sent != sent {
					t.Errorf("got %v", err)
				}
				var got uint64
				for _, s := range o.State().Servers {
					got += s.Requests
				}
				if got != attempts {
					t.Errorf("%d attempts, want %d", got, attempts)
				}
				o.checkRest(t)
			})
		})
	}
	resets := network{"a": says(false), "b": says(false), "c": says(false)}
	f("all dead", network{}, bytes.NewReader([]byte("hello")), false, 2)
	f("no body", network{}, nil, false, 2)
	f("stream", network{}, strings.NewReader("hello"), false, 1)
	f("may have been seen", resets, bytes.NewReader([]byte("hello")), true, 1)
}

// TestBreaker follows a single server through its death and return.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		o := newOrigin(t, Config{})
		o.pool.log = slog.New(slog.NewTextHandler(&log, nil))
		servers := network{}
		o.dial = servers.dial
		for range streakToOpen {
			if !o.Up() {
				t.Fatal("down too early")
			}
			o.ask(t)
		}
		opens := time.Now()
		for trial := range 8 {
			if o.Up() {
				t.Fatal("up with an open breaker")
			}
			if _, err := o.ask(t); !errors.Is(err, errNoServer) {
				t.Fatalf("asked a server with an open breaker: %v", err)
			}
			for !o.Up() {
				time.Sleep(10 * time.Millisecond)
			}
			if wait := time.Since(opens); wait < openLast*8/10 || wait > openLast*12/10+10*time.Millisecond {
				t.Errorf("trial %d came after %v, want about %v", trial, wait, openLast)
			}
			checkFailureOf(t, o, outcome.OriginDown)
			opens = time.Now()
		}
		servers["a"] = says(true, ok+"Content-Length: 0\r\n\r\n")
		time.Sleep(40 * time.Second)
		if _, err := o.ask(t); err != nil {
			t.Error(err)
		}
		if s := o.State().Servers[0]; !s.Up || s.Breaker != "closed" {
			t.Errorf("%+v", s)
		}
		if got := strings.Count(log.String(), "\n"); got != 2 {
			t.Errorf("logged %d lines, want one down and one back:\n%s", got, log.String())
		}
		o.checkRest(t)
	})
}

// What the node itself lacks for a connection is not the server's fault: neither
// requests nor probes take it out of the pool, and it is used as soon as that is
// there again.
func TestShortageOfTheNodeIsNotTheServersFault(t *testing.T) {
	for _, why := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{Health: HealthConfig{Path: "/healthz"}})
			o.dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", why)}
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); o.Run(ctx) }()
			for range 20 {
				checkFailureOf(t, o, outcome.OriginDown)
				time.Sleep(time.Second)
			}
			if s := o.State().Servers[0]; !s.Up || s.Failures != 0 {
				t.Errorf("%v: %+v", why, s)
			}
			if s := o.State(); s.Dropped != 0 {
				t.Errorf("%v: the limiter was told of %d failures", why, s.Dropped)
			}
			stop()
			<-ended
		})
	}
}

func checkFailureOf(t *testing.T, o *Origin, reason outcome.Reason) {
	t.Helper()
	_, err := o.ask(t)
	checkFailure(t, err, reason, false)
}

// TestOneTrial: of many requests one finds out whether a server is back.
func TestOneTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		servers := network{}
		o.dial = servers.dial
		for range streakToOpen {
			o.ask(t)
		}
		servers["a"] = requests(func(c net.Conn, _ *http.Request) bool {
			time.Sleep(time.Second)
			io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
			return true
		})
		time.Sleep(2 * time.Second)
		results := make(chan error, 10)
		for range 10 {
			go func() {
				_, err := o.ask(t)
				results <- err
			}()
		}
		answered := 0
		for range 10 {
			if err := <-results; err == nil {
				answered++
			} else if !errors.Is(err, errNoServer) {
				t.Error(err)
			}
		}
		if answered != 1 {
			t.Errorf("%d requests were trials", answered)
		}
		o.checkRest(t)
	})
}

// TestTrialLease: a trial that takes long because of its client keeps a healthy
// server out no longer than its lease.
func TestTrialLease(t *testing.T) {
	opened := func(t *testing.T, serve func(net.Conn)) *Origin {
		t.Helper()
		o := newOrigin(t, Config{})
		servers := network{}
		o.dial = servers.dial
		for range streakToOpen {
			o.ask(t)
		}
		servers["a"] = serve
		time.Sleep(2 * openFirst)
		return o
	}
	t.Run("slow answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int64
			o := opened(t, requests(func(c net.Conn, _ *http.Request) bool {
				if n.Add(1) == 1 {
					time.Sleep(25 * time.Second)
				}
				io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
				return true
			}))
			slow := make(chan error)
			go func() {
				_, err := o.ask(t)
				slow <- err
			}()
			synctest.Wait()
			if o.Up() || o.State().Servers[0].Breaker != "trying" {
				t.Error("no trial is under way")
			}
			time.Sleep(openFirst)
			if _, err := o.ask(t); err != nil {
				t.Error(err)
			}
			if s := o.State().Servers[0]; !s.Up {
				t.Errorf("%+v", s)
			}
			if err := <-slow; err != nil {
				t.Error(err)
			}
			o.checkRest(t)
		})
	})
	t.Run("leases without a result grow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(slog.New(slog.DiscardHandler))
			a := &server{}
			a.trialAt.Store(1)
			p.replace([]*server{a})
			for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
				if s, trial := p.pick(nil, true); s == nil || !trial {
					t.Fatal("no trial")
				}
				time.Sleep(want*time.Second - 1)
				if p.up() {
					t.Errorf("lease of less than %d s", want)
				}
				time.Sleep(time.Nanosecond)
			}
		})
	})
	t.Run("upload", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := opened(t, says(true, ok+"Content-Length: 0\r\n\r\n"))
			in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
			body, client := io.Pipe()
			uploaded := make(chan error)
			go func() {
				_, err := o.Do(Outgoing(t.Context(), in, visitor, body), o.acquire(t))
				uploaded <- err
			}()
			client.Write([]byte("a"))
			synctest.Wait()
			if _, err := o.ask(t); err != nil {
				t.Error(err)
			}
			client.Close()
			if err := <-uploaded; err != nil {
				t.Error(err)
			}
			o.checkRest(t)
		})
	})
}

// TestLastServerIsTriedOften: a server is left alone for longer with each trial
// that fails, unless there is no other to ask.
func TestLastServerIsTriedOften(t *testing.T) {
	f := func(servers []string, atLeast, atMost int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{Servers: servers})
			o.dial = network{"b": says(true, ok+"Content-Length: 0\r\n\r\n")}.dial
			a := o.pool.all()[0]
			for range streakToOpen {
				o.pool.failed(a, false)
			}
			before := a.failures.Load()
			for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(openLast / 10) {
				o.ask(t)
			}
			if n := int(a.failures.Load() - before); n < atLeast || n > atMost {
				t.Errorf("%d servers: %d trials in 20 s", len(servers), n)
			}
			o.checkRest(t)
		})
	}
	f([]string{"http://a"}, 32, 50)
	f([]string{"http://a", "http://b"}, 4, 5) // after 1, 3, 7 and 15 s, give or take a fifth
}

// TestTrialIsSafe: a request that has something to lose is no trial while other
// servers are ready, unless no other comes.
func TestTrialIsSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Servers: []string{"http://a", "http://b"}})
		o.dial = network{"b": says(true, ok+"Content-Length: 0\r\n\r\n")}.dial
		a := o.pool.all()[0]
		for range streakToOpen {
			o.pool.failed(a, false)
		}
		post := func() {
			in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\n\r\n")
			if _, err := o.Do(Outgoing(t.Context(), in, visitor, bytes.NewReader([]byte("x"))), o.acquire(t)); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(2 * openFirst)
		for range 10 {
			post()
		}
		if n := a.requests.Load(); n != 0 {
			t.Errorf("%d posts were trials", n)
		}
		if _, err := o.ask(t); err != nil || a.requests.Load() != 1 {
			t.Errorf("%v, %d trials", err, a.requests.Load())
		}
		time.Sleep(noBraveOne + 10*openFirst)
		post()
		if n := a.requests.Load(); n != 2 {
			t.Errorf("%d trials: the server cannot come back", n)
		}
		o.checkRest(t)
	})
}

// TestStatusesOfOneURL: what a client can ask for does not take servers out, and
// no answers take more than half of them.
func TestStatusesOfOneURL(t *testing.T) {
	f := func(status, wantUp int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{Servers: []string{"http://a", "http://b", "http://c", "http://d"}})
			bad := says(true, fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status))
			o.dial = network{"a": bad, "b": bad, "c": bad, "d": says(true, ok+"Content-Length: 0\r\n\r\n")}.dial
			for range 200 {
				if _, err := o.ask(t); err != nil {
					t.Fatal(err)
				}
			}
			up := 0
			for _, s := range o.State().Servers {
				if s.Up {
					up++
				}
			}
			if up != wantUp {
				t.Errorf("status %d: %d servers are up, want %d", status, up, wantUp)
			}
		})
	}
	f(500, 4)
	f(501, 4)
	f(505, 4)
	f(502, 2)
	f(503, 2)
	f(504, 2)
}

// TestSlowFailures: at a low rate two failures over a second open the breaker,
// two at once do not.
func TestSlowFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{}.dial
		o.ask(t)
		o.ask(t)
		if !o.Up() {
			t.Error("down after two failures at once")
		}
		time.Sleep(time.Second)
		o.ask(t)
		if o.Up() {
			t.Error("up after a second of failures")
		}
	})
}

// TestErrorAnswers: a server that answers 503 at once would draw all requests.
// While there is another it is left alone; the last one never is.
func TestErrorAnswers(t *testing.T) {
	f := func(good int, wantUp int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{Servers: []string{"http://a", "http://b"}})
			o.dial = network{
				"a": says(true, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
				"b": says(true, fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", good)),
			}.dial
			for range 100 {
				if _, err := o.ask(t); err != nil {
					t.Fatal(err)
				}
			}
			up := 0
			for _, s := range o.State().Servers {
				if s.Up {
					up++
				}
			}
			if up != wantUp {
				t.Errorf("%d servers are up, want %d", up, wantUp)
			}
		})
	}
	f(200, 1)
	f(404, 1)
}

// TestOverloadedPool: when all servers answer 503, the pool is not emptied.
func TestOverloadedPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := says(true, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
		o := newOrigin(t, Config{Servers: []string{"http://a", "http://b", "http://c"}})
		o.dial = network{"a": busy, "b": busy, "c": busy}.dial
		for range 1000 {
			if _, err := o.ask(t); err != nil {
				t.Fatal(err)
			}
		}
		if !o.Up() {
			t.Error("the last server was taken out")
		}
	})
}

// TestProbes follows a server that its probes find down and up again.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var status atomic.Int32
		var asked atomic.Value
		status.Store(200)
		o := newOrigin(t, Config{Host: "app.internal", Health: HealthConfig{Path: "/healthz?full=1"}})
		o.pool.log = slog.New(slog.NewTextHandler(&log, nil))
		o.dial = network{"a": requests(func(c net.Conn, r *http.Request) bool {
			asked.Store(r.Host + r.RequestURI)
			fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\nbody", status.Load())
			return true
		})}.dial
		stop := run(t, o)
		expect := func(after time.Duration, up bool) {
			t.Helper()
			time.Sleep(after)
			if o.Up() != up {
				t.Errorf("up is %v", o.Up())
			}
		}
		expect(10*time.Second, true)
		status.Store(500)
		expect(1700*time.Millisecond, true) // less than an interval: one failure at most, no proof
		expect(2800*time.Millisecond, false)
		expect(time.Minute, false)
		status.Store(302)
		expect(5*time.Second, true)
		stop()
		if asked.Load() != "app.internal/healthz?full=1" {
			t.Errorf("probed %v", asked.Load())
		}
		if got := strings.Count(log.String(), "\n"); got != 2 {
			t.Errorf("logged %d lines:\n%s", got, log.String())
		}
		if s := o.State().Servers[0]; s.Requests != 0 {
			t.Error("probes count as requests")
		}
		o.checkRest(t)
	})
}

// TestProbeTimeout: a server that accepts and says nothing is down.
func TestProbeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Health: HealthConfig{Path: "/", Timeout: time.Second}})
		o.dial = network{"a": func(c net.Conn) { io.Copy(io.Discard, c) }}.dial
		stop := run(t, o)
		time.Sleep(6 * time.Second)
		if o.Up() {
			t.Error("up")
		}
		stop()
	})
}

// TestProbesShortenBreaker: probes that succeed bring the next trial forward.
func TestProbesShortenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Health: HealthConfig{Path: "/"}})
		servers := network{}
		o.dial = servers.dial
		for range streakToOpen {
			o.ask(t)
		}
		o.pool.all()[0].trialAt.Store(int64(o.pool.now() + time.Hour))
		servers["a"] = says(true, ok+"Content-Length: 0\r\n\r\n")
		stop := run(t, o)
		time.Sleep(3 * time.Second)
		if s := o.State().Servers[0]; s.Breaker != "open" || !o.Up() {
			t.Errorf("%+v, up %v", s, o.Up())
		}
		if _, err := o.ask(t); err != nil {
			t.Error(err)
		}
		stop()
	})
}

func run(t *testing.T, o *Origin) (stop func()) {
	t.Helper()
	ctx, cancel := contextOf(t)
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// TestPoolStates drives a pool through any sequence of events. It never gives
// out a server that is down, never two trials of one, never one that is
// drained when there are others, and says that it is up exactly when it can give
// one out.
func TestPoolStates(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(rt, "servers")
		steps := rapid.SliceOfN(rapid.IntRange(0, 7), 1, 200).Draw(rt, "steps")
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			p := newPool(slog.New(slog.DiscardHandler))
			servers := make([]*server, n)
			for i := range servers {
				servers[i] = &server{}
			}
			p.slowStart.Store(int64(5 * time.Second))
			p.replace(servers)
			type use struct {
				s     *server
				trial bool
			}
			var uses []use
			trying := map[*server]time.Time{} // until when a trial keeps others away
			for _, step := range steps {
				switch step {
				case 0, 1:
					up := p.up()
					s, trial := p.pick(nil, random.IntN(2) == 0)
					if (s != nil) != up {
						t.Errorf("up is %v, picked %v", up, s)
					}
					if s == nil {
						break
					}
					if s.sick.Load() || trial && time.Now().Before(trying[s]) || !trial && s.trialAt.Load() != 0 {
						t.Errorf("picked %+v, trial %v", s, trial)
					}
					if others, _ := p.well(false); s.draining.Load() && len(others) > 0 {
						t.Error("picked a drained server though there are others")
					}
					if trial {
						trying[s] = time.Now().Add(openFirst)
					}
					uses = append(uses, use{s, trial})
				case 2, 3:
					if len(uses) == 0 {
						break
					}
					i := random.IntN(len(uses))
					u := uses[i]
					uses = append(uses[:i], uses[i+1:]...)
					if u.trial {
						delete(trying, u.s)
					}
					switch random.IntN(4) {
					case 0:
						p.answeredBy(u.s, u.trial, 200)
					case 1:
						p.answeredBy(u.s, u.trial, 503)
					case 2:
						p.failed(u.s, u.trial)
					case 3:
						p.undecided(u.s, u.trial)
					}
				case 4:
					time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
				case 5:
					p.probed(p.all()[random.IntN(n)], nil)
				case 6:
					p.probed(p.all()[random.IntN(n)], errStalled)
				case 7:
					s := p.all()[random.IntN(n)]
					p.drain(s, !s.draining.Load())
				}
			}
			for _, u := range uses {
				p.answeredBy(u.s, u.trial, 200)
			}
			for _, s := range p.all() {
				p.probed(s, nil)
				p.probed(s, nil)
			}
			time.Sleep(time.Minute)
			if !p.up() {
				t.Error("did not come back")
			}
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}
