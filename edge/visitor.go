package edge

import (
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strings"

	"spillway/edge/outcome"
)

// A visitor is who asks, as far as the node can tell.
type visitor struct {
	// peer is the address at the other end of the connection.
	peer netip.Addr
	// addr is the visitor's own address: the peer's, or what a trusted proxy says.
	// Requests are admitted by it, so that a crowd behind a proxy is not one source.
	addr    netip.Addr
	trusted bool
}

// newVisitor reads who asks from a request. Forwarded fields count only when
// the peer is in proxies.
func newVisitor(r *http.Request, proxies []netip.Prefix) visitor {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	v := visitor{peer: plainAddr(ap.Addr())}
	v.addr, v.trusted = v.peer, within(v.peer, proxies)
	if v.trusted {
		v.addr = forwardedFor(r.Header, v.peer, proxies)
	}
	return v
}

// plainAddr returns an address as prefixes and logs know it: without a zone, in
// which there is any text, and IPv4 as such.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func within(a netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// key tells visitors apart where a scarce thing is shared out. An address alone
// does not: a mobile network puts thousands behind one.
func (v visitor) key(h http.Header) string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, v.hash(h)))
}

// visitorSeed is secret, so that nobody can make up a browser that is taken for
// another visitor. For an unkeyed hash that is easy.
var visitorSeed = maphash.MakeSeed()

// hash is the key as a number.
func (v visitor) hash(h http.Header) uint64 {
	a := v.addr
	if a.Is6() {
		// A household has a /64, out of which it makes addresses at will.
		p, _ := a.Prefix(64)
		a = p.Addr()
	}
	return maphash.Comparable(visitorSeed, struct {
		addr            netip.Addr
		agent, language string
	}{a, h.Get("User-Agent"), h.Get("Accept-Language")})
}

// crawlerWords are what crawlers and link previews that declare themselves have
// in their User-Agent.
var crawlerWords = []string{
	"bot/", "bot;", "bot)", "bot-", "crawler", "spider", "slurp",
	"externalhit", "whatsapp/", "google (+http",
}

// barred says why a request may not be answered for money. Previews and
// prefetches of a shared link come by the thousand, and nobody is waiting for
// their answers.
func barred(h http.Header) outcome.Reason {
	if purpose := h.Get("Sec-Purpose"); strings.Contains(purpose, "prefetch") {
		return outcome.Prefetch
	}
	if strings.Contains(h.Get("Accept"), "text/event-stream") {
		// A function is paid by the second and answers when it ends.
		return outcome.EventStream
	}
	agent := strings.ToLower(h.Get("User-Agent"))
	for _, word := range crawlerWords {
		if strings.Contains(agent, word) {
			return outcome.Crawler
		}
	}
	return outcome.None
}
