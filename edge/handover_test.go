package edge_test

//lint:file-ignore SA1019 net/http's client of HTTP/2 loses bodies of its own at a GOAWAY, see clientThrough

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// A succession is a node that is handed over from process to process, here all in
// one. They share the TCP socket. Each generation has its number in its answers.
type succession struct {
	t      *testing.T
	setup  edgetest.Setup
	node   *edgetest.Node
	number int
	// crowded lets more than two generations live at once, for which connection IDs
	// have no room: each has a UDP address of its own, and visitors go to the last.
	crowded bool
	quic    atomic.Pointer[net.UDPAddr]
}

// newSuccession starts the first generation. Without HTTP/3 nothing waits for its
// late flows.
func newSuccession(t *testing.T, h http.Handler, quic bool) *succession {
	t.Helper()
	s := &succession{t: t, setup: edgetest.New(h)}
	s.setup.Config.HTTP3.Enabled = quic
	s.setup.Config.Timeouts.Idle = 2 * time.Second
	socks, err := edge.OpenSockets(t.Context(), s.setup.Config)
	if err != nil {
		t.Fatal(err)
	}
	s.start(socks)
	return s
}

func (s *succession) start(socks edge.Sockets) {
	s.number++
	generation, h := strconv.Itoa(s.number), s.setup.Handler
	setup := s.setup
	setup.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Generation", generation)
		h.ServeHTTP(w, r)
	})
	s.node = setup.StartOn(s.t, socks)
	if len(socks.UDP) > 0 {
		s.quic.Store(socks.UDP[0].LocalAddr().(*net.UDPAddr))
	}
}

// passed returns sockets as another process gets them.
func passed(t *testing.T, files func() ([]*os.File, error)) edge.Sockets {
	t.Helper()
	all, err := files()
	if err != nil {
		t.Fatal(err)
	}
	s, err := edge.AdoptSockets(all)
	for _, f := range all {
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// succeed starts the next generation.
func (s *succession) succeed() {
	s.t.Helper()
	mine := s.node.Listeners.Sockets()
	if err := mine.Hold(); err != nil {
		s.t.Fatal(err)
	}
	socks, err := edge.InheritSockets(s.t.Context(), s.setup.Config, passed(s.t, mine.StreamFiles))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.crowded && len(socks.UDP) > 0 {
		elsewhere, err := edge.OpenSockets(s.t.Context(), s.setup.Config)
		if err != nil {
			s.t.Fatal(err)
		}
		elsewhere.TCP.Close()
		socks.UDP[0].Close()
		socks.UDP = elsewhere.UDP
	}
	steering := edge.Steering{IDs: edgetest.ConnectionIDs(s.t, ""), Generation: s.number % 2, Succeeds: !s.crowded}
	if err := socks.Steer(s.t.Context(), steering); err != nil {
		s.t.Fatal(err)
	}
	s.start(socks)
}

// handOver lets a successor take over, and returns what becomes of the predecessor.
func (s *succession) handOver(ctx context.Context) <-chan error {
	s.t.Helper()
	old := s.node
	s.succeed()
	s.await(s.number)
	return handOver(ctx, old)
}

// await waits until a generation gets what is new: over TCP both do, for a while.
func (s *succession) await(number int) {
	s.t.Helper()
	proto := "h1"
	if s.setup.Config.HTTP3.Enabled {
		proto = "h3"
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		c := s.client(proto)
		got, err := generation(c, s.url())
		c.CloseIdleConnections()
		if err != nil {
			s.t.Fatal(err)
		}
		if got == strconv.Itoa(number) {
			return
		}
	}
	s.t.Fatalf("generation %d gets nobody", number)
}

// A dialTCP opens a TCP connection.
type dialTCP func(ctx context.Context, network, address string) (net.Conn, error)

// client returns a client of whichever generation there is, which trusts them all.
func (s *succession) client(proto string) *http.Client {
	return s.clientThrough(proto, new(net.Dialer).DialContext)
}

// clientThrough returns one whose TCP connections are made by d.
func (s *succession) clientThrough(proto string, d dialTCP) *http.Client {
	config := &tls.Config{ServerName: edgetest.Host, InsecureSkipVerify: true}
	if proto == "h3" {
		tr := &http3.Transport{
			TLSClientConfig: config, QUICConfig: &quic.Config{},
			Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
				return quic.DialAddrEarly(ctx, s.quic.Load().String(), c, q)
			},
		}
		s.t.Cleanup(func() { tr.Close() })
		return &http.Client{Transport: tr}
	}
	if proto == "h2" {
		// That of net/http closes a body that it has not begun to send when it learns of
		// a GOAWAY, and finds then that it cannot send it elsewhere.
		tr := &http2.Transport{
			TLSClientConfig: config,
			DialTLSContext: func(ctx context.Context, network, address string, c *tls.Config) (net.Conn, error) {
				raw, err := d(ctx, network, address)
				if err != nil {
					return nil, err
				}
				conn := tls.Client(raw, c)
				return conn, conn.HandshakeContext(ctx)
			},
		}
		s.t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	tr := &http.Transport{TLSClientConfig: config, DialContext: d}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (s *succession) url() string { return s.node.URL() }

// generation asks who answers a client.
func generation(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	return resp.Header.Get("Generation"), nil
}

func TestHandOverFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			entered, release := make(chan struct{}), make(chan struct{})
			h := func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/held" {
					close(entered)
					<-release
				}
				fmt.Fprint(w, "done")
			}
			s := newSuccession(t, http.HandlerFunc(h), proto == "h3")
			c := s.client(proto)
			answer, url := make(chan string, 1), s.url()
			go func() {
				resp, err := c.Get(url + "/held")
				if err != nil {
					answer <- err.Error()
					return
				}
				answer <- read(t, resp) + resp.Header.Get("Generation")
			}()
			<-entered
			done := s.handOver(t.Context())
			s.await(2)
			select {
			case err := <-done:
				t.Fatalf("handed over with a request in flight: %v", err)
			default:
			}
			close(release)
			if got := <-answer; got != "done1" {
				t.Errorf("request in flight: %q", got)
			}
			if err := <-done; err != nil {
				t.Errorf("hand over: %v", err)
			}
		})
	}
}

