package edge

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// proxyHeader is a header as the library writes it.
func proxyHeader(t testing.TB, version byte, from string, tlv int) []byte {
	t.Helper()
	ap := netip.MustParseAddrPort(from)
	to := netip.MustParseAddrPort("192.0.2.1:443")
	if ap.Addr().Is6() {
		to = netip.MustParseAddrPort("[2001:db8::1]:443")
	}
	h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(ap), net.TCPAddrFromAddrPort(to))
	if tlv > 0 {
		if err := h.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_MIN_CUSTOM, Value: make([]byte, tlv)}}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// v2 is a binary header made by hand: command, family, and what follows.
func v2(command, family byte, rest string) string {
	return string(proxyproto.SIGV2) + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

const v4Block = "\xcb\x00\x71\x07\xc0\x00\x02\x01\x30\x39\x01\xbb" // 203.0.113.7:12345 to 192.0.2.1:443

func TestProxyHeader(t *testing.T) {
	f := func(header, want string) {
		t.Helper()
		const after = "\x16\x03\x01"
		source, size, err := parseProxyHeader([]byte(header + after))
		got := ""
		if source.IsValid() {
			got = source.String()
		}
		if err != nil || size != len(header) || got != want {
			t.Errorf("%q: %q, %d of %d bytes, %v; want %q", header, got, size, len(header), err, want)
		}
		for i := range len(header) {
			if _, _, err := parseProxyHeader([]byte(header[:i])); !errors.Is(err, errShortHeader) {
				t.Errorf("the first %d bytes of %q: %v", i, header, err)
			}
		}
	}
	f(string(proxyHeader(t, 1, "203.0.113.7:12345", 0)), "203.0.113.7:12345")
	f(string(proxyHeader(t, 1, "[2001:db8::7]:12345", 0)), "[2001:db8::7]:12345")
	f(string(proxyHeader(t, 2, "203.0.113.7:12345", 0)), "203.0.113.7:12345")
	f(string(proxyHeader(t, 2, "[2001:db8::7]:12345", 0)), "[2001:db8::7]:12345")
	f(string(proxyHeader(t, 2, "203.0.113.7:12345", 300)), "203.0.113.7:12345")
	f(string(proxyHeader(t, 2, "203.0.113.7:12345", 4000)), "203.0.113.7:12345")
	f(v2(0x21, 0x11, v4Block), "203.0.113.7:12345")
	f(v2(0x21, 0x21, strings.Repeat("\x00", 10)+"\xff\xff\xcb\x00\x71\x07"+strings.Repeat("\x00", 16)+"\x30\x39\x01\xbb"), "203.0.113.7:12345")
	// The proxy's own connections, and those of which it knows no address.
	f(v2(0x20, 0x00, ""), "")
	f(v2(0x20, 0x11, v4Block), "")
	f(v2(0x20, 0x11, ""), "")
	f(v2(0x21, 0x00, ""), "")
	f(v2(0x21, 0x00, "some TLV"), "")
	f(v2(0x21, 0x31, strings.Repeat("x", 216)), "")
	f("PROXY UNKNOWN\r\n", "")
	f("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "")
}

func TestProxyHeaderIsMissing(t *testing.T) {
	for _, other := range []string{"\x16\x03\x01\x02\x00", "GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\n", "PROPFIND", "PROXYX", "\r\nGET", "\x00", "Q"} {
		if source, size, err := parseProxyHeader([]byte(other)); size != 0 || !errors.Is(err, errNoHeader) || source.IsValid() {
			t.Errorf("%q: %v, %d, %v", other, source, size, err)
		}
	}
}

func TestProxyHeaderMalformed(t *testing.T) {
	for _, bad := range []string{
		v2(0x22, 0x11, v4Block),        // no such command
		v2(0x31, 0x11, v4Block),        // no such version
		v2(0x21, 0x13, v4Block),        // no such transport
		v2(0x21, 0x11, v4Block[:11]),   // too short for its family
		v2(0x21, 0x21, v4Block),        // likewise
		"PROXY TCP4 203.0.113.7\r\n",   // too few fields
		"PROXY TCP4 a b 1 2\r\n",       // no addresses
		"PROXY TCP4 ::1 ::1 1 2\r\n",   // of another family
		"PROXY UNKNOWN\n",              // no carriage return
		"PROXY TCP5 1.1.1.1 1 2 3\r\n", // no such protocol
		"PROXY TCP4 203.0.113.7 192.0.2.1 1 99999\r\n",
		"PROXY " + strings.Repeat("x", 200),
		string(proxyHeader(t, 2, "203.0.113.7:12345", 10_000)),
	} {
		if _, _, err := parseProxyHeader([]byte(bad)); err == nil || errors.Is(err, errShortHeader) {
			t.Errorf("%.60q: error %v", bad, err)
		}
	}
}

// proxiedPair is a connection of a proxy, and the proxy's end of it.
func proxiedPair(t *testing.T, headers *proxyHeaders) (*proxiedConn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	proxy, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close(); raw.Close() })
	return headers.wrap(raw).(*proxiedConn), proxy.(*net.TCPConn)
}

