package edge_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/edgetest"
	"spillway/edge/synctest"
)

// A visitor of yesterday resumes after a restart, on TCP and on QUIC, where what it sends
// early is taken.
func TestQUICAndTCPTicketsSurviveARestart(t *testing.T) {
	for _, proto := range []string{"h2", "h3"} {
		t.Run(proto, func(t *testing.T) {
			h := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.TLS.DidResume) }
			s := edgetest.New(http.HandlerFunc(h))
			s.Config.State = t.TempDir()
			tickets := &sessions{ClientSessionCache: tls.NewLRUClientSessionCache(4), put: make(chan struct{}, 8)}
			f := func(want string) {
				t.Helper()
				n := s.Start(t)
				defer n.Stop(t)
				n.Client.ClientSessionCache = tickets
				v := n.Visitor(t, proto)
				defer v.Close()
				if got := read(t, v.Get(t, "/")); got != want {
					t.Errorf("resumed: %s, want %s", got, want)
				}
				<-tickets.put
			}
			f("false")
			f("true")
			if proto == "h2" {
				return
			}
			n := s.Start(t)
			n.Client.ClientSessionCache = tickets
			if !early(t, n) {
				t.Error("early data was refused after a restart")
			}
			n.Stop(t)
			// Less is promised now than the ticket said.
			s.Config.Limits.Streams = 50
			n = s.Start(t)
			c := n.Client.Clone()
			c.ClientSessionCache, c.NextProtos = tickets, []string{http3.NextProtoH3}
			conn, err := quic.DialAddr(t.Context(), n.Listeners.Addr().String(), c, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseWithError(0, "")
			if conn.ConnectionState().TLS.DidResume {
				t.Error("resumed with lower limits")
			}
		})
	}
}

// sessions tells when a ticket came.
type sessions struct {
	tls.ClientSessionCache
	put chan struct{}
}

func (c *sessions) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	if s != nil {
		c.put <- struct{}{}
	}
}

// Visitors who leave as soon as their handshake is complete have completed it, and owe
// nothing.
func TestQUICHastyVisitorsOweNothing(t *testing.T) {
	const visitors = 300
	n := edgetest.New(http.HandlerFunc(echoProto)).Start(t)
	c := n.Client.Clone()
	c.NextProtos = []string{http3.NextProtoH3}
	for range visitors {
		conn, err := quic.DialAddr(t.Context(), n.Listeners.Addr().String(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		// The client's last packet of the handshake has to leave before the one that ends the
		// connection: here with, or before, a stream that means nothing (RFC 9114 section 6.2.3).
		sent := conn.ConnectionStats().PacketsSent
		str, err := conn.OpenUniStream()
		if err != nil {
			t.Fatal(err)
		}
		str.Write([]byte{0x21})
		for conn.ConnectionStats().PacketsSent == sent {
			runtime.Gosched()
		}
		conn.CloseWithError(0, "")
	}
	await(t, "no connection is left", func() bool { return n.Admit.State().Connections == 0 })
	// Of one that ends before it is accepted nobody knows. There are few.
	if got := n.Admit.State(); got.Completed+got.Failed != visitors || got.Failed > visitors/30 {
		t.Errorf("%d of %d completed, %d failed", got.Completed, visitors, got.Failed)
	}
}

// A flood of handshakes that nobody completes makes newcomers prove their
// address, and they get in.
func TestQUICHalfOpenFloodBringsRetry(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Admit.HalfOpen = 20
	s.Admit.HandshakesPerCore = 100_000 // so that only the half-open count decides
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		for range 21 {
			n.Abandon(t)
		}
		time.Sleep(100 * time.Millisecond)
		if got := n.Admit.State(); got.HalfOpen != 21 || got.Retries != 0 {
			t.Fatalf("after the flood: %+v", got)
		}
		read(t, n.Visitor(t, "h3").Get(t, "/"))
		got := n.Admit.State()
		if got.Retries == 0 || got.Completed != 1 {
			t.Errorf("after a visitor: %+v, want a Retry and a completed handshake", got)
		}
		read(t, n.Visitor(t, "h2").Get(t, "/")) // TCP has proved the address
		time.Sleep(10 * time.Second)            // the flood's handshakes have timed out
		synctest.Wait()
		if got := n.Admit.State(); got.HalfOpen != 0 || got.Failed != 21 || got.Connections != 2 {
			t.Errorf("in the end: %+v", got)
		}
	})
}

// guarded has the node ask every new client of QUIC for a proof of its address, until the
// test ends. Without a controller that runs the level would lapse.
func guarded(t *testing.T, n *edgetest.Node) {
	t.Helper()
	if err := n.Admit.SetLevel(admit.Guarded, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	background(t, n.Admit.Run)
}

// Each client of a burst that must prove its address is told so at once. One who is not
// waits for 200 ms before it tries again.
func TestQUICBurstBringsAsManyRetries(t *testing.T) {
	edge.AwaitRetries(t, time.Minute) // the goroutine that sends them may have to wait for a processor
	n := edgetest.New(http.HandlerFunc(echoProto)).Start(t)
	guarded(t, n)
	client, err := net.Dial("udp", n.Listeners.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const burst = 64 // no more fit into a socket's buffer for sure
	for i := range byte(burst) {
		// An Initial of version 1 with two IDs and no token. A Retry comes before the
		// rest is looked at.
		initial := append([]byte{0xc0, 0, 0, 0, 1, 8, i, 1, 2, 3, 4, 5, 6, 7, 4, i, 1, 2, 3, 0, 0x44, 0x9e}, make([]byte, 1182)...)
		if _, err := client.Write(initial); err != nil {
			t.Fatal(err)
		}
	}
	client.SetReadDeadline(time.Now().Add(20 * time.Second)) // only a failing test gets there
	answer := make([]byte, 1500)
	for i := range burst {
		if _, err := client.Read(answer); err != nil {
			t.Fatalf("after %d Retries: %v", i, err)
		}
		if answer[0]&0xf0 != 0xf0 { // RFC 9000 section 17.2.5
			t.Fatalf("no Retry, but a packet that begins with %#x", answer[0])
		}
	}
}

func TestQUICRefusesWhenFull(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Admit.Connections = 2
	// In virtual time nobody is idle for long enough to make room.
	s.RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		read(t, v.Get(t, "/"))
		other := v.Node.Visitor(t, "h2")
		read(t, other.Get(t, "/"))
		if resp, err := v.Node.Visitor(t, v.Proto).Client.Get(v.URL); err == nil {
			t.Errorf("status %d, want a refusal", resp.StatusCode)
		}
		other.Close()
		for v.Node.Admit.State().Connections > 1 {
			time.Sleep(time.Millisecond)
		}
		read(t, v.Node.Visitor(t, v.Proto).Get(t, "/"))
	})
}
