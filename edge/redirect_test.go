package edge

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/edge/outcome"
)

// plainServer is a Server as the listener of plain HTTP calls it.
func plainServer(t *testing.T, port int, hosts ...string) (*Server, http.Handler) {
	t.Helper()
	s, err := NewServer(Config{Log: LogConfig{Access: "off"}}, nil, nil, Backends{}, cache.New(cache.Config{}),
		admit.New(admit.Config{}, 1), metrics.NewSet(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]*route{}
	for _, h := range hosts {
		known[h] = []*route{}
	}
	s.settings.Load().sites = routeTable(t, known)
	plain := newRedirect(s, port, slog.New(slog.DiscardHandler))
	return s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r.WithContext(plain.BaseContext(nil)))
	})
}

func TestRedirect(t *testing.T) {
	f := func(method, host, target string, port, status int, location string) {
		t.Helper()
		s, h := plainServer(t, port, "a.test", "*.b.test")
		r := httptest.NewRequest(method, target, nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != status || w.Header().Get("Location") != location {
			t.Errorf("%s %s %s: %d to %q, want %d to %q", method, host, target, w.Code, w.Header().Get("Location"), status, location)
		}
		if n := s.Outcomes(); n[outcome.Local]+n[outcome.Refused] != 1 {
			t.Errorf("%s %s %s: counted as %v", method, host, target, n)
		}
	}
	f("GET", "a.test", "/", 443, 301, "https://a.test/")
	f("HEAD", "a.test:80", "/x?y=1&y=2", 443, 301, "https://a.test/x?y=1&y=2")
	f("POST", "A.TEST", "/x", 8443, 308, "https://a.test:8443/x")
	f("GET", "a.test.", "/%2e%2E/a%2Fb", 443, 301, "https://a.test/%2e%2E/a%2Fb")
	f("GET", "a.test", "/?", 443, 301, "https://a.test/?")
	f("GET", "x.b.test", "/", 443, 301, "https://x.b.test/")
	f("GET", "b.test", "/", 443, 421, "")
	f("GET", "x.y.b.test", "/", 443, 421, "")
	f("GET", "evil.test", "/", 443, 421, "")
	f("GET", "a.test@evil.test", "/", 443, 400, "")
	f("GET", "a.test/evil", "/", 443, 400, "")
	f("GET", "a.test:evil", "/", 443, 400, "")
	f("GET", "", "/", 443, 400, "")
	f("GET", "a.test", "//evil.test/x", 443, 301, "https://a.test//evil.test/x")
	f("GET", "evil.test", "http://a.test/x", 443, 421, "")
	f("OPTIONS", "a.test", "*", 443, 400, "")
}

func TestRedirectDefaultHost(t *testing.T) {
	_, h := plainServer(t, 443, "default")
	f := func(host, location string) {
		t.Helper()
		r := httptest.NewRequest("GET", "/x", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("Location"); got != location {
			t.Errorf("%s: %q, want %q", host, got, location)
		}
	}
	f("any.test", "https://any.test/x")
	f("192.0.2.1:80", "https://192.0.2.1/x")
	f("[2001:db8::1]:80", "https://[2001:db8::1]/x")
	f("[2001:db8::1]", "https://[2001:db8::1]/x")
	f("a:b:c", "")
	f("a\\b", "")
	f("a b", "")
}

// Who takes places up and asks for nothing is refused while the node is short, as
// who leaves handshakes hanging is; who asks is not, and no proxy is.
func TestPlainConnectionsThatAskForNothing(t *testing.T) {
	f := func(asks, owes, refused bool) {
		t.Helper()
		k := admit.New(admit.Config{Enforce: true, HandshakesPerCore: 1 << 20, HalfOpen: 1000, Connections: 8}, 1)
		for n := range byte(7) { // short from the seventh on
			k.Connect(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, n}), 1), true)
		}
		server := newRedirect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), 443, slog.New(slog.DiscardHandler))
		for range 5000 {
			h, why := k.Connect(netip.MustParseAddrPort("192.0.2.1:1"), true)
			if why != outcome.None {
				break
			}
			h.Done()
			raw, _ := net.Pipe()
			c := &plainConn{Conn: raw, l: &Listeners{admit: k}, handshake: h}
			c.owes.Store(owes)
			if asks {
				server.Handler.ServeHTTP(nil, httptest.NewRequest("GET", "/", nil).WithContext(server.ConnContext(t.Context(), c)))
			}
			c.Close()
			c.Close()
		}
		if s := k.State(); s.RefusedSource > 0 != refused || s.Connections != 7 {
			t.Errorf("asks %v, owes %v: %+v", asks, owes, s)
		}
	}
	f(false, true, true)
	f(true, true, false)
	f(false, false, false)
}

// A connection of a proxy that sends headers never owes: its address is everybody's
// behind it.
func TestPlainConnectionsOfProxiesOweNothing(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, proxies := range [][]netip.Prefix{nil, {netip.MustParsePrefix("127.0.0.0/8")}} {
		l := &Listeners{admit: admit.New(admit.Config{}, 1)}
		l.proxied.from = func() []netip.Prefix { return proxies }
		client, err := net.Dial("tcp", socket.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := plainListener{socket, l}.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if owes := conn.(*plainConn).owes.Load(); owes != (proxies == nil) {
			t.Errorf("proxies %v: owes %v", proxies, owes)
		}
		conn.Close()
		client.Close()
	}
}

// Wherever a redirect goes, it goes to the host that was asked.
func FuzzRedirect(f *testing.F) {
	f.Add("a.test", "/x?y")
	f.Add("a.test:80", "//evil.test")
	f.Add("[::1]:80", "/\\evil.test")
	f.Add("a.test@evil.test", "/")
	f.Fuzz(func(t *testing.T, host, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := &http.Request{Method: "GET", Host: host, URL: u, Header: http.Header{}}
		_, location := secureURL(r, 443)
		if location == "" {
			return
		}
		to, err := url.Parse(location)
		if err != nil {
			return // no client follows it
		}
		if to.Scheme != "https" || to.User != nil || to.Hostname() != plainHost(host) || strings.ContainsAny(location, "\r\n") {
			t.Errorf("Host %q, target %q: redirected to %q", host, target, location)
		}
	})
}
