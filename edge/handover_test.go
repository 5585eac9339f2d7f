package edge_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
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
// one. They share the TCP socket. Each has a UDP socket at an address of its own, and
// visitors go to the last one: that stands for the kernel's steering.
type succession struct {
	t      *testing.T
	setup  edgetest.Setup
	name   string // of the present generation, in answers
	socks  edge.Sockets
	node   *edgetest.Node
	quic   atomic.Pointer[net.UDPAddr]
	number int
	drains sync.WaitGroup
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
	s.socks, s.node = socks, setup.StartOn(s.t, socks)
	if len(socks.UDP) > 0 {
		s.quic.Store(socks.UDP[0].LocalAddr().(*net.UDPAddr))
	}
}

// succeed starts the next generation.
func (s *succession) succeed() {
	s.t.Helper()
	files, err := s.socks.StreamFiles()
	if err != nil {
		s.t.Fatal(err)
	}
	socks, err := edge.AdoptSockets(files)
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if s.setup.Config.HTTP3.Enabled {
		own, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			s.t.Fatal(err)
		}
		socks.UDP = []net.PacketConn{own}
	}
	s.start(socks)
}

// handOver lets a successor take over, and returns what becomes of the predecessor.
func (s *succession) handOver(ctx context.Context) <-chan error {
	s.t.Helper()
	old := s.node
	s.succeed()
	done := make(chan error, 1)
	s.drains.Go(func() { done <- old.Listeners.HandOver(ctx) })
	return done
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
			answer := make(chan string, 1)
			go func() {
				resp, err := c.Get(s.url() + "/held")
				if err != nil {
					answer <- err.Error()
					return
				}
				answer <- read(t, resp) + resp.Header.Get("Generation")
			}()
			<-entered
			done := s.handOver(t.Context())
			for range 20 {
				// The predecessor may still be about to accept the first of them.
				if got, err := generation(s.client(proto), s.url()); err != nil || got != "1" && got != "2" {
					t.Fatalf("newcomer: generation %q, %v", got, err)
				}
			}
			if got, err := generation(s.client(proto), s.url()); got != "2" || err != nil {
				t.Errorf("newcomer: generation %q, %v", got, err)
			}
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

// pause sends the first half of what a TLS client says first, and the rest when it
// is resumed.
type pause struct {
	net.Conn
	begun  chan struct{}
	resume chan struct{}
	once   sync.Once
}

func (p *pause) Write(b []byte) (n int, err error) {
	p.once.Do(func() {
		n, err = p.Conn.Write(b[:len(b)/2])
		close(p.begun)
		<-p.resume
	})
	if err != nil {
		return n, err
	}
	m, err := p.Conn.Write(b[n:])
	return n + m, err
}

// A connection that was accepted is served, however little of it has come: its PROXY
// header, its handshake, its first request.
func TestHandOverServesWhomItAccepted(t *testing.T) {
	t.Parallel()
	f := func(t *testing.T, proto string, proxied bool) {
		s := newSuccession(t, http.HandlerFunc(echoProto), false)
		if proxied {
			s.node.Stop(t)
			s.setup.Config.ProxyProtocol = []string{"127.0.0.1"}
			socks, err := edge.OpenSockets(t.Context(), s.setup.Config)
			if err != nil {
				t.Fatal(err)
			}
			s.start(socks)
			s.number = 1
		}
		begun, resume := make(chan struct{}), make(chan struct{})
		c := s.clientThrough(proto, func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return &pause{Conn: conn, begun: begun, resume: resume}, err
		})
		got := make(chan string, 1)
		go func() {
			g, err := generation(c, s.url())
			got <- fmt.Sprint(g, err)
		}()
		<-begun
		for s.node.Listeners.State().TCP == 0 {
			time.Sleep(time.Millisecond)
		}
		done := s.handOver(t.Context())
		for {
			if g, err := generation(s.client(proto), s.url()); err != nil {
				t.Fatal(err)
			} else if g == "2" {
				break
			}
		}
		close(resume)
		if got := <-got; got != "1<nil>" {
			t.Errorf("who was accepted: %s", got)
		}
		if err := <-done; err != nil {
			t.Errorf("hand over: %v", err)
		}
	}
	t.Run("h1", func(t *testing.T) { f(t, "h1", false) })
	t.Run("h2", func(t *testing.T) { f(t, "h2", false) })
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
