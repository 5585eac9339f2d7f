package crowd

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// TestFaultyServer checks that whatever a server does, every request is counted
// once and under its name.
func TestFaultyServer(t *testing.T) {
	faults := []struct {
		name  string
		serve func(w http.ResponseWriter, r *http.Request)
	}{
		{"origin", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Spillway", "origin") }},
		{"shed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Spillway", "shed; reason=queue-full")
			w.WriteHeader(http.StatusServiceUnavailable)
		}},
		{Class5xx, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		{Class4xx, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }},
		{Unlabelled, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Spillway", "?") }},
		{"local", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Spillway", "local; reason=redirect")
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
		}},
		{ClassReset, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{ClassReset, func(w http.ResponseWriter, _ *http.Request) { // in the middle of an answer
			w.Header().Set("Spillway", "origin")
			w.Write([]byte("some"))
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
		{ClassTimeout, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{ClassTimeout, func(w http.ResponseWriter, r *http.Request) { // in the middle of an answer
			w.Header().Set("Spillway", "origin")
			w.Write([]byte("some"))
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
	}
	protocols(t, func(t *testing.T, protocol string) {
		s := serve(t, protocol, func(w http.ResponseWriter, r *http.Request) {
			faults[visitorOf(r)%uint64(len(faults))].serve(w, r)
		})
		c := s.config(protocol)
		c.Timeout = 10 * time.Second
		res := run(t, c)
		want := map[string]int64{}
		for n := range res.Visitors {
			want[faults[n%int64(len(faults))].name]++
		}
		got := maps.Clone(res.Outcomes)
		maps.Copy(got, res.ClientErrors)
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if res.Answered != want["origin"]+want[Unlabelled]+want["local"] {
			t.Errorf("%d answered of %v", res.Answered, want)
		}
	})
}

func TestRefused(t *testing.T) {
	t.Run("tcp", func(t *testing.T) {
		// A port that is not of those which the kernel gives to whoever asks for any.
		c := (&server{url: "https://127.0.0.1:1"}).config(H2)
		if res := run(t, c); res.ClientErrors[ClassRefused] != res.Offered {
			t.Errorf("%+v", res.Counts)
		}
	})
	t.Run("quic", func(t *testing.T) {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		tr := &quic.Transport{
			Conn: conn,
			ConnContext: func(context.Context, *quic.ClientInfo) (context.Context, error) {
				return nil, errors.New("full")
			},
		}
		defer tr.Close()
		l, err := tr.Listen(http3.ConfigureTLSConfig(testTLS(t)), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c := (&server{url: "https://" + conn.LocalAddr().String()}).config(H3)
		if res := run(t, c); res.ClientErrors[ClassRefused] != res.Offered {
			t.Errorf("%+v", res.Counts)
		}
	})
}

func TestUnknownAuthority(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		s := serve(t, protocol, func(http.ResponseWriter, *http.Request) {})
		c := s.config(protocol)
		c.RootCAs = nil
		if res := run(t, c); res.ClientErrors[ClassTLS] != res.Offered {
			t.Errorf("%+v", res.Counts)
		}
		c.Insecure = true
		if res := run(t, c); res.Answered != res.Offered {
			t.Errorf("%+v", res.Counts)
		}
	})
}

// TestWrongProtocol checks that an answer over HTTP/1.1 is not taken for HTTP/2.
func TestWrongProtocol(t *testing.T) {
	s := serve(t, H1, func(http.ResponseWriter, *http.Request) {})
	res := run(t, s.config(H2))
	if res.ClientErrors[ClassTLS] != res.Offered {
		t.Errorf("%+v", res.Counts)
	}
}

func TestCap(t *testing.T) {
	s := serve(t, H2, func(http.ResponseWriter, *http.Request) {})
	c := s.config(H2)
	c.MaxInFlight = 1
	crowd, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	crowd.inFlight.Add(1) // somebody who never leaves
	res, err := crowd.Run(t.Context())
	if err != nil || res.Offered == 0 || res.ClientErrors[ClassCapped] != res.Offered {
		t.Errorf("%+v, %v", res.Counts, err)
	}
	checkSums(t, "total", res.Counts)
}

// TestInterrupt checks that a run that is ended early still adds up.
func TestInterrupt(t *testing.T) {
	protocols(t, func(t *testing.T, protocol string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := serve(t, protocol, func(_ http.ResponseWriter, r *http.Request) {
			if visitorOf(r) >= 9 {
				cancel()
			}
			<-r.Context().Done()
		})
		c := s.config(protocol)
		// The next would come in minutes: until the one that ends it is served, a busy
		// machine has those of the beginning to serve, and no more each second.
		c.Phases = append(c.Phases, Phase{From: .01, To: .01, Length: time.Hour})
		crowd, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		res, err := crowd.Run(ctx)
		if !errors.Is(err, context.Canceled) || res.Offered < 10 || res.ClientErrors[ClassInterrupted] != res.Offered {
			t.Errorf("%+v, %v", res.Counts, err)
		}
		checkSums(t, "total", res.Counts)
	})
}

// TestConnectionClose checks that a visitor over HTTP/1.1 dials again where the
// server closed its connection, which is no error.
func TestConnectionClose(t *testing.T) {
	s := serve(t, H1, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	c := s.config(H1)
	c.URLs = append(c.URLs, s.url+"/2", s.url+"/3")
	res := run(t, c)
	if res.Answered != res.Offered || s.connections.Load() != res.Offered {
		t.Errorf("%+v on %d connections", res.Counts, s.connections.Load())
	}
}

func TestConfigErrors(t *testing.T) {
	good := Config{URLs: []string{"https://127.0.0.1/"}, Phases: []Phase{{From: 1, To: 1, Length: time.Second}}}
	f := func(want string, change func(*Config)) {
		t.Helper()
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	f("no URL", func(c *Config) { c.URLs = nil })
	f("no phases", func(c *Config) { c.Phases = nil })
	f("protocol", func(c *Config) { c.Protocol = "h4" })
	f("connections", func(c *Config) { c.Connections = "some" })
	f("addresses", func(c *Config) { c.Addresses = "everywhere" })
	f("timeout", func(c *Config) { c.Timeout = -1 })
	f("in flight", func(c *Config) { c.MaxInFlight = -1 })
	f("slow share", func(c *Config) { c.SlowShare = 2 })
	f("need a rate", func(c *Config) { c.SlowShare = .5 })
	f("hold", func(c *Config) { c.Hold = -1 })
	f("need a URL", func(c *Config) { c.Hold = 1 })
	f("like the others", func(c *Config) { c.Hold, c.HoldURL = 1, "https://127.0.0.2/" })
}
