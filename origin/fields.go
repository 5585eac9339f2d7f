package origin

import (
	"net/http"
	"net/textproto"
	"strings"
)

// hopByHop reports whether a field is about one connection only and must not be
// forwarded (RFC 9110 section 7.6.1). Content-Length is among them because the
// transport writes it from the body.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Http2-Settings", "Content-Length":
		return true
	}
	return strings.HasPrefix(name, "Proxy-") && name != "Proxy-Status"
}

// spoofing reports whether a field could make the origin believe something that
// only a proxy may say. Frameworks route by X-Original-URL, skip their own
// checks for X-Middleware-Subrequest, take file names from X-Accel-Mapping, and
// CGI programs take Proxy for a setting ("httpoxy").
func spoofing(name string) bool {
	switch name {
	case "X-Original-Url", "X-Rewrite-Url", "X-Original-Uri", "X-Original-Host", "X-Host",
		"X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
		"X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Remote-Addr", "X-Remote-Ip", "X-Originating-Ip",
		"True-Client-Ip", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Fastly-Client-Ip", "Client-Ip",
		"X-Forwarded", "Forwarded-For", "X-Original-Forwarded-For",
		"X-Middleware-Subrequest", "X-Sendfile-Type",
		"Proxy", "Spillway":
		return true
	}
	return strings.HasPrefix(name, "Spillway-") || strings.HasPrefix(name, "X-Accel-")
}

// forwarded reports whether a field tells what a proxy in front has seen. It is
// believed only when that proxy is trusted.
func forwarded(name string) bool {
	switch name {
	case "Forwarded", "Front-End-Https", "X-Url-Scheme", "X-Client-Cert":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Ssl-Client-")
}

// withheld reports whether a field of the client stays here.
func withheld(name string, trusted bool) bool {
	if plain, odd := dashed(name); odd {
		// Behind CGI, WSGI and Rack X_Forwarded_For and X-Forwarded-For are one.
		return hopByHop(plain) || spoofing(plain) || forwarded(plain)
	}
	return hopByHop(name) || spoofing(name) || name == "Expect" || name == "Host" || !trusted && forwarded(name)
}

// withholds reports whether a field of this client stays here. The one that says how
// important a request is passes only from trusted proxies, and only as it is written
// in the configuration: behind CGI X_Priority and X-Priority are one as well.
func (c *Client) withholds(name string) bool {
	if withheld(name, c.Trusted) {
		return true
	}
	if c.Priority == "" || c.Trusted && name == c.Priority {
		return false
	}
	plain, _ := dashed(name)
	priority, _ := dashed(c.Priority)
	return plain == priority
}

// dashed returns a name with a dash in place of everything that is neither a
// letter nor a digit, and whether that changed it.
func dashed(name string) (plain string, odd bool) {
	for i := 0; i < len(name); i++ {
		if !alphanumeric(name[i]) && name[i] != '-' {
			odd = true
			break
		}
	}
	if !odd {
		return name, false
	}
	b := []byte(name)
	for i, c := range b {
		if !alphanumeric(c) {
			b[i] = '-'
		}
	}
	return textproto.CanonicalMIMEHeaderKey(string(b)), true
}

func alphanumeric(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

// deleteListed removes the fields that Connection names: they are about that
// connection too (RFC 9110 section 7.6.1).
func deleteListed(h http.Header, connection []string) {
	for _, list := range connection {
		for option := range strings.SplitSeq(list, ",") {
			if option = textproto.TrimString(option); option != "" {
				h.Del(option)
			}
		}
	}
}

// takesTrailers reports whether TE names trailers, the one of its values that
// holds end to end in practice (RFC 9110 section 10.1.4).
func takesTrailers(te []string) bool {
	for _, list := range te {
		for coding := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(textproto.TrimString(coding), "trailers") {
				return true
			}
		}
	}
	return false
}

// stripResponse removes what is about the connection to the server, what it tells
// the node about its load, and Alt-Svc, which would lead visitors past the node.
// Names with a space, which the transport
// lets through, are no names (RFC 9112 section 5.1). Of a 101, Upgrade stays: it
// names what the tunnel is for.
func stripResponse(h http.Header, status int) {
	upgrade := h["Upgrade"]
	deleteListed(h, h["Connection"])
	for name := range h {
		if hopByHop(name) && name != "Content-Length" || name == "Alt-Svc" || isLoadReport(name) || strings.IndexByte(name, ' ') >= 0 {
			delete(h, name)
		}
	}
	if status == http.StatusSwitchingProtocols {
		h["Upgrade"] = upgrade
	}
}
