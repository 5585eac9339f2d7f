package edge

import (
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
	f := func(peer, forwarded, want string) {
		t.Helper()
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		if forwarded != "" {
			r.Header["X-Forwarded-For"] = strings.Split(forwarded, "|")
		}
		if v := newVisitor(r, proxies); v.addr.String() != want {
			t.Errorf("%s with %q: got %s, want %s", peer, forwarded, v.addr, want)
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
