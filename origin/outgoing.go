package origin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// A Client is who asks, as the origin is told.
type Client struct {
	// Addr is the address at the other end of the connection: the visitor's, or
	// that of a trusted proxy.
	Addr  netip.Addr
	Proto string // https or http
	Host  string // that was asked for
	// Trusted reports that Addr is a trusted proxy. What it says in X-Forwarded-*
	// and Forwarded is extended. What others say there is replaced.
	Trusted bool
	// Visitor is who asked, as far as a trusted proxy tells. The zero value is Addr.
	Visitor netip.Addr
	// Priority is the canonical name of the field in which trusted proxies say how
	// important a request is. Nobody else gets it to a server. Empty is none.
	Priority string
}

// visitor is the address of who asked, empty if it is not known.
func (c Client) visitor() string {
	addr := c.Visitor
	if !addr.IsValid() {
		addr = c.Addr
	}
	if addr = addr.Unmap().WithZone(""); !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// blank is copied to make a request that has a context from its birth.
var blank http.Request

// noUserAgent keeps the transport from adding its own name.
var noUserAgent = []string{""}

// Outgoing returns the request that a server gets for in. It belongs to the
// caller, but shares field values with in. The path and the query are sent byte
// for byte as they came.
//
// A *bytes.Reader as body can be sent a second time, to another server. Any
// other is sent once, with the length that in declares. nil and http.NoBody are
// no body. Trailers of in are sent after the body if they were announced or, with
// a *bytes.Reader, are there. The caller closes what is behind body.
func Outgoing(ctx context.Context, in *http.Request, c Client, body io.Reader) *http.Request {
	out := blank.WithContext(ctx)
	out.Method = in.Method
	out.URL = target(in)
	out.Proto, out.ProtoMajor, out.ProtoMinor = "HTTP/1.1", 1, 1
	out.Host = in.Host
	out.Header = outgoingHeader(in, c)
	out.RemoteAddr = c.visitor() // the transport ignores it, Do does not
	setBody(out, in, body)
	if out.Body != nil {
		setTrailer(out, in, c)
	}
	return out
}

// Target returns the path and the query of a request as they go to the origin:
// byte for byte as they came, but for what cannot stand in a request line, which
// is escaped. The path is escaped, begins with a slash or is an asterisk.
func Target(in *http.Request) (path, query string) {
	path, query, _ = split(in)
	return path, query
}

func split(in *http.Request) (path, query string, hasQuery bool) {
	path, query, hasQuery = strings.Cut(escape(rawTarget(in), unwritable), "?")
	if strings.HasPrefix(path, "//") {
		path = escape(path, unusual)
	}
	return path, query, hasQuery
}

// target returns the target of in so that it is written as it was read. In
// Opaque it is not touched. Only a path that begins with two slashes must go
// through RawPath, since Opaque would take it for an authority; there every byte
// that does not belong into a path is escaped, or all of it would be escaped
// anew and %2F become a slash.
func target(in *http.Request) *url.URL {
	path, query, hasQuery := split(in)
	u := &url.URL{Path: in.URL.Path, RawQuery: query, ForceQuery: hasQuery && query == ""}
	if strings.HasPrefix(path, "//") {
		u.RawPath = path
		u.Path, _ = url.PathUnescape(path)
	} else {
		u.Opaque = path
	}
	return u
}

// rawTarget is the request target without scheme and authority.
func rawTarget(in *http.Request) string {
	raw := in.RequestURI
	if raw == "" { // made by the node, not read from a client
		raw = in.URL.RequestURI()
	}
	if raw[0] == '/' || raw == "*" {
		return raw
	}
	// Absolute form (RFC 9112 section 3.2.2), or what looks like it. The routes
	// and the cache go by in.URL, and so must the origin: of http:/admin another
	// reading is easily had.
	path := in.URL.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if in.URL.RawQuery != "" || in.URL.ForceQuery {
		path += "?" + in.URL.RawQuery
	}
	return path
}

// unwritable reports the bytes that cannot stand in a request line. HTTP/2 and
// HTTP/3 carry a target of any bytes: a space in it would end the target early,
// and smuggle, when it is written in HTTP/1.1 (RFC 9113 section 10.3).
func unwritable(c byte) bool { return c <= ' ' || c == 0x7f || c == '#' }

// unusual reports the bytes that are not in the path of RFC 3986 section 3.3.
func unusual(c byte) bool {
	return !alphanumeric(c) && strings.IndexByte("-._~!$&'()*+,;=:@/%", c) < 0
}

func escape(s string, which func(byte) bool) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	done := 0
	for i := 0; i < len(s); i++ {
		if c := s[i]; which(c) {
			b = append(append(b, s[done:i]...), '%', hex[c>>4], hex[c&15])
			done = i + 1
		}
	}
	if done == 0 {
		return s
	}
	return string(append(b, s[done:]...))
}

func outgoingHeader(in *http.Request, c Client) http.Header {
	h := make(http.Header, len(in.Header)+6)
	for name, values := range in.Header {
		if !c.withholds(name) {
			h[name] = values
		}
	}
	deleteListed(h, in.Header["Connection"])
	if cookies := h["Cookie"]; len(cookies) > 1 {
		// HTTP/2 and HTTP/3 may split the field (RFC 9113 section 8.2.3, RFC 9114
		// section 4.2.1), HTTP/1.1 knows it only as one.
		h["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	if takesTrailers(in.Header["Te"]) {
		h["Te"] = []string{"trailers"}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = noUserAgent
	}
	h["Via"] = append(h["Via"][:len(h["Via"]):len(h["Via"])], via(in))
	setForwarded(h, in, c)
	return h
}

// Pseudonym is the node's name in Via.
const Pseudonym = "spillway"

// via is what the node adds to Via: the protocol in which it got the request,
// and a name instead of its address (RFC 9110 section 7.6.3).
func via(in *http.Request) string {
	switch in.ProtoMajor {
	case 3:
		return "3.0 " + Pseudonym
	case 2:
		return "2.0 " + Pseudonym
	}
	if in.ProtoMinor == 0 {
		return "1.0 " + Pseudonym
	}
	return "1.1 " + Pseudonym
}

func setBody(out, in *http.Request, body io.Reader) {
	if body == nil || body == http.NoBody {
		return
	}
	if whole, ok := body.(*bytes.Reader); ok {
		if whole.Len() == 0 && len(in.Trailer) == 0 {
			return // a body of unknown length, if it were set
		}
		start := *whole
		out.ContentLength = int64(whole.Len())
		out.Body = io.NopCloser(whole)
		out.GetBody = func() (io.ReadCloser, error) {
			again := start
			return io.NopCloser(&again), nil
		}
		return
	}
	if in.ContentLength != 0 {
		out.ContentLength = in.ContentLength
		out.Body = &upload{Reader: body}
	}
}
