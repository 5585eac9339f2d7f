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
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// soakTime is how long the clients go on. SOAK_TIME changes it, such as 1m.
const soakTime = 6 * time.Minute

// A soak is a mix of clients, good and bad, that use a node for long.
type soak struct {
	node    *node
	answers atomic.Int64
	failed  atomic.Int64
	mu      sync.Mutex
	first   error // what went wrong first
}

// TestSoak mixes all clients for minutes, while the configuration is loaded again and the
// cache purged again and again. What was asked for rightly is answered rightly, and at the
// end the node is as it was at the start: no race, no goroutine, no memory and no pin is
// left behind, and each request is counted and logged once. Then processes follow one
// another while visitors come and go, and none of those is worse off.
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
	s.run(t, min(long/3, 70*time.Second), s.everybody) // to fill pools, what is made once, and the recorder's minute
	goroutines, heap := s.rest(t)
	s.run(t, long, s.everybody)
	afterGoroutines, afterHeap := s.rest(t)
	for again := 0; again < 3 && afterGoroutines > goroutines+5; again++ { // a stall may have kept them
		afterGoroutines, afterHeap = s.rest(t)
	}
	t.Logf("%d visits, %.0f hits; goroutines %d, then %d; heap %d KiB, then %d KiB",
		s.answers.Load(), s.node.hits(t), goroutines, afterGoroutines, heap>>10, afterHeap>>10)
	if afterGoroutines > goroutines+5 {
		t.Errorf("goroutines went from %d to %d", goroutines, afterGoroutines)
	}
	// What is bounded fills up with the minutes: the recorder's seconds have the room of the
	// busiest that they held, heads of hits are remembered with the fields of their entries.
	if afterHeap > heap+16<<20 {
		t.Errorf("the heap went from %d to %d KiB", heap>>10, afterHeap>>10)
	}
	s.addsUp(t)

	first := s.node.process.Pid
	s.run(t, min(long/3, 3*time.Minute), s.whoeverStays)
	if pid := s.node.follow(t); pid == first {
		t.Error("no process has followed the first")
	}
	s.rest(t)
	if n := s.failed.Load(); n > 0 {
		t.Errorf("%d of %d visits went wrong; the first: %v\nthe node said:\n%s", n, s.answers.Load(), s.first, s.node.said)
	}
}

// A habit is what some clients do again and again.
type habit struct {
	clients int
	pause   time.Duration
	do      func(context.Context) error
}

// run lets clients loose for a while.
func (s *soak) run(t *testing.T, long time.Duration, habits func() []habit) {
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var clients sync.WaitGroup
	for _, h := range habits() {
		for range h.clients {
			clients.Go(func() {
				for ctx.Err() == nil {
					s.note(h.do(context.WithoutCancel(ctx)))
					time.Sleep(h.pause)
				}
			})
		}
	}
	clients.Wait()
}

const briefly = 20 * time.Millisecond

// everybody is a mix of all clients, good and bad.
func (s *soak) everybody() []habit {
	all := []habit{
		{2, briefly, s.talk},
		{2, briefly, s.abandonHandshake},
		{2, briefly, s.sendGarbage},
		{1, briefly, s.giveUp},
		{1, time.Second, s.tell("/reload")},
		{1, 30 * time.Second, s.tell("/purge?all=1")},
		{1, 10 * time.Second, s.tell("/purge?soft=1&prefix=https%3A%2F%2Flocalhost%2Fkept%2F")},
	}
	for _, proto := range []string{"h1", "h2", "h3"} {
		all = append(all, habit{1, briefly, func(ctx context.Context) error { return s.leaveEarly(ctx, proto) }})
	}
	return append(all, s.visitors()...)
}

// whoeverStays are the visitors who ask for nothing that a hand-over may cut off, while
// one process follows another.
func (s *soak) whoeverStays() []habit {
	return append(s.visitors(), habit{1, 10 * time.Second, s.upgrade})
}

// visitors are the honest ones, over each protocol.
func (s *soak) visitors() (all []habit) {
	for _, proto := range []string{"h1", "h2", "h3"} {
		all = append(all,
			habit{2, briefly, func(ctx context.Context) error { return s.browse(ctx, proto) }},
			habit{2, briefly, func(ctx context.Context) error { return s.collect(ctx, proto) }})
	}
	return append(all, habit{1, briefly, s.pipeline})
}

// tell returns what tells the node's administration something.
func (s *soak) tell(what string) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, err := s.node.admin.Post(ctx, what); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
}

// upgrade has a new process take over from the one that serves.
func (s *soak) upgrade(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, spillway, "upgrade", "--admin", s.node.adminAddr())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("upgrade: %w: %s", err, out)
	}
	return nil
}

// addsUp compares what the node counted with what it logged. The clients have left.
func (s *soak) addsUp(t *testing.T) {
	t.Helper()
	if pinned := s.node.metric(t, "spillway_cache_pinned_bytes"); pinned != 0 {
		t.Errorf("%.0f bytes are pinned at rest", pinned)
	}
	counted, lost := s.node.metric(t, "spillway_requests_total"), s.node.metric(t, "spillway_access_log_lost_total")
	lines := 0.0
	await(t, "the access log has all lines", func() bool {
		lines = countLines(t, s.node.log)
		return lines+lost >= counted
	})
	if lines+lost != counted {
		t.Errorf("%.0f requests counted, %.0f lines logged and %.0f lost", counted, lines, lost)
	}
	if hits := s.node.hits(t); hits < counted/10 {
		t.Errorf("%.0f hits of %.0f requests", hits, counted)
	}
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
		s.first = fmt.Errorf("at %s: %w", time.Now().UTC().Format(time.RFC3339Nano), err)
	}
}

func (s *soak) client(proto string) (client *http.Client, leave func()) {
	switch proto {
	case "h3":
		tr := &http3.Transport{TLSClientConfig: s.node.tls("h3"), Dial: dial}
		return &http.Client{Transport: tr, Timeout: time.Minute}, func() { tr.Close() }
	case "h2":
		p := newPool(s.node)
		return &http.Client{Transport: &p.transport, Timeout: time.Minute}, p.close
	}
	tr := &http.Transport{TLSClientConfig: s.node.tls("http/1.1")}
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
				errs <- fmt.Errorf("%s %s: %d, %d bytes of %d, %q, %w", proto, target, resp.StatusCode, len(got), len(want), resp.Header.Get("Spillway"), err)
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
