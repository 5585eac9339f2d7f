package origin

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"spillway/edge/synctest"
)

// toldConn notes how many permits were out when the server was told to stop.
type toldConn struct {
	net.Conn
	o    *Origin
	told *atomic.Int64 // -1 until then
}

// rstStream is the type of the HTTP/2 frame that ends a stream (RFC 9113 section
// 6.4). It follows the length of the frame.
const rstStream = 3

func (c *toldConn) Write(p []byte) (int, error) {
	if len(p) >= 4 && p[3] == rstStream {
		c.note()
	}
	return c.Conn.Write(p)
}

func (c *toldConn) Close() error {
	c.note()
	return c.Conn.Close()
}

func (c *toldConn) note() { c.told.CompareAndSwap(-1, int64(c.o.State().Limit.InFlight)) }

// TestAbandonedRequest: whoever stops a request, and wherever it is, the server
// is told. Over HTTP/1.1 that is before anybody else can get the permit; over
// HTTP/2 the frame is on its way at that time.
func TestAbandonedRequest(t *testing.T) {
	f := func(name, scheme, path string, timeout time.Duration, abandon func(cancel func(), body io.Closer)) {
		t.Run(scheme+" "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { abandonRequest(t, scheme, path, timeout, abandon) })
		})
	}
	waits := func(func(), io.Closer) {}
	leaves := func(cancel func(), _ io.Closer) { cancel() }
	for _, scheme := range []string{"http", "h2c"} {
		f("visitor leaves before the head", scheme, "/", 0, leaves)
		f("visitor leaves in the body", scheme, "/body", 0, leaves)
		f("body is closed", scheme, "/body", 0, func(_ func(), body io.Closer) { body.Close() })
		f("deadline before the head", scheme, "/", 100*time.Millisecond, waits)
		f("server is silent in the body", scheme, "/body", 100*time.Millisecond, waits)
	}
}

func abandonRequest(t *testing.T, scheme, path string, timeout time.Duration, abandon func(cancel func(), body io.Closer)) {
	began, ended := make(chan struct{}), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		if r.URL.Path == "/body" {
			io.WriteString(w, "abc")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		close(ended)
	})}
	if scheme == "h2c" {
		server.Protocols = protocols((*http.Protocols).SetUnencryptedHTTP2)
	}
	l := bufconn.Listen(64 << 10)
	go server.Serve(l)
	defer server.Close()
	o := newOrigin(t, Config{Servers: []string{scheme + "://a"}, Timeout: timeout})
	told := &atomic.Int64{}
	told.Store(-1)
	o.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := l.DialContext(ctx)
		return &toldConn{conn, o, told}, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := o.Do(Outgoing(ctx, get(t, path), visitor, nil), o.acquire(t))
		if err != nil {
			return
		}
		abandon(cancel, resp.Body)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}()
	if <-began; path != "/body" {
		abandon(cancel, nil)
	}
	<-done
	<-ended
	if n := told.Load(); scheme == "http" && n != 1 {
		t.Errorf("the server was told with %d permits out, want 1", n)
	}
	o.checkRest(t)
}
