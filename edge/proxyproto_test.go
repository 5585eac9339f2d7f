package edge

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
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

func TestProxyHeaderIsOptional(t *testing.T) {
	for _, other := range []string{"\x16\x03\x01\x02\x00", "GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\n", "PROPFIND", "PROXYX", "\r\nGET", "\x00", "Q"} {
		if source, size, err := parseProxyHeader([]byte(other)); size != 0 || err != nil || source.IsValid() {
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
