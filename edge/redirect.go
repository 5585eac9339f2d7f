package edge

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"spillway/edge/admit"
	"spillway/edge/outcome"
)

// redirectTimeout bounds a whole exchange over plain HTTP.
const redirectTimeout = 5 * time.Second

// newRedirect returns the server of plain HTTP. Its requests take the path of
// all others, which sends them to the given port over HTTPS at its first step.
func newRedirect(h http.Handler, port int, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, ok := r.Context().Value(plainConnKey{}).(*plainConn); ok {
				c.owes.Store(false)
			}
			h.ServeHTTP(w, r)
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, plainConnKey{}, c)
		},
		BaseContext:    func(net.Listener) context.Context { return context.WithValue(context.Background(), plainKey{}, port) },
		ReadTimeout:    redirectTimeout,
		WriteTimeout:   redirectTimeout,
		MaxHeaderBytes: 8 << 10,
		// OPTIONS * is refused and counted like any other request.
		DisableGeneralOptionsHandler: true,

		ErrorLog: slog.NewLogLogger(newPanicsOnly(log.Handler()), slog.LevelDebug),
	}
	s.SetKeepAlivesEnabled(false) // nothing more is to be had here
	return s
}

type (
	plainKey     struct{}
	plainConnKey struct{}
)

// plainListener admits the connections of plain HTTP like all others, so that
// nobody fills the node through the door that leads nowhere.
type plainListener struct {
	net.Listener
	l *Listeners
}

// Accept implements net.Listener. A connection counts for the proxy that it comes
// from: its PROXY header is read in the goroutine that serves it.
func (p plainListener) Accept() (net.Conn, error) {
	for {
		raw, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		h, why := p.l.admit.ConnectTCP(addrPort(raw.RemoteAddr()))
		if why != outcome.None {
			reset(raw)
			continue
		}
		h.Done() // there is no handshake
		p.l.plain.Add(1)
		c := &plainConn{Conn: p.l.proxied.wrap(raw), l: p.l, handshake: h}
		c.owes.Store(c.Conn == raw)
		return c, nil
	}
}

// reset closes a connection and leaves nothing of it behind.
func reset(raw net.Conn) {
	if tcp, ok := raw.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	raw.Close()
}

// A plainConn is a connection of plain HTTP that was admitted.
type plainConn struct {
	net.Conn
	l         *Listeners
	handshake *admit.Handshake
	closed    sync.Once
	// owes tells that the source has asked for nothing yet. A proxy's own never
	// does.
	owes atomic.Bool
}

// Close implements net.Conn. Who took up room and asked for nothing while others
// wanted it owes for it as for a handshake that it left hanging.
func (c *plainConn) Close() error {
	if c.owes.CompareAndSwap(true, false) && c.l.admit.Short() {
		c.handshake.Blame(1)
	}
	c.handshake.Close()
	c.closed.Do(func() { c.l.plain.Add(-1) })
	return c.Conn.Close()
}

// plainPort tells a request that came over plain HTTP, and the port that it
// belongs to.
func plainPort(r *http.Request) (port int, plain bool) {
	if r.TLS != nil {
		return 0, false
	}
	port, plain = r.Context().Value(plainKey{}).(int)
	return port, plain
}

// redirect sends a visitor to the same host, path and query over HTTPS. Host is
// the one thing of a request that names where to go, and only hosts of the
// sites are gone to, so that the node redirects nobody elsewhere.
func (x *exchange) redirect(s *sites, port int) {
	host, location := secureURL(x.r, port)
	if host == "" {
		x.refuse(outcome.BadRequest)
		return
	}
	if _, ok := s.host(host); !ok {
		x.refuse(outcome.UnknownHost)
		return
	}
	x.moved(location)
}

// secureURL returns the host of a request, and its URL over HTTPS; or nothing,
// if there is none to be made of it.
func secureURL(r *http.Request, port int) (host, location string) {
	host = plainHost(r.Host)
	if host == "" || r.URL.Path == "" || r.URL.Path[0] != '/' {
		return "", ""
	}
	authority := host
	if strings.Contains(host, ":") {
		authority = "[" + host + "]"
	}
	if port != 443 {
		authority += ":" + strconv.Itoa(port)
	}
	location = "https://" + authority + r.URL.EscapedPath()
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		location += "?" + r.URL.RawQuery
	}
	return host, location
}

// plainHost returns the name or address in a Host field, without port and in
// lower case; or nothing, if it is not made of what names and addresses are.
func plainHost(field string) string {
	host := field
	if h, port, err := net.SplitHostPort(field); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
			return ""
		}
		host = h
	} else if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		host = inner[:len(inner)-1]
	}
	// RFC 3986 section 3.2.2: brackets are around an IPv6 address, and around
	// nothing else.
	if bracketed := strings.HasPrefix(field, "["); bracketed || strings.Contains(host, ":") {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() || !bracketed || ip.Zone() != "" {
			return ""
		}
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.HasPrefix(host, ".") || strings.HasSuffix(host, ".") || strings.Contains(host, "..") {
		return ""
	}
	odd := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-._:", c)
	}
	if len(host) > 253 || strings.ContainsFunc(host, odd) {
		return ""
	}
	return host
}
