package edge_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/edgetest"
)

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
				fmt.Fprint(w, "done by ", w.Header().Get("Generation"))
			}
			s := newSuccession(t, http.HandlerFunc(h), proto == "h3")
			c := s.client(proto)
			answer := ask(c, s.url()+"/held")
			<-entered
			done := s.handOver(t.Context())
			s.await(2)
			select {
			case err := <-done:
				t.Fatalf("handed over with a request in flight: %v", err)
			default:
			}
			close(release)
			if got := <-answer; got != "done by 1" {
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
func TestLeaveServesWhomItAccepted(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, leave departure) {
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
						c.CloseIdleConnections() // so that the node waits for nothing else
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
				done := leave(t.Context(), old)
				awaitClosed(old)
				time.Sleep(time.Second) // the rule has failed if this lets the node end
				close(resume)
				if got := <-got; got != "1<nil>" {
					t.Errorf("who was accepted: %s", got)
				}
				if err := <-done; err != nil {
					t.Errorf("leave: %v", err)
				}
			})
		}
		f("h1", "h1", "")
		f("h2", "h2", "")
		f("proxied", "h1", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\n")
	})
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
	s := newPatientSuccession(t, http.HandlerFunc(h), true, 20*time.Second) // for a client that is slow is not idle
	s.crowded = true
	url := s.url()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	leave := sync.OnceFunc(func() {
		close(stop)
		clients.Wait()
	})
	defer leave() // when the test fails, too: they could tell of it when it is over, which is a panic
	var answered, moves atomic.Int64
	var all []*http.Client
	for _, proto := range edgetest.Protocols {
		c := s.client(proto)
		all = append(all, c)
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
	leave()
	for _, c := range all {
		c.CloseIdleConnections() // which hand-overs wait for
	}
	for i, done := range drains {
		if err := <-done; err != nil {
			t.Errorf("hand-over %d: %v", i, err)
		}
	}
	t.Logf("%d requests, %d moves to another generation", answered.Load(), moves.Load())
}
