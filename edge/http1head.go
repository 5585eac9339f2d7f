package edge

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// A head is the head of a request over HTTP/1.1, if it is one that leaves nobody in
// doubt: net/http makes the same of it, and where it ends, and its body, all agree who
// follow RFC 9112. Everything else is left to net/http: bare line feeds, folded lines,
// other versions and forms of the target, unusual bytes, transfer codings, and what
// ends the connection or changes its protocol.
//
// It serves one request after the other, and makes one string for each.
type head struct {
	request http.Request
	size    int   // of the head, with its empty line; of a partial one, of its whole lines
	body    int64 // bytes that follow it
	// altered tells that the request is not all that net/http would make of the head.
	altered bool

	url    url.URL
	values []string // that the fields are slices of
}

// A reading is what parse says of bytes at the beginning of which there is a request.
type reading uint8

const (
	whole   reading = iota // its head is there
	partial                // its head may go on in what has not come yet
	unclear                // net/http must say what it is
)

var endOfHead = []byte("\r\n\r\n")

// parse reads the head at the beginning of b. What has not come whole is judged by the
// lines that have: net/http may have an answer to one of them already. Each is judged once,
// or who sends byte by byte would have all lines read for each: so many bytes were judged
// before, and what they are lines of is partial at least.
func (h *head) parse(b []byte, judged int) reading {
	from := max(judged-len("\r\n"), 0)
	end := bytes.Index(b[from:], endOfHead)
	found := whole
	if end >= 0 {
		h.size, judged = from+end+len(endOfHead), 0
	} else {
		found, h.size = partial, judged+bytes.LastIndexByte(b[judged:], '\n')+1
	}
	if h.size == 0 {
		if len(b) > 0 && (b[0] < 'A' || b[0] > 'Z') { // such as a line too many behind a body
			return unclear
		}
		return partial
	}
	h.reset()
	rest := string(b[judged:h.size])
	if judged == 0 {
		line, fields, ok := cutLine(rest)
		if !ok || !h.start(line) {
			return unclear
		}
		rest = fields
	}
	for rest != "" {
		line, others, ok := cutLine(rest)
		if line == "" && ok {
			break
		}
		if !ok || !h.field(line) {
			return unclear
		}
		rest = others
	}
	if found == whole && h.request.Host == "" { // RFC 9112 section 3.2
		return unclear
	}
	return found
}

// reset begins a new request.
func (h *head) reset() {
	r := &h.request
	if r.Header == nil {
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
		r.Header, r.Body, r.URL = http.Header{}, http.NoBody, &h.url
	}
	clear(r.Header)
	h.values, h.body, h.altered = h.values[:0], 0, false
	r.Host = ""
}

// cutLine takes a line off text that ends with one.
func cutLine(text string) (line, rest string, ok bool) {
	i := strings.IndexByte(text, '\n')
	if i < 1 || text[i-1] != '\r' {
		return "", "", false
	}
	return text[:i-1], text[i+1:], true
}

// start sets what the first line says.
func (h *head) start(line string) bool {
	method, line, _ := strings.Cut(line, " ")
	target, version, _ := strings.Cut(line, " ")
	// CONNECT has another form of target, and what follows it is no request.
	if version != "HTTP/1.1" || !strings.HasPrefix(target, "/") || method == "" || !methodBytes.has(method) || method == http.MethodConnect {
		return false
	}
	h.request.Method, h.request.RequestURI = method, target
	return h.parseTarget(target)
}

// parseTarget sets the URL. What net/url does nothing with but cut it in two is not
// given to it.
func (h *head) parseTarget(target string) bool {
	if !targetBytes.has(target) {
		return false
	}
	path, query, _ := strings.Cut(target, "?")
	if pathBytes.has(path) && !strings.HasSuffix(target, "?") {
		h.url = url.URL{Path: path, RawQuery: query}
		return true
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return false
	}
	h.url = *u
	return true
}

// field adds the field of one line, and reports whether the head is a clear one still.
func (h *head) field(line string) bool {
	name, value, _ := strings.Cut(line, ":")
	value = strings.Trim(value, " \t")
	if name == "" || len(name) == len(line) || !nameBytes.has(name) || !valueBytes.has(value) {
		return false
	}
	r := &h.request
	name = textproto.CanonicalMIMEHeaderKey(name)
	switch name {
	case "Host":
		if r.Host != "" || value == "" || !hostBytes.has(value) {
			return false
		}
		r.Host = value
		return true
	case "Content-Length":
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || !digits.has(value) || r.Header[name] != nil {
			return false
		}
		h.body, h.altered = int64(n), true
	case "Connection":
		// What HTTP/1.1 does by itself, said by every browser.
		if !strings.EqualFold(value, "keep-alive") || r.Header[name] != nil {
			return false
		}
	case "Transfer-Encoding", "Trailer", "Expect", "Upgrade":
		return false
	case "Pragma":
		h.altered = true // net/http may make a Cache-Control of it
	}
	if values := r.Header[name]; values != nil {
		r.Header[name] = append(values, value)
		return true
	}
	h.values = append(h.values, value)
	last := len(h.values)
	r.Header[name] = h.values[last-1 : last : last]
	return true
}

// forget lets go of all that the visitor said.
func (h *head) forget() {
	clear(h.request.Header)
	clear(h.values)
	h.url = url.URL{}
	r := &h.request
	r.Method, r.RequestURI, r.Host, r.RemoteAddr, r.TLS = "", "", "", "", nil
}

// A byteSet tells which bytes may stand somewhere. All are stricter than net/http is.
type byteSet [256]bool

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

var (
	digits      = setOf("0123456789")
	methodBytes = setOf("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	// pathBytes are those that a path has in its shortest spelling.
	pathBytes   = setOf(alphanumeric + "-_.~$&+,/:;=@")
	targetBytes = setOf(visible("#"))
	nameBytes   = setOf(alphanumeric + "!#$%&'*+-.^_`|~") // RFC 9110 section 5.6.2
	valueBytes  = setOf(visible("") + " \t")
	hostBytes   = setOf(alphanumeric + "-._:[]")
)

func setOf(bytes string) (s byteSet) {
	for i := range len(bytes) {
		s[bytes[i]] = true
	}
	return s
}

// visible are the characters of ASCII that are seen, without some.
func visible(without string) string {
	var b strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		if strings.IndexByte(without, c) < 0 {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// has reports whether all of text is in the set.
func (s *byteSet) has(text string) bool {
	for i := range len(text) {
		if !s[text[i]] {
			return false
		}
	}
	return true
}
