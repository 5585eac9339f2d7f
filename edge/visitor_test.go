package edge

import (
	"hash/maphash"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"spillway/edge/outcome"
)

// decodedSegments resolves escapes as a server behind the edge would.
func decodedSegments(path string) []string {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return nil
	}
	return strings.FieldsFunc(decoded, func(c rune) bool { return c == '/' || c == '\\' })
}

func TestVisitorAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	field := "X-Forwarded-For"
	f := func(peer, forwarded, want string) {
		t.Helper()
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		if forwarded != "" {
			r.Header[field] = strings.Split(forwarded, "|")
		}
		if v := newVisitor(r, proxies); v.addr.String() != want {
			t.Errorf("%s with %s %q: got %s, want %s", peer, field, forwarded, v.addr, want)
		}
	}
	f("192.0.2.1:1000", "", "192.0.2.1")
	f("192.0.2.1:1000", "198.51.100.7", "192.0.2.1") // not a trusted proxy: it may lie
	f("10.1.1.1:1000", "198.51.100.7", "198.51.100.7")
	f("10.1.1.1:1000", "203.0.113.9, 198.51.100.7", "198.51.100.7") // what the client wrote proves nothing
	f("10.1.1.1:1000", "203.0.113.9, 198.51.100.7, 10.2.2.2", "198.51.100.7")
	f("10.1.1.1:1000", "203.0.113.9|198.51.100.7|10.2.2.2", "198.51.100.7")
	f("10.1.1.1:1000", "nonsense", "10.1.1.1")
	f("10.1.1.1:1000", "203.0.113.9, nonsense, 10.2.2.2", "10.2.2.2")
	f("[::ffff:10.1.1.1]:1000", "2001:db8::1", "2001:db8::1")
	f("[2001:db8::2]:1000", "198.51.100.7", "2001:db8::2")
	// With a port, as some balancers write it.
	f("10.1.1.1:1000", "203.0.113.8:4711", "203.0.113.8")
	f("10.1.1.1:1000", "[2001:db8::1]:80, 10.2.2.2:80", "2001:db8::1")
	f("10.1.1.1:1000", "[2001:db8::1]", "2001:db8::1")
	for _, bad := range []string{"203.0.113.8:", "203.0.113.8:x", "203.0.113.8:123456", "203.0.113.8:_", "203.0.113.8:-1", "2001:db8::1]:80", "[2001:db8::1", "[2001:db8::1]80", "[2001:db8::1]:", "[203.0.113.8]:80", "[203.0.113.8", "[203.0.113.8]80", ":80", "[]:80"} {
		f("10.1.1.1:1000", "198.51.100.7, "+bad, "10.1.1.1")
	}
	// A zone is the proxy's own business.
	f("10.1.1.1:1000", "fe80::1%eth0", "fe80::1")
	f("[fe80::2%eth0]:1000", "", "fe80::2")
	f("10.1.1.1:1000", "::ffff:203.0.113.8", "203.0.113.8")

	field = "Forwarded"
	f("192.0.2.1:1000", "for=198.51.100.7", "192.0.2.1")
	f("10.1.1.1:1000", "for=198.51.100.7", "198.51.100.7")
	f("10.1.1.1:1000", `For="198.51.100.7:4711";proto=https;by=203.0.113.43`, "198.51.100.7")
	f("10.1.1.1:1000", `proto=https; host="a;for=6.6.6.6,b"; for="[2001:db8:cafe::17]:4711"`, "2001:db8:cafe::17")
	f("10.1.1.1:1000", `for="[2001:db8:cafe::17]:_port" , ,for=10.2.2.2`, "2001:db8:cafe::17")
	f("10.1.1.1:1000", `for=203.0.113.9, for=198.51.100.7|for=10.2.2.2;by=10.1.1.1`, "198.51.100.7")
	f("10.1.1.1:1000", `for="\1\98.51.100.7"`, "198.51.100.7")
	// Nobody can tell what stands before these.
	for _, bad := range []string{
		"for=unknown", "for=_hidden", `for="_hidden:80"`, "proto=https", "for", "for=", `for=""`, "for=198.51.100.8;for=198.51.100.9",
		"198.51.100.7", "for=[2001:db8::1]80", `for="198.51.100.8" x`, `for="198.51.100.8`, `for=198.51.100.8";x="`, `for="198.51.100.8\"`,
	} {
		f("10.1.1.1:1000", "for=198.51.100.7, "+bad, "10.1.1.1")
		f("10.1.1.1:1000", "for=198.51.100.7, "+bad+", for=10.2.2.2", "10.2.2.2")
		f("10.1.1.1:1000", bad+", for=198.51.100.7", "198.51.100.7")
	}
	// A quote that the client never closes hides nothing that a proxy wrote.
	f("10.1.1.1:1000", `for=6.6.6.6;x=", for="[2001:db8::7]:80"`, "2001:db8::7")
	f("10.1.1.1:1000", `for=6.6.6.6;x="|for=198.51.100.7`, "198.51.100.7")
}

