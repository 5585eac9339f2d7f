package edge_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/outcome"
)

// A hasty visitor sends requests as early data and hears nothing of the node before
// those have arrived there: what lands at another socket than the client hello, or waits
// for the end of the handshake, does not arrive. So nothing races in quic-go, either.
type hasty struct {
	*nat
	heard chan struct{} // closed: he hears the node

	mu    sync.Mutex
	sent  [][]byte // all packets until then
	slots map[byte]bool
}

func newHasty(t *testing.T, n *edgetest.Node) *hasty {
	t.Helper()
	h := &hasty{nat: newNAT(t, udpAddr(t, n)), heard: make(chan struct{}), slots: map[byte]bool{}}
	h.onPacket = func(packet []byte) {
		<-h.heard
		h.note(packet)
	}
	return h
}

func udpAddr(t *testing.T, n *edgetest.Node) *net.UDPAddr {
	t.Helper()
	remote, err := net.ResolveUDPAddr("udp", n.Listeners.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return remote
}

// WriteTo implements net.PacketConn.
func (h *hasty) WriteTo(p []byte, to net.Addr) (int, error) {
	select {
	case <-h.heard:
	default:
		h.mu.Lock()
		h.sent = append(h.sent, append([]byte(nil), p...))
		h.mu.Unlock()
	}
	return h.nat.WriteTo(p, to)
}

// note notes which socket of the node a packet with a long header is from, by the slot in
// the connection ID (RFC 9000 section 17.2).
func (h *hasty) note(packet []byte) {
	if packet[0]&0x80 == 0 {
		return
	}
	rest := packet[6+int(packet[5]):]
	id := rest[1 : 1+int(rest[0])]
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slots[id[len(id)-11]&0x3f] = true
}

// hurry sends requests as early data, each a method and a path.
func (h *hasty) hurry(t *testing.T, ctx context.Context, c *tls.Config, requests ...string) (*quic.Conn, []*http3.RequestStream) {
	t.Helper()
	c = c.Clone()
	c.NextProtos = []string{http3.NextProtoH3}
	from := &quic.Transport{Conn: h}
	t.Cleanup(func() { from.Close() })
	conn, err := from.DialEarly(ctx, h.remote, c, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	client := new(http3.Transport).NewClientConn(conn)
	var streams []*http3.RequestStream
	for _, request := range requests {
		str, err := client.OpenRequestStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		method, path, _ := strings.Cut(request, " ")
		r, err := http.NewRequestWithContext(ctx, method, "https://"+h.remote.String()+path, nil)
		if err == nil {
			err = str.SendRequestHeader(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		str.Close()
		streams = append(streams, str)
	}
	return conn, streams
}

// visit sends requests as early data, lets the visitor hear the node when one of them has
// arrived, and returns the answers.
func (h *hasty) visit(t *testing.T, c *tls.Config, arrived <-chan bool, requests ...string) (answers []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	conn, streams := h.hurry(t, ctx, c, requests...)
	select {
	case early := <-arrived:
		if !early {
			t.Error("a request came when the handshake was complete")
		}
	case <-ctx.Done():
		t.Error("no early data arrived")
	}
	close(h.heard)
	for _, str := range streams {
		resp, err := str.ReadResponse()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, string(body))
	}
	if !conn.ConnectionState().Used0RTT {
		t.Error("the node refused early data")
	}
	<-c.ClientSessionCache.(*sessions).put
	conn.CloseWithError(0, "")
	return answers
}

// A counter counts POSTs, and tells of each GET whether it was early.
type counter struct {
	name    string
	posts   atomic.Int64
	arrived chan bool
}

func newCounter(name string) *counter { return &counter{name: name, arrived: make(chan bool, 100)} }

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		c.posts.Add(1)
		fmt.Fprint(w, c.name, " early ", edge.Early(r))
		return
	}
	c.arrived <- edge.Early(r)
	fmt.Fprint(w, c.name)
}

// firstVisit gets a ticket for the visits to come.
func firstVisit(t *testing.T, n *edgetest.Node, c *tls.Config, arrived <-chan bool) {
	t.Helper()
	r := newRoamer(t, n, c)
	if _, err := r.ask(patient); err != nil {
		t.Fatal(err)
	}
	<-arrived
	<-c.ClientSessionCache.(*sessions).put
}

func withTickets(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.ClientSessionCache = &sessions{ClientSessionCache: tls.NewLRUClientSessionCache(1), put: make(chan struct{}, 1000)}
	return c
}

// Early data comes to the socket of its client hello, whichever of four that is.
func TestEarlyDataAtSeveralSockets(t *testing.T) {
	h := newCounter("node")
	s := edgetest.New(h)
	n := s.StartOn(t, steeredSockets(t, &s, 4))
	c := withTickets(n.Client)
	firstVisit(t, n, c, h.arrived)
	slots := map[byte]bool{}
	for range 16 {
		v := newHasty(t, n)
		if got := v.visit(t, c, h.arrived, "GET /", "POST /"); got[0] != "node" || got[1] != "node early false" {
			t.Errorf("answers %q", got)
		}
		v.mu.Lock() // he may still hear the node's farewell
		maps.Copy(slots, v.slots)
		v.mu.Unlock()
	}
	if len(slots) < 2 { // all at one: once in a billion
		t.Errorf("the visits were at slots %v", slots)
	}
}

// A successor takes early data by the tickets of the process before. Who records some,
// and plays it to the successor, has nothing done again that must not be.
func TestEarlyDataAtTheSuccessor(t *testing.T) {
	f := func(name string, steering edge.Steering, count int) {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			start := func(h *counter, socks edge.Sockets, steering edge.Steering) *edgetest.Node {
				s := edgetest.New(h)
				s.Config.State = state
				if socks.UDP == nil {
					socks = open(t, &s)
				}
				if err := socks.Steer(t.Context(), steering); err != nil {
					t.Fatal(err)
				}
				if len(socks.UDP) != count {
					t.Fatalf("%d sockets", len(socks.UDP))
				}
				n := s.StartOn(t, socks)
				<-n.Listeners.Started()
				return n
			}
			was, is := newCounter("before"), newCounter("successor")
			before := start(was, edge.Sockets{}, steering)
			c := withTickets(before.Client)
			firstVisit(t, before, c, was.arrived)
			recorded := newHasty(t, before)
			if got := recorded.visit(t, c, was.arrived, "POST /", "GET /"); got[0] != "before early false" {
				t.Errorf("answers %q", got)
			}

			socks := before.Listeners.Sockets()
			if err := socks.Hold(); err != nil {
				t.Fatal(err)
			}
			steering.Generation, steering.Before = 1, before.Listeners.State().UDPSteering
			successor := start(is, edge.Sockets{UDP: []net.PacketConn{beside(t, socks.UDP[0])}}, steering)
			for range 4 {
				v := newHasty(t, before) // whose address both have
				if got := v.visit(t, c, is.arrived, "GET /"); got[0] != "successor" {
					t.Errorf("answer %q", got)
				}
			}
			replay(t, before, recorded.sent, is.arrived)
			before.Stop(t)
			successor.Stop(t)
			if was.posts.Load() != 1 || is.posts.Load() != 0 {
				t.Errorf("the POST was run %d and %d times", was.posts.Load(), is.posts.Load())
			}
		})
	}
	ids := edgetest.ConnectionIDs(t, "8 bytes.")
	f("classic", edge.Steering{IDs: ids}, 1)
	f("kernel", edge.Steering{IDs: ids, Kernel: kernel(t, ids), Sockets: 4}, 4)
}

