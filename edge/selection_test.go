package edge

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"
)

// hello is what a client says that verifies ECDSA, or only RSA.
func hello(name string, ecdsa bool) *tls.ClientHelloInfo {
	h := &tls.ClientHelloInfo{
		ServerName:        name,
		SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes:  []tls.SignatureScheme{tls.PSSWithSHA256},
	}
	if ecdsa {
		h.SignatureSchemes = append(h.SignatureSchemes, tls.ECDSAWithP256AndSHA256)
	}
	return h
}

func testPairs(t testing.TB, configs ...TLSConfig) []*certPair {
	t.Helper()
	var pairs []*certPair
	for _, c := range configs {
		p := &certPair{from: c.Pairs()[0]}
		if err := p.read(time.Now()); err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, p)
	}
	return pairs
}

func TestSelection(t *testing.T) {
	until := time.Now().Add(time.Hour)
	pair := func(rsa bool, names ...string) TLSConfig { return writePair(t, t.TempDir(), until, rsa, names...) }
	pairs := testPairs(t,
		pair(true, "edge.test"),
		pair(true, "*.shop.test", "shop.test"),
		pair(false, "www.shop.test"),
		pair(false, "edge.test"),
		pair(false, "*.Wide.test"),
	)
	s := newSelection(pairs)
	f := func(name string, ecdsa bool, want int) {
		t.Helper()
		got, err := s.pick(hello(name, ecdsa))
		if err != nil {
			t.Fatal(err)
		}
		if got != pairs[want].cert {
			t.Errorf("%q, ECDSA %v: certificate for %v, want that for %v", name, ecdsa, got.Leaf.DNSNames, pairs[want].cert.Leaf.DNSNames)
		}
	}
	f("edge.test", true, 3) // the faster of two for one name
	f("edge.test", false, 0)
	f("", true, 3)
	f("", false, 0)
	f("unknown.test", true, 3)
	f("unknown.test", false, 0)
	f("www.shop.test", true, 2) // the very name before *.name
	f("WWW.Shop.Test", true, 2)
	f("www.shop.test", false, 1) // what the client cannot verify is no help to it
	f("img.shop.test", true, 1)
	f("shop.test", true, 1)
	f("a.img.shop.test", true, 3) // a star is one label
	f("x.wide.test", true, 4)
	f("wide.test", true, 3)
}

// TestShownRSA: no RSA key is shown for a name that another certificate is for, whatever else
// that one is for.
func TestShownRSA(t *testing.T) {
	until := time.Now().Add(time.Hour)
	leaf := func(rsa bool, names ...string) *x509.Certificate {
		return testPairs(t, writePair(t, t.TempDir(), until, rsa, names...))[0].cert.Leaf
	}
	both, nobody := leaf(true, "a.test", "B.test"), leaf(true)
	a, b, more, wide := leaf(false, "A.test"), leaf(false, "b.test"), leaf(false, "a.test", "b.test", "c.test"), leaf(false, "*.test")
	f := func(want []*x509.Certificate, leaves ...*x509.Certificate) {
		t.Helper()
		if got := ShownRSA(leaves); !slices.Equal(got, want) {
			t.Errorf("%d are shown, want %d", len(got), len(want))
		}
	}
	shown := []*x509.Certificate{both}
	f(nil)
	f(nil, a, b)
	f(shown, both)
	f(shown, both, a)
	f(shown, wide, both) // a name goes before a star
	f(nil, both, a, b)
	f(nil, more, both)
	f([]*x509.Certificate{nobody}, nobody, a)
}

// A client that verifies none of them is told so by the alert for the default.
func TestSelectionWithoutAny(t *testing.T) {
	s := newSelection(testPairs(t, writePair(t, t.TempDir(), time.Now().Add(time.Hour), false)))
	if cert, err := s.pick(hello("a.test", false)); cert != s.standard[0] || err != nil {
		t.Errorf("%v, %v", cert, err)
	}
}

// A handshake finds its certificate in a map that is there already: with many
// certificates, to make one would cost more than the handshake.
func TestSelectionIsMadeOnce(t *testing.T) {
	until := time.Now().Add(time.Hour)
	c := writePair(t, t.TempDir(), until, false)
	for i := range 20 {
		c.Certificates = append(c.Certificates, writePair(t, t.TempDir(), until, false, fmt.Sprintf("h%d.test", i)).Pairs()...)
	}
	s, _, err := newTestTLS(t, c)
	if err != nil {
		t.Fatal(err)
	}
	h := hello("h19.test", true)
	for _, pick := range []picker{s.current.Load().tcp.GetCertificate, s.current.Load().quic.GetCertificate} {
		if n := testing.AllocsPerRun(100, func() { pick(h) }); n > 4 {
			t.Errorf("%v allocations for one certificate of %d", n, len(s.certs.pairs))
		}
	}
}

// BenchmarkSelection shows that many certificates cost as much as one.
func BenchmarkSelection(b *testing.B) {
	until := time.Now().Add(time.Hour)
	for _, n := range []int{1, 1000} {
		var pairs []*certPair
		for i := range n {
			pairs = append(pairs, testPairs(b, writePair(b, b.TempDir(), until, false, fmt.Sprintf("h%d.test", i)))...)
		}
		s, h := newSelection(pairs), hello(fmt.Sprintf("h%d.test", n-1), true)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.pick(h)
			}
		})
	}
}
