package crowd

import (
	"bytes"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		body := bytes.Repeat([]byte("x"), 3000)
		s := serve(t, protocol, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Spillway", "hit; reason=fresh")
			w.Write(body)
		})
		c := s.config(protocol)
		c.URLs = append(c.URLs, s.url+"/2", s.url+"/3")
		res := run(t, c)
		if res.Visitors < 20 || res.Offered != 3*res.Visitors || res.Answered != res.Offered {
			t.Errorf("%d visitors, %+v", res.Visitors, res.Counts)
		}
		if res.Outcomes["hit"] != res.Offered || res.Reasons["hit; fresh"] != res.Offered {
			t.Errorf("outcomes %v, reasons %v", res.Outcomes, res.Reasons)
		}
		if res.Bytes != 3000*res.Offered || res.P50 <= 0 || res.P99 < res.P50 || res.P999 < res.P99 {
			t.Errorf("%d bytes, %+v", res.Bytes, res.Latency)
		}
		if res.CPUSeconds <= 0 || len(res.Phases) != 2 {
			t.Errorf("%g s of CPU, %d phases", res.CPUSeconds, len(res.Phases))
		}
		if got := s.connections.Load(); got != res.Visitors {
			t.Errorf("%d connections of %d visitors", got, res.Visitors)
		}
	})
}

func TestPooled(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		s := serve(t, protocol, func(http.ResponseWriter, *http.Request) {})
		c := s.config(protocol)
		c.Connections = Pooled
		if protocol != H3 { // who finds no connection that is ready and free dials: some come one after the other
			c.Phases = append([]Phase{{From: 5, To: 5, Length: 5 * time.Second}}, c.Phases...)
		}
		res := run(t, c)
		if res.Outcomes[Unlabelled] != res.Offered {
			t.Errorf("outcomes %v", res.Outcomes)
		}
		if got := s.connections.Load(); got >= res.Visitors || protocol == H3 && got > lanes {
			t.Errorf("%d connections of %d visitors", got, res.Visitors)
		}
	})
}

// TestOpenLoop checks that visitors keep coming while the server answers nobody.
func TestOpenLoop(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		var waiting, total atomic.Int64
		all := make(chan struct{})
		s := serve(t, protocol, func(_ http.ResponseWriter, r *http.Request) {
			if waiting.Add(1) == total.Load() {
				close(all)
			}
			select {
			case <-all:
			case <-r.Context().Done():
			}
		})
		c := s.config(protocol)
		total.Store(int64(len(draws(c.Phases, c.Seed))))
		if res := run(t, c); res.Answered != res.Offered {
			t.Errorf("a closed loop: %+v", res.Counts)
		}
	})
}

// TestIntendedTime checks that latency and patience run from the intended time, also
// when the visitor starts late.
func TestIntendedTime(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		s := serve(t, protocol, func(http.ResponseWriter, *http.Request) {})
		c := s.config(protocol)
		crowd, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		crowd.dialer = newDialer(crowd.config, crowd.targets, s.addr())
		crowd.started = time.Now().Add(-time.Minute)
		late := func(n uint64, intended time.Duration) {
			crowd.record.schedule(intended, intended, 0, 1)
			crowd.visit(t.Context(), n, intended, 0)
		}
		late(1, 50*time.Second)
		late(2, 25*time.Second) // its patience of 30 s is over before it starts
		var res Result
		crowd.record.result(&res, c.Phases)
		if res.Answered != 1 || res.P50 < 9_900 || res.ClientErrors[ClassTimeout] != 1 {
			t.Errorf("%+v, median %g ms", res.Counts, res.P50)
		}
		if res.LagP99 < 9_900 {
			t.Errorf("lag %g ms", res.LagP99)
		}
	})
}

// TestAddresses checks that each visitor arrives from its own address.
func TestAddresses(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		var (
			mu   sync.Mutex
			from = map[uint64]string{}
		)
		s := serve(t, protocol, func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			from[visitorOf(r)], _, _ = net.SplitHostPort(r.RemoteAddr)
		})
		for _, connections := range []string{PerVisitor, Pooled} {
			c := s.config(protocol)
			c.Addresses, c.Connections = CarrierNAT, connections
			res := run(t, c)
			if res.Answered != res.Offered {
				t.Fatalf("%+v", res.Counts)
			}
			mu.Lock()
			for n := range uint64(res.Visitors) {
				if want := c.visitor(n).addr.String(); from[n] != want {
					t.Errorf("%s: visitor %d came from %s, want %s", connections, n, from[n], want)
				}
			}
			clear(from)
			mu.Unlock()
		}
	})
}

