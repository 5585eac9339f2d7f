package cache

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"spillway/edge/coding"
)

// An Entry is a stored response. It never changes: a newer response, or one that
// a 304 has updated, is another entry. The body of one that was looked up stays
// valid until it is released, however long it takes to serve; all else of it is
// the garbage collector's.
type Entry struct {
	status int
	header http.Header
	body   []byte
	part   *part // nil: the body is all of it

	control    directives
	vary       []nominated
	received   time.Time
	initialAge time.Duration
	lifetime   time.Duration
	purged     bool // softly

	// number is the answer's, content that of the answer which brought the body: a 304
	// changes the one alone.
	number, content uint64
	coding          coding.Coding // of the body, one that is known
	mayRecode       bool          // others may get it in another coding
	salt            string        // of what was made of another entry; empty for what came

	hold hold
}

// Status returns the response's status.
func (e *Entry) Status() int { return e.status }

// Header returns the response's fields as they were stored: without Age and
// without hop-by-hop fields, with Date and, unless it holds a part only,
// Content-Length. It is shared: map entries may be copied into another header, but nothing of it may be changed.
func (e *Entry) Header() http.Header { return e.header }

// Body returns the whole body. It is shared, must not be changed, and must not be
// read once the entry is released. An entry that holds a part only was found for a
// request that Excerpt answers, and has none.
func (e *Entry) Body() []byte {
	if e.part != nil {
		return nil
	}
	return e.body
}

// An answer is what came back for a request: its head, and when.
type answer struct {
	status    int
	header    http.Header
	length    int64 // of the body, -1 when unknown
	requested time.Time
	received  time.Time
	// confirmed: a 304 came, and the status and header are those of an entry.
	confirmed bool
	policy    *Policy // of the route
	replaces  bool    // an entry that has expired would be gone
	// adds: it brings a part of an entry's representation, and the header is the
	// entry's with its own fields in it.
	adds bool
	// cookies: the operator lets what sets cookies be shared.
	cookies bool
}

// newEntry makes the entry of an answer, but for its body. It is not ok when the
// answer's Vary lets no other request match.
func newEntry(r *http.Request, a answer, control directives) (*Entry, bool) {
	names, ok := varyNames(a.header)
	a.policy.windows(&control)
	e := &Entry{
		status: a.status, header: storedHeader(a.header, a.received),
		control: control, vary: a.policy.withParts(nominate(r.Header, names), r.Header), received: a.received,
	}
	for i := range e.vary {
		e.vary[i].value = strings.Clone(e.vary[i].value) // a part of a field keeps all of it alive
	}
	if a.length >= 0 && a.status != http.StatusNoContent { // RFC 9110 section 8.6
		e.header["Content-Length"] = []string{strconv.FormatInt(a.length, 10)}
	}
	date, _ := parseDate(e.header["Date"])
	e.initialAge = initialAge(a.header, date, a.requested, a.received)
	// A guess about how long an answer stays true is no ground for sharing it when
	// the request may have been recognized by its cookie.
	guess := len(r.Header["Cookie"]) == 0 || e.control.public
	e.lifetime = a.policy.lifetime(&a, &e.control, lifetime(a.status, a.header, e.control, date, guess), guess)
	if _, told := parseAge(a.header["Age"]); !told {
		// How old it is nobody knows, so it may be too old. RFC 9111 section 5.1 would
		// rather that a cache took the first of several values and no notice of what it
		// cannot read; to validate first is always allowed.
		e.lifetime = 0
	}
	e.number = newNumber()
	e.content = e.number
	if in, known := codingOf(e.header); known {
		e.coding = in
		e.mayRecode = a.policy.recodes() && e.recodable(a.length)
	}
	return e, ok
}

// complete returns the entry with its body, which must be on the heap, for nothing
// pins it.
func (e *Entry) complete(body []byte) *Entry {
	whole := *e
	whole.body, whole.part, whole.hold = body, nil, hold{}
	if len(e.header["Content-Length"]) == 0 && e.status != http.StatusNoContent {
		whole.header = maps.Clone(e.header)
		whole.header["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	return &whole
}

// validators reports whether the entry can be validated (RFC 9111 section
// 4.3.1).
func (e *Entry) validators() bool {
	return len(e.header["Etag"]) > 0 || len(e.header["Last-Modified"]) > 0
}

// storedHeader copies what may be stored of a header (RFC 9111 section 3.1). Age
// is left out since it is made anew for each answer. The values share one array,
// and none has room for more: an append by a careless reader copies.
func storedHeader(h http.Header, received time.Time) http.Header {
	lines := 1
	for _, values := range h {
		lines += len(values)
	}
	all := make([]string, 0, lines)
	stored := make(http.Header, len(h)+2)
	for name, values := range h {
		if neverStored(h, name) {
			continue
		}
		from := len(all)
		all = append(all, values...)
		stored[name] = all[from:len(all):len(all)]
	}
	if _, ok := parseDate(stored["Date"]); !ok {
		// RFC 9110 section 6.6.1: a recipient with a clock adds the time of receipt.
		stored["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	}
	return stored
}

// neverStored lists the fields of RFC 9111 section 3.1, and Trailer, because the
// trailer section itself is dropped (RFC 9110 section 6.5.1).
func neverStored(h http.Header, name string) bool {
	switch name {
	case "Age", "Trailer", "Content-Length":
		return true
	}
	return hopByHop(name) || namedByConnection(h, name)
}

// hopByHop lists the fields that concern one connection, or one proxy, only.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization":
		return true
	}
	return false
}

// namedByConnection reports whether Connection nominates the field (RFC 9110
// section 7.6.1).
func namedByConnection(h http.Header, name string) (named bool) {
	members(h["Connection"], func(m string) bool {
		named = http.CanonicalHeaderKey(m) == name
		return !named
	})
	return named
}

// headerSize bounds what the entry takes in the store beside its key and body:
// numbers of up to ten bytes, texts with their lengths.
func (e *Entry) headerSize() int64 {
	const number, control = 10, 64
	size := int64(11*number + control + len(e.salt))
	for name, values := range e.header {
		size += 2*number + int64(len(name))
		for _, v := range values {
			size += number + int64(len(v))
		}
	}
	for i := range e.vary {
		size += 2*number + 1 + int64(len(e.vary[i].name)+len(e.vary[i].value))
	}
	return size
}
