package edge_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/edge/edgetest"
	"spillway/edge/synctest"
)

const proxyLine = "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n"

// dialWith returns a dialer that says something first, as a balancer does.
func dialWith(header string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			_, err = conn.Write([]byte(header))
		}
		return conn, err
	}
}

// behind is a visitor whose connections begin with the header.
func behind(t *testing.T, n *edgetest.Node, proto, header string) *edgetest.Visitor {
	t.Helper()
	v := n.Visitor(t, proto)
	v.Transport.(*http.Transport).DialContext = dialWith(header)
	return v
}

func whoAsks(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }

func TestProxiedVisitorHasTheAddressInTheHeader(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(whoAsks))
	s.Config.ProxyProtocol = []string{"127.0.0.1"}
	n := s.Start(t)
	for _, proto := range []string{"h1", "h2"} {
		if got := read(t, behind(t, n, proto, proxyLine).Get(t, "/")); got != "203.0.113.7:12345" {
			t.Errorf("%s: the visitor is %s", proto, got)
		}
		// The proxy may ask for itself.
		if got := read(t, behind(t, n, proto, "PROXY UNKNOWN\r\n").Get(t, "/")); !strings.HasPrefix(got, "127.0.0.1:") {
			t.Errorf("%s: the proxy is %s", proto, got)
		}
	}
	if got := n.Listeners.State().ProxyHeaders; got != 0 {
		t.Errorf("%d headers refused", got)
	}
}

// A proxy that passes on what clients write would let them write the header. So
// who is to send one and does not is closed, and nobody else is asked for one.
func TestProxiedHeaderIsRequired(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(whoAsks))
	s.Config.ProxyProtocol = []string{"127.0.0.1"}
	n := s.Start(t)
	for i, proto := range []string{"h1", "h2"} {
		if resp, err := behind(t, n, proto, "").Client.Get(n.URL()); err == nil {
			t.Errorf("%s: without a header the visitor is %s", proto, read(t, resp))
		}
		if got := n.Listeners.State().ProxyHeaders; got != uint64(i+1) {
			t.Errorf("%s: %d headers refused", proto, got)
		}
	}
	s.Config.ProxyProtocol, s.Config.TrustedProxies = []string{"192.0.2.0/24"}, []string{"127.0.0.1"}
	n = s.Start(t)
	if got := read(t, behind(t, n, "h1", "").Get(t, "/")); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("the visitor is %s", got)
	}
	if resp, err := behind(t, n, "h1", proxyLine).Client.Get(n.URL()); err == nil {
		t.Errorf("who is trusted for fields only has a header taken: %s", read(t, resp))
	}
}

// Only a reload decides whom new connections are believed.
func TestProxiedHeaderOfStrangersIsNoHeader(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(whoAsks))
	s.Config.State = t.TempDir()
	n := s.Start(t)
	visit := func(trusted string, ok bool) {
		t.Helper()
		c := s.Config
		c.ProxyProtocol = []string{trusted}
		if err := n.Listeners.Reload(c, []string{edgetest.Host}); err != nil {
			t.Fatal(err)
		}
		resp, err := behind(t, n, "h1", proxyLine).Client.Get(n.URL())
		if ok != (err == nil) {
			t.Errorf("trusted %s: %v", trusted, err)
		}
		if err == nil {
			read(t, resp)
		}
	}
	visit("192.0.2.0/24", false)
	visit("127.0.0.0/8", true)
	visit("192.0.2.0/24", false)
	bad := s.Config
	bad.ProxyProtocol = []string{"balancer"}
	if err := n.Listeners.Reload(bad, nil); err == nil {
		t.Error("no error")
	}
}

