package edge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/outcome"
)

// TestHits3Credit: however streams end, the visitor gets another for each of them.
func TestHits3Credit(t *testing.T) {
	for _, streams := range []int{1, 3} {
		t.Run(fmt.Sprint(streams), func(t *testing.T) {
			p := newParted3(t, func(c *edge.Config) { c.Limits.Streams = streams })
			conn := p.dial(t)
			left := 1000
			if testing.Short() {
				left = 100
			}
			for left > 0 {
				for _, e := range endings3(func() {}) {
					if strings.HasPrefix(e.want, "reset") && left%10 != 0 {
						continue // too many would be an attack
					}
					s := open3(t, conn)
					e.send(s)
					if left%7 == 0 {
						s.CancelRead(0x10c)
					} else if got := taken3(s); got != e.want {
						t.Fatalf("%s, %d left: got %q, want %q", e.name, left, got, e.want)
					}
					left--
				}
			}
		})
	}
}

// TestHits3LastCredit: a visitor whose streams are all but one long can use the last one for
// one request after the other, whether those were first or the hits.
func TestHits3LastCredit(t *testing.T) {
	const streams = 3
	p := newParted3(t, func(c *edge.Config) { c.Limits.Streams = streams })
	plain := *p.origin.handler.Load()
	p.origin.says(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/plain/long" {
			plain(w, r)
			return
		}
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	conn := p.dial(t)
	hit := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // only a failing test gets there
		defer cancel()
		s, err := conn.OpenStreamSync(ctx)
		if err != nil {
			t.Fatalf("no stream: %v", err)
		}
		s.Write(appendHeaders(nil, askFor("/plain/small")))
		s.Close()
		if got := taken3(s); got != smallHit {
			t.Error(got)
		}
	}
	for range streams - 1 {
		hit()
		s := open3(t, conn)
		s.Write(appendHeaders(nil, askFor("/plain/long")))
		s.Close()
		if _, err := s.Read(make([]byte, 1)); err != nil { // it has begun
			t.Fatal(err)
		}
	}
	for range 10 {
		hit()
	}
}

// TestHits3GivenUp: a visitor who gives up large hits by the hundred is sent away, as he
// is for other requests, and leaves nothing behind.
func TestHits3GivenUp(t *testing.T) {
	p := newParted3(t, func(*edge.Config) {})
	conn := p.node.DialQUICWith(t, &quic.Config{InitialStreamReceiveWindow: 1 << 10, MaxStreamReceiveWindow: 1 << 10})
	for range 10_000 {
		s, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			break
		}
		s.Write(appendHeaders(nil, askFor("/plain/large")))
		s.Close()
		s.Read(make([]byte, 1)) // the answer has begun
		s.CancelRead(0x10c)
	}
	<-conn.Context().Done()
	if end, ok := errors.AsType[*quic.ApplicationError](context.Cause(conn.Context())); !ok || end.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad) {
		t.Errorf("closed with %v, want H3_EXCESSIVE_LOAD", context.Cause(conn.Context()))
	}
	await(t, "nothing in flight", func() bool { return p.server.InFlight() == 0 })
}

// TestHits3NotWanted: a hit whose answer nobody takes any more when it is there counts as
// given up and as nothing sent, whenever the sweep looks at the connection.
func TestHits3NotWanted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	p := newParted3(t, func(c *edge.Config) { c.Log.Access = file })
	background(t, p.server.Run)
	conn := p.dial(t)
	ctx, stop := context.WithCancel(t.Context())
	var looks sync.WaitGroup
	looks.Go(func() {
		for ctx.Err() == nil {
			p.node.Listeners.Look()
			time.Sleep(10 * time.Microsecond) // on one processor nothing else would run
		}
	})
	ask := func(s *quic.Stream) {
		s.Write(appendHeaders(nil, askFor("/plain/small")))
		s.Close()
	}
	for range 500 {
		s := open3(t, conn)
		s.CancelRead(0x10c)
		ask(s)
		s = open3(t, conn) // an answer that is taken pays for it
		ask(s)
		if got := taken3(s); got != smallHit {
			t.Fatal(got)
		}
	}
	stop()
	looks.Wait()
	await(t, "nothing in flight", func() bool { return p.server.InFlight() == 0 })
	if p.server.Outcomes()[outcome.Canceled] == 0 {
		t.Error("none was given up")
	}
	await(t, "the access log has them, and that nothing was sent", func() bool {
		b, _ := os.ReadFile(file)
		logged := uint64(0)
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, `"outcome":"canceled"`) && strings.Contains(line, `"bytes":0,`) {
				logged++
			}
		}
		return logged == p.server.Outcomes()[outcome.Canceled] // the last may still come
	})
}

// TestHits3AreNoCover: a stream without a request that is booked for one because a hit ends
// at the same time is made up for with the hit's.
func TestHits3AreNoCover(t *testing.T) {
	n := edgetest.New(http.HandlerFunc(echoProto)).Start(t)
	conn := n.DialQUIC(t)
	await(t, "the connection", func() bool { return n.Listeners.State().QUIC == 1 })
	n.Listeners.EndHit()
	<-conn.Context().Done()
	if got := n.Listeners.State().Excesses; got != 1 {
		t.Errorf("%d excesses, want 1", got)
	}
}

// TestHits3Stall: a visitor who does not take a large hit is cut off.
func TestHits3Stall(t *testing.T) {
	p := newParted3(t, func(*edge.Config) {})
	conn := p.node.DialQUICWith(t, &quic.Config{InitialStreamReceiveWindow: 1 << 10, MaxStreamReceiveWindow: 1 << 10})
	c := p.config
	c.Timeouts.Stall = 300 * time.Millisecond // from here on: who came before may be as slow
	if err := p.node.Listeners.Reload(c, nil); err != nil {
		t.Fatal(err)
	}
	s := open3(t, conn)
	s.Write(appendHeaders(nil, askFor("/plain/large")))
	s.Close()
	await(t, "a stall", func() bool { return p.node.Listeners.State().Stalls == 1 })
	if got := taken3(s); got != "reset 0x10c" {
		t.Errorf("the stream ended with %s", got)
	}
	await(t, "nothing in flight", func() bool { return p.server.InFlight() == 0 })
}

// TestHits3IsNoIdleConnection: what a fast path answers counts as a request.
func TestHits3IsNoIdleConnection(t *testing.T) {
	p := newParted3(t, func(*edge.Config) {})
	setup := edgetest.New(edge.Counted{Server: p.server, Arrived: &p.arrived, Fast: &p.fast})
	setup.Config.HTTP3.FastPath = "on"
	setup.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		var conn raw3
		for p.took(); p.fast.Load() == 0; { // the end may be late by chance
			conn = dial3(t, n)
			s := open3(t, conn.Conn)
			s.Write(appendHeaders(nil, askFor("/plain/small")))
			s.Close()
			if got := taken3(s); got != smallHit {
				t.Fatal(got)
			}
		}
		time.Sleep(setup.Config.Timeouts.Header + 5*time.Second) // several sweeps, and more than a first header may take
		if err := context.Cause(conn.Context()); err != nil {
			t.Errorf("the connection ended: %v", err)
		}
	})
}
