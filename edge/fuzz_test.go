package edge

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"spillway/edge/outcome"
)

// FuzzForwarded asks that nobody changes who they are by what they write into
// the field themselves: in front of what trusted proxies have added.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{
		`for=198.51.100.7;proto=https, for="[2001:db8::1]:80"`, `for=6.6.6.6;x="`, `for="\"`, `"`, `for=unknown, for=_x`, `for="10.1.1.1:_x";for=10.1.1.1`, "203.0.113.8:4711",
	} {
		f.Add(s)
	}
	f.Add("198.51.100.7")
	f.Add("203.0.113.9, 198.51.100.7, 10.2.2.2")
	f.Add("nonsense, 10.2.2.2")
	f.Add(" ::ffff:10.1.1.1 ,, [::1]:80\t")
	f.Add("fe80::1%eth0, 10.0.0.1")
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	peer := netip.MustParseAddr("10.1.1.1")
	f.Fuzz(func(t *testing.T, field string) {
		// What a proxy adds, in each of the fields and the forms.
		for _, hop := range [][3]string{
			{"X-Forwarded-For", "6.6.6.6", "192.0.2.1"},
			{"X-Forwarded-For", "6.6.6.6", "192.0.2.1:80"},
			{"Forwarded", "for=6.6.6.6", "for=192.0.2.1;proto=https"},
			{"Forwarded", `for="6.6.6.6:80"`, `host="a, \"b";for="192.0.2.1:80"`},
		} {
			of := func(lines ...string) netip.Addr {
				return forwardedFor(http.Header{hop[0]: lines}, peer, proxies)
			}
			got := of(field)
			if !got.IsValid() || got.Is4In6() || got.Zone() != "" {
				t.Fatalf("%q: %v", field, got)
			}
			if got != peer && !within(got, proxies) {
				if forged := of(hop[1] + ", " + field); forged != got {
					t.Fatalf("%q: %v, forged %v", field, got, forged)
				}
				if split := of(hop[1], field); split != got {
					t.Fatalf("%q: %v, behind another line %v", field, got, split)
				}
			}
			want := netip.MustParseAddr("192.0.2.1")
			if behind := of(field, hop[2]); behind != want {
				t.Fatalf("%q hides what a proxy says: %v", field, behind)
			}
			if behind := of(field + ", " + hop[2]); behind != want {
				t.Fatalf("%q hides what a proxy adds: %v", field, behind)
			}
		}
	})
}

// FuzzVisitor asks that who comes through no trusted proxy is its peer whatever it
// writes, that a proxy which writes X-Forwarded-For has the last word whatever stands
// in Forwarded, and that all addresses are in the one form that prefixes know.
func FuzzVisitor(f *testing.F) {
	f.Add("192.0.2.1:80", "198.51.100.7", "for=203.0.113.9")
	f.Add("10.1.1.1:80", "", "for=unknown")
	f.Add("[fe80::1%eth0]:80", "fe80::2%eth0, 10.1.1.1:_x", `for="[fe80::3%\"]"`)
	f.Add("[::ffff:10.1.1.1]:80", "::ffff:10.1.1.1", `for="[::ffff:192.0.2.1]:80"`)
	f.Add("@", "[", `"`)
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	f.Fuzz(func(t *testing.T, peer, list, elements string) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {list}, "Forwarded": {elements}}}
		for _, fields := range []http.Header{r.Header, {"Forwarded": {elements}}} {
			r.Header = fields
			v := newVisitor(r, proxies)
			if !v.trusted && v.addr != v.peer || v.trusted != within(v.peer, proxies) {
				t.Fatalf("peer %q with %v: %+v", peer, fields, v)
			}
			for _, a := range []netip.Addr{v.addr, v.peer} {
				if a != plainAddr(a) || v.trusted && !a.IsValid() {
					t.Fatalf("peer %q with %v: %+v", peer, fields, v)
				}
			}
		}
		r.RemoteAddr, r.Header = "10.1.1.1:80", http.Header{"X-Forwarded-For": {list, "192.0.2.1"}, "Forwarded": {elements}}
		if v := newVisitor(r, proxies); v.addr != netip.MustParseAddr("192.0.2.1") {
			t.Fatalf("%v: %+v", r.Header, v)
		}
	})
}

// FuzzPrefix asks that whatever is taken for a prefix holds its own address in the
// form in which peers have it, and no more than is written.
func FuzzPrefix(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:0:0/96", "::ffff:0:0/90", "fe80::1%eth0", "::/0", "10.1.2.3", "10.0.0.0/33"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePrefix(s)
		if err != nil {
			return
		}
		if !p.IsValid() || p.Addr().Zone() != "" {
			t.Fatalf("%q: %v", s, p)
		}
		written, err := netip.ParsePrefix(s)
		if err != nil {
			written = netip.PrefixFrom(netip.MustParseAddr(s).WithZone(""), netip.MustParseAddr(s).BitLen())
		}
		first := written.Masked().Addr()
		if mapped := written.Addr().Is4In6() && written.Bits() >= 96; mapped && !p.Contains(first.Unmap()) || !mapped && p != written {
			t.Fatalf("%q: %v", s, p)
		}
		if before := first.Prev(); before.IsValid() && p.Contains(plainAddr(before)) {
			t.Fatalf("%q: %v holds %v", s, p, before)
		}
	})
}

// FuzzHost asks that a host which passes is a name or an address with a port, so
// that the origin cannot take it for another, and that its letters' case, its
// final dot and its port do not change the route.
func FuzzHost(f *testing.F) {
	for _, s := range []string{
		"edge.test", "EDGE.test.:443", "edge.test:443@evil", "[::1]:443", "[::1", "x.wild.test", "a.b.wild.test", "..", "[edge.test]", "\u212a.test", "edge.test:+1",
	} {
		f.Add(s)
	}
	table := &sites{exact: map[string][]*route{}, wildcards: map[string][]*route{}}
	for _, host := range []string{"edge.test", "*.wild.test", "default"} {
		table.add(host, []*route{pathRoute(host, "/*")})
	}
	f.Fuzz(func(t *testing.T, host string) {
		rt, why := table.match(&http.Request{Method: "GET", Host: host}, "/")
		if why != outcome.None {
			return
		}
		name, port, _ := strings.Cut(host, "]")
		if !strings.HasPrefix(host, "[") {
			name, port, _ = strings.Cut(host, ":")
			port = ":" + port
		} else if _, err := netip.ParseAddr(name[1:]); err != nil {
			t.Fatalf("%q passes: %v", host, err)
		}
		if strings.Trim(port, ":0123456789") != "" || strings.Count(port, ":") > 1 || strings.ContainsAny(name, "@/?#\\,; \t\r\n\x00\"'<>%") || name == "" {
			t.Fatalf("%q passes", host)
		}
		want := "default"
		switch lower := strings.ToLower(strings.TrimSuffix(name, ".")); {
		case lower == "edge.test":
			want = lower
		case strings.HasSuffix(lower, ".wild.test") && strings.Count(lower, ".") == 2:
			want = "*.wild.test"
		}
		if rt.originName != want {
			t.Fatalf("%q is taken for %s, want %s", host, rt.originName, want)
		}
	})
}
