package crowd

import (
	"strings"
	"testing"
)

func TestTemplate(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		tmpl, err := parseTemplate(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			return
		}
		if got := tmpl.expand(7, 42); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	f("https://a/b", "https://a/b")
	f("https://a/{visitor}", "https://a/42")
	f("https://a/{seed}-{visitor}/{visitor}.png?x", "https://a/7-42/42.png?x")
	f("{visitor}{seed}", "427")
}

func TestTargets(t *testing.T) {
	f := func(protocol, want string, urls ...string) {
		t.Helper()
		got, err := newTargets(Config{Protocol: protocol, URLs: urls})
		switch {
		case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: error %v, want %q", urls, err, want)
		case err == nil && got.scheme+"://"+got.authority != want:
			t.Errorf("%q: %s://%s, want %s", urls, got.scheme, got.authority, want)
		}
	}
	f(H3, "https://a:443", "https://a/x", "https://a:443/{visitor}")
	f(H2, "https://[::1]:8443", "https://[::1]:8443/x")
	f(H1, "http://a:80", "http://a")
	f(H3, "needs https", "http://a/")
	f(H2, "needs https", "http://a/")
	f(H1, "scheme", "ftp://a/")
	f(H1, "no host", "https:///x")
	f(H1, "one connection", "https://a/", "https://b/")
	f(H1, "one connection", "https://a/", "https://a:8443/")
	f(H1, "placeholder", "https://a/{nobody}")
	f(H1, "placeholder", "https://a/{visitor")
	f(H1, "parse", "https://a b/")
}

func TestParseSlow(t *testing.T) {
	f := func(in string, share float64, rate int64) {
		t.Helper()
		s, r, err := ParseSlow(in)
		if (err != nil) != (rate == 0) || err == nil && (s != share || r != rate) {
			t.Errorf("%q: %g at %d, %v", in, s, r, err)
		}
	}
	f("5%:16KiB", .05, 16<<10)
	f("100%:1B", 1, 1)
	f("0.5%:2MiB", .005, 2<<20)
	f("", 0, 0)
	f("5%", 0, 0)
	f("5:16KiB", 0, 0)
	f("101%:16KiB", 0, 0)
	f("NaN%:16KiB", 0, 0)
	f("5%:16", 0, 0)
	f("5%:0KiB", 0, 0)
	f("5%:-1KiB", 0, 0)
	f("5%:9999999999999GiB", 0, 0)
}
