package origin

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/edge/leaktest"
	"spillway/origin/limit"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// newOrigin returns an origin with the defaults of the configuration where c
// has zeros, but for two: a busy machine may take seconds to reach a real server.
func newOrigin(t testing.TB, c Config) *Origin {
	t.Helper()
	o, err := New("test", withDefaults(c), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.retire)
	return o
}

func withDefaults(c Config) Config {
	if c.Servers == nil {
		c.Servers = []string{"http://a"}
	}
	set(&c.ReadAhead.PerResponse, 1<<20)
	set(&c.ReadAhead.Total, 64<<20)
	set(&c.LongLived, 1000)
	set(&c.Health.Interval, 2*time.Second)
	set(&c.Health.Timeout, 20*time.Second)
	set(&c.RetryBudget, .2)
	set(&c.ConnectTimeout, 20*time.Second)
	set(&c.Timeout, 30*time.Second)
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// trust returns settings that trust the certificate of a server.
func trust(t testing.TB, server *httptest.Server) TLSConfig {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, "CERTIFICATE", server.Certificate().Raw)
	return TLSConfig{CA: ca}
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A network connects origins in memory to servers that are functions, so that
// time can be virtual.
type network map[string]func(net.Conn)

func (n network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(addr)
	serve, ok := n[host]
	if !ok {
		return nil, errors.New("connection refused")
	}
	if serve == nil { // nobody there, not even to refuse
		<-ctx.Done()
		return nil, ctx.Err()
	}
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		serve(far)
	}()
	return near, nil
}

// requests reads requests with their bodies and calls answer for each, until the
// connection closes or answer returns false.
func requests(answer func(c net.Conn, r *http.Request) bool) func(net.Conn) {
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			if !answer(c, r) {
				return
			}
		}
	}
}

// says answers every request with the same bytes, and closes the connection
// after them unless keep is set.
func says(keep bool, pieces ...string) func(net.Conn) {
	return requests(func(c net.Conn, _ *http.Request) bool {
		for _, piece := range pieces {
			io.WriteString(c, piece)
		}
		return keep
	})
}

var visitor = Client{Addr: netip.MustParseAddr("192.0.2.1"), Proto: "https", Host: "example.com"}

// incoming is a request as a server of net/http has read it.
func incoming(t testing.TB, raw string) *http.Request {
	t.Helper()
	in, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func get(t testing.TB, target string) *http.Request {
	return incoming(t, "GET "+target+" HTTP/1.1\r\nHost: example.com\r\n\r\n")
}

func (o *Origin) acquire(t testing.TB) limit.Permit {
	t.Helper()
	p, ok := o.limiter.Acquire(0, 1)
	if !ok {
		t.Fatal("no permit")
	}
	return p
}

// ask sends a GET to the origin.
func (o *Origin) ask(t testing.TB) (*http.Response, error) {
	t.Helper()
	return o.Do(Outgoing(t.Context(), get(t, "/"), visitor, nil), o.acquire(t))
}

// checkRest fails unless everything that exchanges take was given back.
func (o *Origin) checkRest(t testing.TB) {
	t.Helper()
	s := o.State()
	if s.Limit.InFlight != 0 || s.Limit.LongLived != 0 || s.ReadAhead != 0 {
		t.Errorf("at rest: %d in flight, %d long-lived, %d bytes", s.Limit.InFlight, s.Limit.LongLived, s.ReadAhead)
	}
	for _, server := range s.Servers {
		if server.InFlight != 0 {
			t.Errorf("at rest: %d in flight at %s", server.InFlight, server.URL)
		}
	}
}
