package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// soakTime is how long the clients go on. SOAK_TIME changes it, such as 1m.
const soakTime = 10 * time.Minute

// A soak is a mix of clients, good and bad, that use a node for long.
type soak struct {
	node    *node
	answers atomic.Int64
	failed  atomic.Int64
	mu      sync.Mutex
	first   error // what went wrong first
}

// TestSoak mixes all clients for minutes, while the configuration is loaded again
// and again. What was asked for rightly is answered rightly, and at the end the
// node is as it was at the start: no race, no goroutine and no memory is left
// behind.
func TestSoak(t *testing.T) {
	long := soakTime
	if text := os.Getenv("SOAK_TIME"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SOAK_TIME: %v", err)
		}
	}
	o := newOrigin(t)
	// The machine may be busy with other things; what is shed for that is no fault.
	s := &soak{node: startNode(t, settings{server: o.URL, origin: ", limit: {min: 1000}"})}
	s.run(t, min(long/3, 70*time.Second)) // to fill pools, what is made once, and the recorder's minute
	goroutines, heap := s.rest(t)
	s.run(t, long)
	afterGoroutines, afterHeap := s.rest(t)
	t.Logf("%d answers; goroutines %d, then %d; heap %d KiB, then %d KiB",
		s.answers.Load(), goroutines, afterGoroutines, heap>>10, afterHeap>>10)
	if s.failed.Load() > 0 {
		t.Errorf("%d of %d answers were wrong; the first: %v", s.failed.Load(), s.answers.Load(), s.first)
	}
	if afterGoroutines > goroutines+5 {
		t.Errorf("goroutines went from %d to %d", goroutines, afterGoroutines)
	}
	// The access log's and other buffers settle at different sizes.
	if afterHeap > heap+8<<20 {
		t.Errorf("the heap went from %d to %d KiB", heap>>10, afterHeap>>10)
	}
}

