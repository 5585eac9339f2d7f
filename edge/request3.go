package edge

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http/httpguts"
)

// A request3 makes requests of what streams of HTTP/3 bring, as http3 makes them. It
// knows the plain ones only, that may be hits: what it does not know, and whatever
// http3 would refuse, it leaves to http3. It is used again for the next request.
type request3 struct {
	request http.Request
	url     url.URL
	header  http.Header
	values  [maxSentFields]string // what header points to
	section fieldSection
}

// parse reads the request of a stream that brought all of p and then ended. It is not ok
// when http3 is to read it. limit is what http3 bounds a header by.
func (q *request3) parse(p []byte, limit int) (ok bool) {
	block, ok := headersOnly(p)
	if !ok || len(block) > limit || !q.section.read(block) {
		return false
	}
	if q.header == nil {
		q.header = make(http.Header, maxSentFields/2)
	}
	clear(q.header)
	var target, authority string
	var method, scheme, regular bool
	for i := range q.section.fields {
		f := &q.section.fields[i]
		limit -= len(f.name) + len(f.value) + 32 // RFC 9114 section 4.2.2
		if limit < 0 || f.value != "" && !httpguts.ValidHeaderFieldValue(f.value) {
			return false
		}
		if f.of == nil || f.name[0] != ':' {
			regular = true
			if !q.add(i, f) {
				return false
			}
			continue
		}
		// RFC 9114 section 4.3: each once, and before all others.
		if regular {
			return false
		}
		switch {
		case f.name == ":method" && !method && f.value == http.MethodGet:
			method = true
		case f.name == ":scheme" && !scheme && f.value == "https":
			scheme = true
		case f.name == ":authority" && authority == "" && f.value != "" && !strings.Contains(f.value, "@"):
			authority = f.value
		case f.name == ":path" && target == "" && strings.HasPrefix(f.value, "/"):
			target = f.value
		default:
			return false
		}
	}
	if !method || !scheme || authority == "" || target == "" {
		return false
	}
	// RFC 9114 section 4.2.1
	if cookies := q.header["Cookie"]; len(cookies) > 1 {
		q.header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	q.request = http.Request{
		Method: http.MethodGet, Proto: "HTTP/3.0", ProtoMajor: 3, Header: q.header, Body: http.NoBody,
		Host: authority, RequestURI: target,
	}
	return q.takeTarget(target)
}

// headersOnly returns the field section of a stream that is one HEADERS frame (RFC 9114
// section 7.2.2).
func headersOnly(p []byte) (block []byte, ok bool) {
	const headers = 0x1
	if len(p) < 2 || p[0] != headers {
		return nil, false
	}
	length, n, err := quicvarint.Parse(p[1:])
	if err != nil || length != uint64(len(p)-1-n) {
		return nil, false
	}
	return p[1+n:], true
}

// add takes a field that is no pseudo-header. i is its place among all.
func (q *request3) add(i int, f *sentField) (ok bool) {
	var key string
	if f.of != nil {
		if key = f.of.canonical; key == "Content-Length" {
			return false
		}
	} else if key, ok = canonicalField(f.name); !ok || key == "Te" && f.value != "trailers" {
		return false
	}
	q.values[i] = f.value
	if earlier := q.header[key]; earlier != nil {
		q.header[key] = append(earlier, f.value)
	} else {
		q.header[key] = q.values[i : i+1 : i+1]
	}
	return true
}

// canonicalField returns how the header has a field whose name is a literal. It is not ok
// when http3 does more with the field than to take it.
func canonicalField(name string) (key string, ok bool) {
	if key, ok = browserFields[name]; ok {
		return key, true
	}
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length", "host", "trailer":
		return "", false
	}
	if !httpguts.ValidHeaderFieldName(name) || strings.ToLower(name) != name { // RFC 9114 section 4.2
		return "", false
	}
	return textproto.CanonicalMIMEHeaderKey(name), true
}

// browserFields are what browsers send beyond the static table, so that their names cost
// nothing.
var browserFields = func() map[string]string {
	keys := map[string]string{}
	for _, name := range []string{
		"cache-control", "device-memory", "dnt", "downlink", "dpr", "ect", "pragma", "priority", "rtt", "save-data",
		"sec-ch-prefers-color-scheme", "sec-ch-ua", "sec-ch-ua-arch", "sec-ch-ua-bitness", "sec-ch-ua-full-version-list",
		"sec-ch-ua-mobile", "sec-ch-ua-model", "sec-ch-ua-platform", "sec-ch-ua-platform-version", "sec-fetch-dest",
		"sec-fetch-mode", "sec-fetch-site", "sec-fetch-storage-access", "sec-fetch-user", "sec-gpc", "sec-purpose", "te",
		"viewport-width", "x-requested-with",
	} {
		keys[name] = textproto.CanonicalMIMEHeaderKey(name)
	}
	return keys
}()

// takeTarget takes the request's target as url.ParseRequestURI does.
func (q *request3) takeTarget(target string) (ok bool) {
	path, query, _ := strings.Cut(target, "?")
	if plainPath(path) && query != "" && strings.IndexFunc(query, isControl) < 0 || plainPath(target) {
		q.url = url.URL{Path: path, RawQuery: query}
		q.request.URL = &q.url
		return true
	}
	u, err := url.ParseRequestURI(target)
	q.request.URL = u
	return err == nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// plainPath reports whether a path is written the one way there is to write it: without
// escapes, and without what package url would escape.
func plainPath(s string) bool {
	for i := range len(s) {
		if !plainBytes[s[i]] {
			return false
		}
	}
	return true
}

var plainBytes = func() (plain [256]bool) {
	for c := range plain {
		s := string([]byte{byte(c)})
		plain[c] = (&url.URL{Path: "/" + s}).RequestURI() == "/"+s && c < 0x80 && c != '%'
	}
	return plain
}()