func TestProxiedPlainHTTP(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(whoAsks))
	s.Config.HTTP = "127.0.0.1:0"
	s.Config.ProxyProtocol = []string{"127.0.0.1"}
	f := func(n *edgetest.Node, header, want string) {
		t.Helper()
		conn, err := dialWith(header)(t.Context(), "tcp", n.Listeners.HTTPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", edgetest.Host)
		b, err := io.ReadAll(conn)
		if errors.Is(err, syscall.ECONNRESET) {
			err = nil // who is refused has said more than was read
		}
		if got := string(b); err != nil || !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q: answered %q, %v, want %q", header, got, err, want)
		}
	}
	n := s.Start(t)
	f(n, proxyLine, "203.0.113.7:12345")
	f(n, "", "")
	f(n, "PROXY UNKNOWN\r\n", "127.0.0.1:")
	s.Config.ProxyProtocol = nil
	f(s.Start(t), proxyLine, "400 Bad Request")
}

// proxyConn opens a connection in virtual time.
func proxyConn(t *testing.T, n *edgetest.Node) net.Conn {
	t.Helper()
	conn, err := n.DialTLS(t, "h2")
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*tls.Conn).NetConn()
}

func TestProxiedHeaderInPieces(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(whoAsks))
	s.Config.ProxyProtocol = []string{"10.0.0.0/8"}
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		conn, err := n.DialTLS(t, "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(proxyLine) {
			if _, err := conn.(*tls.Conn).NetConn().Write([]byte(proxyLine[i : i+1])); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", edgetest.Host)
		b, err := io.ReadAll(conn)
		if !strings.HasSuffix(string(b), "203.0.113.7:12345") || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// A bad or late header costs its connection, and is counted; a balancer that
// only looks whether the port is open is not.
func TestProxiedHeaderThatDoesNotCome(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(whoAsks))
	s.Config.ProxyProtocol = []string{"10.0.0.0/8"}
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		f := func(sent string, wait time.Duration, refused uint64) {
			t.Helper()
			conn := proxyConn(t, n)
			if sent != "" {
				conn.Write([]byte(sent))
			}
			start := time.Now()
			if _, err := conn.Read(make([]byte, 1)); err != io.EOF || time.Since(start) != wait {
				t.Errorf("%q: %v after %s, want it closed after %s", sent, err, time.Since(start), wait)
			}
			synctest.Wait()
			if got := n.Listeners.State().ProxyHeaders; got != refused {
				t.Errorf("%q: %d refused, want %d", sent, got, refused)
			}
		}
		f("PROXY TCP4 nonsense\r\n", 0, 1)
		f(proxyLine[:20], 6*time.Second, 2)
		f("", 6*time.Second, 3)
		looker := proxyConn(t, n)
		synctest.Wait()
		looker.Close()
		synctest.Wait()
		if got := n.Listeners.State(); got.ProxyHeaders != 3 || n.Admit.State().Connections != 0 {
			t.Errorf("in the end: %+v, %+v", got, n.Admit.State())
		}
	})
}

// What one visitor does is charged to that visitor, not to the balancer that
// everybody comes through.
func TestProxiedVisitorsAreAdmittedByTheirAddress(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(whoAsks))
	s.Config.ProxyProtocol = []string{"10.0.0.0/8"}
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		closed := func(line string) bool {
			t.Helper()
			conn := proxyConn(t, n)
			conn.Write([]byte(line))
			synctest.Wait()
			conn.SetReadDeadline(time.Now())
			_, err := conn.Read(make([]byte, 1))
			return err == io.EOF
		}
		opened := 0
		for ; opened < 3000 && !closed(proxyLine); opened++ {
		}
		if got := n.Admit.State(); opened == 3000 || got.RefusedSource == 0 {
			t.Fatalf("%d handshakes of one visitor were begun: %+v", opened, got)
		}
		if closed("PROXY TCP4 198.51.100.9 192.0.2.1 12345 443\r\n") {
			t.Errorf("another visitor was refused: %+v", n.Admit.State())
		}
	})
}

func TestProxiedHeaderHoldsUpAShutdownToItsDeadline(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(whoAsks))
	s.Config.ProxyProtocol = []string{"10.0.0.0/8"}
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		proxyConn(t, n)
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := n.Listeners.Shutdown(ctx)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 3*time.Second {
			t.Errorf("shut down after %s: %v", took, err)
		}
		if got := n.Listeners.State().ProxyHeaders; got != 0 {
			t.Errorf("%d headers refused that might have come", got)
		}
	})
}