// run lets all clients loose for a while.
func (s *soak) run(t *testing.T, long time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var clients sync.WaitGroup
	repeat := func(n int, visit func(context.Context) error) {
		for range n {
			clients.Go(func() {
				for ctx.Err() == nil {
					s.note(visit(context.WithoutCancel(ctx)))
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
	}
	for _, proto := range []string{"h1", "h2", "h3"} {
		repeat(2, func(ctx context.Context) error { return s.browse(ctx, proto) })
		repeat(1, func(ctx context.Context) error { return s.leaveEarly(ctx, proto) })
	}
	repeat(2, s.talk)
	repeat(2, s.abandonHandshake)
	repeat(2, s.sendGarbage)
	repeat(1, func(context.Context) error {
		time.Sleep(time.Second)
		return s.node.cmd.Process.Signal(syscall.SIGHUP)
	})
	clients.Wait()
}

func (s *soak) note(err error) {
	s.answers.Add(1)
	if err == nil {
		return
	}
	s.failed.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == nil {
		s.first = err
	}
}

func (s *soak) client(proto string) (client *http.Client, leave func()) {
	if proto == "h3" {
		tr := &http3.Transport{TLSClientConfig: s.node.tls("h3")}
		return &http.Client{Transport: tr, Timeout: time.Minute}, func() { tr.Close() }
	}
	tr := &http.Transport{TLSClientConfig: s.node.tls("http/1.1")}
	if proto == "h2" {
		tr = &http.Transport{TLSClientConfig: s.node.tls("h2"), ForceAttemptHTTP2: true}
	}
	return &http.Client{Transport: tr, Timeout: time.Minute}, tr.CloseIdleConnections
}

// browse is a visitor who asks for a few things at once, and leaves.
func (s *soak) browse(ctx context.Context, proto string) error {
	client, leave := s.client(proto)
	defer leave()
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	ask := func(method, target string, body, want []byte) {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, method, s.node.url+target, bytes.NewReader(body))
			resp, err := client.Do(req)
			if err != nil {
				errs <- fmt.Errorf("%s %s: %w", proto, target, err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 || !bytes.Equal(got, want) {
				errs <- fmt.Errorf("%s %s: %d, %d bytes of %d, %w", proto, target, resp.StatusCode, len(got), len(want), err)
			}
		})
	}
	ask("GET", "/bytes/1024", nil, pattern(1024))
	ask("GET", "/bytes/300000", nil, pattern(300_000))
	ask("POST", "/echo", pattern(70_000), pattern(70_000))
	ask("GET", "/hints", nil, []byte("hinted"))
	ask("GET", "/trailers", nil, []byte("trailed"))
	ask("GET", odd, nil, []byte(odd))
	wg.Wait()
	close(errs)
	return <-errs
}

// leaveEarly is a visitor who does not wait for the end.
func (s *soak) leaveEarly(ctx context.Context, proto string) error {
	client, leave := s.client(proto)
	defer leave()
	for _, target := range []string{"/bytes/3000000", "/events"} {
		ctx, cancel := context.WithCancel(ctx)
		req, _ := http.NewRequestWithContext(ctx, "GET", s.node.url+target, nil)
		resp, err := client.Do(req)
		if err != nil {
			cancel()
			return fmt.Errorf("%s %s: %w", proto, target, err)
		}
		io.CopyN(io.Discard, resp.Body, 10)
		cancel()
		resp.Body.Close()
	}
	return nil
}

// talk holds a conversation over a WebSocket.
func (s *soak) talk(ctx context.Context) error {
	transport := &http.Transport{TLSClientConfig: s.node.tls("http/1.1")}
	defer transport.CloseIdleConnections()
	c, _, err := websocket.Dial(ctx, "wss://localhost:"+s.node.port+"/socket", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		return fmt.Errorf("open a WebSocket: %w", err)
	}
	defer c.CloseNow()
	for i := range 10 {
		said := fmt.Append(nil, "message ", i)
		if err := c.Write(ctx, websocket.MessageText, said); err != nil {
			return fmt.Errorf("WebSocket: %w", err)
		}
		if _, heard, err := c.Read(ctx); err != nil || !bytes.Equal(heard, said) {
			return fmt.Errorf("WebSocket: said %q, heard %q: %w", said, heard, err)
		}
	}
	return c.Close(websocket.StatusNormalClosure, "")
}

// abandonHandshake begins connections and never goes on with them.
func (s *soak) abandonHandshake(ctx context.Context) error {
	conn, err := net.Dial("tcp", "127.0.0.1:"+s.node.port)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
	defer cancel()
	q, err := quic.DialAddr(ctx, "127.0.0.1:"+s.node.port, s.node.tls("h3"), nil)
	if err == nil {
		q.CloseWithError(0, "")
	}
	return nil
}

// sendGarbage says what no protocol knows.
func (s *soak) sendGarbage(ctx context.Context) error {
	plain, err := net.Dial("tcp", "127.0.0.1:"+s.node.port)
	if err != nil {
		return err
	}
	io.WriteString(plain, "GET / HTTP/1.1\r\n\r\n")
	plain.Close()
	for _, protocol := range []string{"h2", "http/1.1"} {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+s.node.port, s.node.tls(protocol))
		if err != nil {
			return err
		}
		conn.Write(pattern(2000))
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("garbage over %s: the connection stays open", protocol)
		}
		conn.Close()
	}
	return nil
}

var (
	goroutineTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)
	heapAlloc      = regexp.MustCompile(`# HeapAlloc = (\d+)`)
)

// rest waits until the node has no connection left, and returns what it holds.
func (s *soak) rest(t *testing.T) (goroutines, heap int) {
	t.Helper()
	await(t, "all connections are closed", func() bool { return s.node.metric(t, "spillway_connections") == 0 })
	s.node.atRest(t)
	time.Sleep(5 * time.Second) // connections to the origin are kept for 4 s
	return s.profile(t, "goroutine?debug=1", goroutineTotal), s.profile(t, "heap?gc=1&debug=1", heapAlloc)
}

func (s *soak) profile(t *testing.T, name string, number *regexp.Regexp) int {
	t.Helper()
	text, err := s.node.admin.Get(t.Context(), "/debug/pprof/"+name)
	if err != nil {
		t.Fatal(err)
	}
	match := number.FindSubmatch(text)
	if match == nil {
		t.Fatalf("no number in %.200s", text)
	}
	n, _ := strconv.Atoi(string(match[1]))
	return n
}
