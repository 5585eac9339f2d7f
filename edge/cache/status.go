package cache

import (
	"net/http"
	"strconv"
	"time"
)

// A Fwd says why a request went forward, in the words of RFC 9211 section 2.2.
type Fwd string

const (
	FwdBypass   Fwd = "bypass"
	FwdMethod   Fwd = "method"
	FwdURIMiss  Fwd = "uri-miss"
	FwdVaryMiss Fwd = "vary-miss"
	FwdRequest  Fwd = "request"
	FwdStale    Fwd = "stale"
	FwdPartial  Fwd = "partial"
)

// A Status is this cache's member of the Cache-Status field (RFC 9211).
type Status struct {
	// Hit: the request did not go forward. Then TTL is the freshness that is left,
	// below zero for a stale answer. A Status with Hit ignores Fwd.
	Hit bool
	TTL time.Duration
	// Fwd says why the request went forward, FwdStatus what came back.
	Fwd       Fwd
	FwdStatus int
	Stored    bool
	Collapsed bool
	// Refused: it was to be collapsed with another request, and could not.
	Refused bool
	// Detail is for the operator: any text.
	Detail string
}

// name is how this cache calls itself.
const name = "spillway"

// String returns the member as a structured field item (RFC 9651).
func (s Status) String() string {
	b := make([]byte, 0, 96)
	b = append(b, name...)
	if s.Hit {
		b = append(b, "; hit; ttl="...)
		b = strconv.AppendInt(b, int64(s.TTL/time.Second), 10)
	} else if s.Fwd != "" {
		b = append(b, "; fwd="...)
		b = append(b, s.Fwd...)
	}
	if s.FwdStatus != 0 {
		b = append(b, "; fwd-status="...)
		b = strconv.AppendInt(b, int64(s.FwdStatus), 10)
	}
	if !s.Hit && s.TTL != 0 {
		b = append(b, "; ttl="...)
		b = strconv.AppendInt(b, int64(s.TTL/time.Second), 10)
	}
	if s.Stored {
		b = append(b, "; stored"...)
	}
	if s.Collapsed {
		b = append(b, "; collapsed"...)
	} else if s.Refused {
		b = append(b, "; collapsed=?0"...)
	}
	if s.Detail != "" {
		b = append(b, "; detail="...)
		b = appendDetail(b, s.Detail)
	}
	return string(b)
}

// appendDetail writes a token where the text is one, else a string. RFC 9651
// strings hold printable ASCII only.
func appendDetail(b []byte, text string) []byte {
	if c := text[0] | 0x20; isToken(text) && 'a' <= c && c <= 'z' {
		return append(b, text...)
	}
	b = append(b, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c > 0x7e:
			b = append(b, '?')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// Append returns the field with this member behind the members that caches
// nearer to the origin have put there (RFC 9211 section 2). The slice it gets is
// not changed.
func (s Status) Append(lines []string) []string {
	return append(lines[:len(lines):len(lines)], s.String())
}

// Status returns the member for an answer that came without a fetch. The detail of one
// that has expired says what allows it, if the lookup knows that; that of one whose body
// was brought into another coding here says into which.
func (r *Result) Status(now time.Time) Status {
	if r.Entry == nil {
		return Status{Fwd: r.Why}
	}
	s := Status{Hit: true, TTL: r.Entry.TTL(now)}
	switch {
	case r.State == StaleWhileRevalidate:
		s.Detail = string(StaleWhileRevalidate)
	case r.State == Fresh && s.TTL <= 0:
		s.Detail = "max-stale"
	case r.recoded != nil:
		s.Detail = r.coding.String()
	}
	return s
}

// Forwarded returns the member for an answer out of the entry after all, when a fetch
// has failed or is late: hit and fwd exclude each other (RFC 9211 section 2.1).
func (r *Result) Forwarded(now time.Time) Status {
	return Status{Fwd: r.Why, TTL: r.Entry.TTL(now)}
}

// passedBecause says why a request was passed on that is none for the cache, where
// fwd does not.
func passedBecause(r *http.Request, found *Result) string {
	switch {
	case found.Why == FwdMethod:
		return ""
	case hasBody(r): // over HTTP/3 it is found late
		return "request-body"
	case found.Why != FwdBypass:
		return "waited-in-vain" // for what others fetched
	case len(r.Header["If-Match"]) > 0, len(r.Header["If-Unmodified-Since"]) > 0:
		return "precondition"
	}
	return "route"
}

// CacheStatus returns the member for a fetched answer to a lookup's result.
func (r *Response) CacheStatus(found *Result) Status {
	if r.Hit {
		return Status{Hit: true, TTL: r.TTL}
	}
	return Status{
		Fwd: found.Why, FwdStatus: r.FwdStatus,
		Stored: r.Stored, Collapsed: r.Joined, Refused: r.Refused, Detail: r.Detail,
	}
}