// replay sends packets again from another address, and returns when the GET among them
// has arrived.
func replay(t *testing.T, n *edgetest.Node, packets [][]byte, arrived <-chan bool) {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, udpAddr(t, n))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, p := range packets {
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case early := <-arrived:
		if !early {
			t.Error("a replay completed its handshake")
		}
	case <-time.After(patient):
		t.Error("the replay did not arrive")
	}
}

// Early data may be what somebody else plays again, who cannot complete a handshake: it
// gets what is stored, and asks no origin.
func TestEarlyDataAsksNoOrigin(t *testing.T) {
	w := newWorld(t, "h3", 1)
	w.origin.says(cacheable(3600, "stored"))
	w.ask("GET", "/plain/stored", "").check(t, http.StatusOK, "origin", "stored")
	c := withTickets(w.node.Client)
	if _, err := newRoamer(t, w.node, c).ask(patient); err != nil {
		t.Fatal(err)
	}
	<-c.ClientSessionCache.(*sessions).put
	asked, arrived := w.origin.requests.Load(), w.arrived.Load()
	h := newHasty(t, w.node)
	h.hurry(t, t.Context(), c, "GET /plain/other", "GET /plain/stored")
	for w.server.Outcomes()[outcome.Hit] == 0 || w.arrived.Load() < arrived+2 {
		time.Sleep(time.Millisecond)
	}
	w.node.Stop(t)
	close(h.heard)
	if got := w.origin.requests.Load(); got != asked {
		t.Errorf("the origin was asked %d times", got-asked)
	}
}