// Of two fields the older one counts, as proxies write it more often.
func TestVisitorAddressInBothFields(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.1.1.1:1000"
	r.Header.Set("Forwarded", "for=203.0.113.9")
	r.Header.Set("X-Forwarded-For", "198.51.100.7")
	if v := newVisitor(r, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); v.addr.String() != "198.51.100.7" {
		t.Errorf("got %s", v.addr)
	}
}

// TestTrustedPrefixes asks that every way to write an address means the peers
// that have it.
func TestTrustedPrefixes(t *testing.T) {
	f := func(setting, peer string, want bool) {
		t.Helper()
		proxies, err := parsePrefixes("trusted_proxies", []string{setting})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		if got := newVisitor(r, proxies).trusted; got != want {
			t.Errorf("%s, peer %s: trusted %v", setting, peer, got)
		}
	}
	f("10.0.0.0/8", "[::ffff:10.1.1.1]:80", true)
	f("::ffff:10.0.0.0/104", "10.1.1.1:80", true)
	f("::ffff:10.0.0.0/104", "11.1.1.1:80", false)
	f("::ffff:10.1.1.1", "10.1.1.1:80", true)
	f("::ffff:10.1.1.1", "10.1.1.2:80", false)
	f("::ffff:0:0/96", "203.0.113.7:80", true)
	f("fe80::1%eth0", "[fe80::1%eth0]:80", true)
	f("fe80::1", "[fe80::1%eth0]:80", true)
	f("fe80::/10", "[fe80::1%eth0]:80", true)
	f("fe80::/10", "[fec0::1%eth0]:80", false)
	f("2001:db8::/32", "[2001:db8::1]:80", true)
	if _, err := parsePrefixes("proxy_protocol", []string{"balancer"}); err == nil || !strings.HasPrefix(err.Error(), "proxy_protocol: ") {
		t.Errorf("error %v", err)
	}
}

func TestVisitorKey(t *testing.T) {
	key := func(addr, agent string) string {
		return visitor{addr: netip.MustParseAddr(addr)}.key(http.Header{"User-Agent": {agent}})
	}
	if key("192.0.2.1", "a") == key("192.0.2.1", "b") {
		t.Error("two visitors behind one address have one key")
	}
	if key("2001:db8::1", "a") != key("2001:db8::2", "a") {
		t.Error("one household has two keys")
	}
	if key("2001:db8::1", "a") == key("2001:db8:0:1::1", "a") {
		t.Error("two households have one key")
	}
}

// TestVisitorKeyIsSecret: nobody can compute whom a visitor is taken for.
func TestVisitorKeyIsSecret(t *testing.T) {
	v, h := visitor{addr: netip.MustParseAddr("192.0.2.1")}, http.Header{"User-Agent": {"a"}}
	key, seed := v.key(h), visitorSeed
	defer func() { visitorSeed = seed }()
	if v.key(h) != key {
		t.Error("one visitor has two keys")
	}
	if visitorSeed = maphash.MakeSeed(); v.key(h) == key {
		t.Error("another node has the same key")
	}
}

func TestBarred(t *testing.T) {
	f := func(name, value string, want outcome.Reason) {
		t.Helper()
		if got := barred(http.Header{name: {value}}); got != want {
			t.Errorf("%s: %s: got %q, want %q", name, value, got, want)
		}
	}
	f("Sec-Purpose", "prefetch;prerender", outcome.Prefetch)
	f("User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", outcome.Crawler)
	f("Accept", "text/event-stream", outcome.EventStream)
	f("User-Agent", "Googlebot-Image/1.0", outcome.Crawler)
	f("User-Agent", "AdsBot-Google (+http://www.google.com/adsbot.html)", outcome.Crawler)
	f("User-Agent", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", outcome.Crawler)
	f("User-Agent", "WhatsApp/2.23.20.0", outcome.Crawler)
	f("User-Agent", "facebookexternalhit/1.1", outcome.Crawler)
	f("User-Agent", "Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) Chrome/120", outcome.None)
	f("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/153.0", outcome.None)
}