func testHeaders() *proxyHeaders {
	return &proxyHeaders{from: func() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }}
}

// A balancer that looks whether the port is open may end that by a reset.
func TestProxyHeaderOfABalancerThatOnlyLooks(t *testing.T) {
	headers := testHeaders()
	for _, linger := range []int{0, -1} {
		c, proxy := proxiedPair(t, headers)
		proxy.SetLinger(linger)
		proxy.Close()
		if err := c.await(t.Context()); !errors.Is(err, errLooked) || headers.refused.Load() != 0 {
			t.Errorf("linger %d: %v, %d refused", linger, err, headers.refused.Load())
		}
	}
	c, proxy := proxiedPair(t, headers)
	proxy.Write([]byte("PROXY"))
	proxy.CloseWrite()
	if err := c.await(t.Context()); errors.Is(err, errLooked) || err == nil || headers.refused.Load() != 1 {
		t.Errorf("amid a header: %v, %d refused", err, headers.refused.Load())
	}
}

// Who waits for a header while the node stops is let go at once, whether the wait
// has begun or not, and no proxy is blamed for it.
func TestProxyHeaderEndsWithItsContext(t *testing.T) {
	headers := testHeaders()
	for _, sent := range []string{"", "PROXY"} {
		c, proxy := proxiedPair(t, headers)
		proxy.Write([]byte(sent))
		ctx, end := context.WithCancel(t.Context())
		end()
		if err := c.await(ctx); err == nil || errors.Is(err, os.ErrDeadlineExceeded) || headers.refused.Load() != 0 {
			t.Errorf("after %q: %v, %d refused", sent, err, headers.refused.Load())
		}
	}
}

// A proxy that opens connections and is silent leaves room for the others, and
// nothing is kept of one that has no connection left.
func TestProxyHeaderRoomIsShared(t *testing.T) {
	p := testHeaders()
	enter := func(proxy netip.Addr) (in int) {
		for range maxProxyWaiting {
			if p.enter(proxy) == nil {
				in++
			}
		}
		return in
	}
	silent, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for range 2 {
		if a, b := enter(silent), enter(other); a != maxProxyWaitingEach || b != maxProxyWaitingEach {
			t.Errorf("%d of one proxy and %d of another wait, want %d", a, b, maxProxyWaitingEach)
		}
		for range maxProxyWaitingEach {
			p.leave(silent)
			p.leave(other)
		}
	}
	if len(p.waiting) != 0 || p.all != 0 {
		t.Errorf("kept: %v, %d", p.waiting, p.all)
	}
	all := 0
	for a, n := silent, 0; n < 2*maxProxyWaiting/maxProxyWaitingEach; a, n = a.Next(), n+1 {
		all += enter(a)
	}
	if all != maxProxyWaiting {
		t.Errorf("%d wait in all, want %d", all, maxProxyWaiting)
	}
	c, _ := proxiedPair(t, p)
	if err := c.await(t.Context()); !errors.Is(err, errTooManyProxied) || p.refused.Load() != 1 {
		t.Errorf("one more: %v, %d refused", err, p.refused.Load())
	}
}

// Whatever comes, the verdict about a header does not depend on how it is cut
// into packets, and takes no more memory than it may.
func FuzzProxyHeader(f *testing.F) {
	for _, version := range []byte{1, 2} {
		f.Add(append(proxyHeader(f, version, "203.0.113.7:12345", 0), "rest"...))
		f.Add(proxyHeader(f, version, "[2001:db8::7]:12345", 20*int(version-1)))
	}
	f.Add([]byte(v2(0x20, 0x00, "")))
	f.Add([]byte(v2(0x21, 0x00, "x")))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		source, size, err := parseProxyHeader(b)
		switch {
		case errors.Is(err, errShortHeader):
			if len(b) >= maxProxyHeader {
				t.Errorf("%d bytes are not enough", len(b))
			}
			return
		case size > len(b) || size > maxProxyHeader || (err != nil || size == 0) && source.IsValid():
			t.Errorf("%v, %d of %d bytes, %v", source, size, len(b), err)
		}
		for i := range min(len(b), size+1) {
			if s, n, early := parseProxyHeader(b[:i]); !errors.Is(early, errShortHeader) && (n != size || s != source) {
				t.Errorf("after %d bytes: %v, %d, %v; then %v, %d", i, s, n, early, source, size)
				break
			}
		}
		if size > 0 {
			if again, n, err := parseProxyHeader(bytes.Clone(b[:size])); again != source || n != size || err != nil {
				t.Errorf("without what follows: %v, %d, %v", again, n, err)
			}
		}
	})
}