// awaitClosed waits until a node has closed its stream sockets.
func awaitClosed(n *edgetest.Node) {
	for {
		socks := n.Listeners.Sockets()
		files, err := socks.StreamFiles()
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// A pause is a connection that begins with a PROXY header or with nothing. It stops
// amid what it says first until it is resumed.
type pause struct {
	net.Conn
	header        string
	begun, resume chan struct{}
	once          sync.Once
}

// Write implements net.Conn.
func (p *pause) Write(b []byte) (int, error) {
	n, err := 0, error(nil)
	p.once.Do(func() {
		first := append([]byte(p.header), b...)
		half := len(first) / 2
		if p.header != "" {
			half = len(p.header) / 2
		}
		if _, err = p.Conn.Write(first[:half]); err != nil {
			return
		}
		close(p.begun)
		<-p.resume
		_, err = p.Conn.Write(first[half:])
		n = len(b)
	})
	if n > 0 || err != nil {
		return n, err
	}
	return p.Conn.Write(b)
}

// A connection that was accepted is served, however little of it has come: its PROXY
// header, its handshake, its first request.
func TestHandOverServesWhomItAccepted(t *testing.T) {
	t.Parallel()
	f := func(what, proto, header string) {
		t.Run(what, func(t *testing.T) {
			s := newSuccession(t, http.HandlerFunc(echoProto), false)
			if header != "" {
				s.setup.Config.ProxyProtocol = []string{"127.0.0.1"}
				if err := s.node.Listeners.Reload(s.setup.Config, nil); err != nil {
					t.Fatal(err)
				}
			}
			visit := func(resume chan struct{}) (begun chan struct{}, got chan string) {
				begun, got = make(chan struct{}), make(chan string, 1)
				url := s.url()
				c := s.clientThrough(proto, func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					return &pause{Conn: conn, header: header, begun: begun, resume: resume}, err
				})
				go func() {
					g, err := generation(c, url)
					c.CloseIdleConnections() // so that the hand-over waits for nothing else
					got <- fmt.Sprint(g, err)
				}()
				return begun, got
			}
			resume, now := make(chan struct{}), make(chan struct{})
			close(now)
			begun, got := visit(resume)
			<-begun
			// Connections are accepted one after the other.
			if _, next := visit(now); <-next != "1<nil>" {
				t.Fatal("the next one was not served")
			}
			old := s.node
			s.succeed()
			done := handOver(t.Context(), old)
			awaitClosed(old)
			time.Sleep(time.Second) // the rule has failed if this lets the hand-over end
			close(resume)
			if got := <-got; got != "1<nil>" {
				t.Errorf("who was accepted: %s", got)
			}
			if err := <-done; err != nil {
				t.Errorf("hand over: %v", err)
			}
		})
	}
	f("h1", "h1", "")
	f("h2", "h2", "")
	f("proxied", "h1", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\n")
}

// Clients that go on all the time, on connections that are kept, are to notice
// nothing of twenty hand-overs: each request is answered, also those that a client
// cannot send twice.
func TestHandOverLosesNoRequest(t *testing.T) {
	t.Parallel()
	const handOvers = 20
	h := func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, n)
	}
	s := newSuccession(t, http.HandlerFunc(h), true)
	s.crowded = true
	url := s.url()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var answered, moves atomic.Int64
	for _, proto := range edgetest.Protocols {
		c := s.client(proto)
		for i := range 4 {
			clients.Go(func() {
				last := ""
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					r, err := http.NewRequest(http.MethodGet, url, nil)
					want := "0"
					if i%2 == 1 {
						// Of a type that net/http cannot rewind.
						want = "100000"
						r, err = http.NewRequest(http.MethodPost, url, io.LimitReader(rand.Reader, 100_000))
					}
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := c.Do(r)
					if err != nil {
						t.Errorf("%s, request %d on generation %s: %v", proto, n, last, err)
						return
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || string(body) != want {
						t.Errorf("%s, request %d on generation %s: %q, %v", proto, n, last, body, err)
						return
					}
					if g := resp.Header.Get("Generation"); g != last {
						last = g
						moves.Add(1)
					}
					answered.Add(1)
				}
			})
		}
	}
	var drains []<-chan error
	for range handOvers {
		for before := answered.Load(); answered.Load() < before+100 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		drains = append(drains, s.handOver(t.Context()))
	}
	for before := moves.Load(); moves.Load() == before && !t.Failed(); {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	clients.Wait()
	for i, done := range drains {
		if err := <-done; err != nil {
			t.Errorf("hand-over %d: %v", i, err)
		}
	}
	t.Logf("%d requests, %d moves to another generation", answered.Load(), moves.Load())
}