func TestSlow(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		const size = 20_000
		s := serve(t, protocol, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) })
		c := s.config(protocol)
		c.SlowShare, c.SlowRate = 1, 1<<20
		res := run(t, c)
		if res.Answered != res.Offered || res.Bytes != size*res.Offered {
			t.Errorf("%+v, %d bytes", res.Counts, res.Bytes)
		}
		if res.P99 != 0 {
			t.Errorf("the latency of slow visitors was counted: %g ms", res.P99)
		}
	})
}

// TestHold checks that event streams are held until the end, and that one which the
// server refuses and one which it ends are told.
func TestHold(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		s := serve(t, protocol, func(w http.ResponseWriter, r *http.Request) {
			switch (visitorOf(r) - firstHolder) % 10 {
			case 1:
				w.WriteHeader(http.StatusServiceUnavailable)
			case 2:
				w.Write([]byte("data: bye\n\n"))
			default:
				w.Write([]byte("data: hello\n\n"))
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
		})
		c := s.config(protocol)
		c.Addresses, c.Hold, c.HoldURL = CarrierNAT, 10, s.url+"/{visitor}"
		crowd, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		crowd.dialer = newDialer(crowd.config, crowd.targets, s.addr())
		h := crowd.hold(t.Context())
		settled := func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			failed := int64(0)
			for _, n := range h.result.Errors {
				failed += n
			}
			return failed == 2 && h.open == 8 || failed > 2
		}
		for !settled() {
			time.Sleep(time.Millisecond)
		}
		if res := h.finish(); res.Asked != 10 || res.Opened != 9 || res.OpenAtEnd != 8 || res.Errors["ended"] != 1 || res.Errors[Class5xx] != 1 || len(res.Errors) != 2 {
			t.Errorf("%+v", res)
		}
	})
}

// TestSnapshot looks at a crowd from outside while it runs.
func TestSnapshot(t *testing.T) {
	s := serve(t, H2, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Spillway", "hit") })
	c := s.config(H2)
	crowd, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if snap := crowd.Snapshot(); snap.Offered != 0 || snap.Length != 400*time.Millisecond {
		t.Errorf("before: %+v", snap)
	}
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for last := int64(0); ; {
			snap := crowd.Snapshot()
			if snap.Offered < last || snap.Answered+snap.Errors > snap.Offered {
				t.Errorf("after %d: %+v", last, snap.Counts)
			}
			last = snap.Offered
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	res, err := crowd.Run(t.Context())
	close(stop)
	looking.Wait()
	if snap := crowd.Snapshot(); err != nil || snap.Answered != res.Offered || snap.InFlight != 0 {
		t.Errorf("after: %+v, %v", snap, err)
	}
}

func TestConnect(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		s := serve(t, protocol, func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "example.com" || r.TLS.ServerName != "example.com" {
				w.WriteHeader(http.StatusMisdirectedRequest)
			}
		})
		c := s.config(protocol)
		c.Connect = s.addr().String()
		c.URLs = []string{"https://example.com/"} // a name of httptest's certificate
		if res := run(t, c); res.Answered != res.Offered {
			t.Errorf("%+v", res.Counts)
		}
	})
}

func TestResultJSON(t *testing.T) {
	s := serve(t, H1, func(http.ResponseWriter, *http.Request) {})
	text, err := json.Marshal(run(t, s.config(H1)))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	keys := slices.Collect(maps.Keys(got))
	for _, key := range []string{
		"offered", "answered", "errors", "outcomes", "client_errors", "p50_ms", "p99_ms", "p999_ms", "per_second", "phases",
		"protocol", "visitors", "requests_per_visitor", "cpu_seconds", "cpu_us_per_visitor", "generator_lag_ms_p99",
	} {
		if !slices.Contains(keys, key) {
			t.Errorf("no %s in %s", key, text)
		}
	}
	if got["client_errors"] == nil {
		t.Error("no errors are null, not an empty object")
	}
}
