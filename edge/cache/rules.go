package cache

import "net/http"

// A verdict says what may be done with an answer whose header has arrived.
type verdict struct {
	// entry is the answer without its body, unless it is the leader's alone.
	entry *Entry
	// store: it may be kept for later requests.
	store bool
	// share: it may also answer requests that came before it was complete. What
	// must be validated each time may be stored, but not shared.
	share bool
	// why says what speaks against storing or sharing it.
	why string
}

// Words for verdict.why that others refer to.
const (
	whySetCookie   = "set-cookie"
	whyMemory      = "memory"      // there is none left, or the cache is off
	whyInvalidated = "invalidated" // the key was, while the answer was fetched
)

// judge applies all rules to an answer to r. What may be neither stored nor
// shared, the most of what passes an edge, costs no entry.
func judge(r *http.Request, a answer, maxObject int64) verdict {
	control := responseDirectives(a.header)
	v := verdict{why: forbidden(r, &a, &control, maxObject)}
	if v.why != "" && !a.confirmed {
		return v
	}
	e, selectable := newEntry(r, a, control)
	v.entry = e
	switch {
	case v.why != "":
	case !selectable:
		v.why = "vary"
	case !worthStoring(e):
		v.why = "no-freshness"
	default:
		v.store = (r.Method == http.MethodGet || a.confirmed) && !abbreviated(r, &a)
		v.share = shareable(e)
		if !v.share {
			v.why = "must-validate"
		} else if !v.store {
			v.why = "head"
		}
	}
	return v
}

// forbidden says what forbids to store and to share an answer, or the empty
// word.
func forbidden(r *http.Request, a *answer, control *directives, maxObject int64) string {
	request := requestDirectives(r.Header)
	switch {
	case !methodStorable(r.Method):
		return "method"
	case !statusStorable(a.status, control):
		return "status"
	case a.status == http.StatusPartialContent && !storablePart(r, a):
		return "partial"
	case noStore(a.status, &request, control):
		return "no-store"
	case control.private: // RFC 9111 section 5.2.2.7
		return "private"
	case setsCookie(a.header) && !(a.cookies && control.explicit(a.header)):
		return whySetCookie
	case hasAuthorization(r) && !control.allowsAuthorization():
		return "authorization"
	case a.length > maxObject:
		return whyTooLarge
	}
	return ""
}

// methodStorable implements the first condition of RFC 9111 section 3. HEAD is
// shared among those who ask at the same time, and not stored.
func methodStorable(method string) bool {
	return method == http.MethodGet || method == http.MethodHead
}

// abbreviated: a 206 to If-Range leaves fields out that its client has already
// (RFC 9110 section 15.3.7). It can add to an entry, and not be one.
func abbreviated(r *http.Request, a *answer) bool {
	return a.status == http.StatusPartialContent && len(r.Header["If-Range"]) > 0 && !a.adds
}

// statusStorable: final statuses only (RFC 9111 section 3). A 304 is an update
// and no answer (section 4.3.4), a 416 answers one request for a range and none
// for the whole, and must-understand needs a status with a known meaning
// (section 5.2.2.3).
func statusStorable(status int, cc *directives) bool {
	switch {
	case status < 200 || status > 999 || status == http.StatusNotModified ||
		status == http.StatusRequestedRangeNotSatisfiable:
		return false
	}
	return !cc.mustUnderstand || understood(status)
}

// understood reports whether this cache knows what the status means for caching.
func understood(status int) bool { return http.StatusText(status) != "" }

// noStore implements RFC 9111 sections 5.2.1.5 and 5.2.2.5. must-understand
// cancels the no-store of the response beside it (section 5.2.2.3), since
// statusStorable has passed the status.
func noStore(status int, request, response *directives) bool {
	return request.noStore || response.noStore && !(response.mustUnderstand && understood(status))
}

// setsCookie: RFC 6265 leaves storing Set-Cookie open; a cookie meant for one
// visitor that reaches all is the worst leak a cache can have, so that the operator
// has to ask for it. Set-Cookie2 is a field like any other since RFC 6265 section
// 9.3 has taken its meaning away.
func setsCookie(h http.Header) bool { return len(h["Set-Cookie"]) > 0 }

func hasAuthorization(r *http.Request) bool { return len(r.Header["Authorization"]) > 0 }

// allowsAuthorization implements RFC 9111 section 3.5, and goes further: a
// response that it does not permit to be shared answers no request with
// Authorization, whoever fetched it.
func (d *directives) allowsAuthorization() bool {
	return d.public || d.mustRevalidate || d.sMaxAge.set
}

// worthStoring is the last condition of RFC 9111 section 3 made strict: an
// answer is kept when it is fresh for a time, or can be validated, or may stand
// in when the origin fails. With no-cache only a validator makes it useful.
func worthStoring(e *Entry) bool {
	explicit := e.control.explicit(e.header) || e.control.public
	validated := (explicit || heuristicallyCacheable(e.status)) && e.validators()
	if e.control.noCache {
		return validated
	}
	return e.lifetime > 0 || validated ||
		explicit && (e.control.staleIfError.Duration > 0 || e.revalidationWindow() > 0)
}

// explicit reports whether an answer itself says how long it is fresh (RFC 9111
// section 4.2.1).
func (d *directives) explicit(h http.Header) bool {
	return d.sMaxAge.set || d.maxAge.set || len(h["Expires"]) > 0 && !d.targeted
}

// shareable reports whether an answer may go to others who wait for it. It
// counts as fresh for them even when it took longer to come than it lives, or
// else they would all ask again; but an origin that gives it no life at all
// wants to be asked by each, unless it lets the answer be used while it is
// revalidated.
func shareable(e *Entry) bool {
	return !e.control.noCache && (e.lifetime > 0 || e.revalidationWindow() > 0)
}

// mayAnswer reports whether an entry may answer r at all, apart from its
// freshness: it is the variant that r selects (RFC 9111 section 4.1), and
// Authorization allows it.
func (e *Entry) mayAnswer(r *http.Request) bool {
	return matches(e.vary, r.Header) && e.released(r)
}

// released reports whether section 3.5 lets an entry answer r.
func (e *Entry) released(r *http.Request) bool {
	return !hasAuthorization(r) || e.control.allowsAuthorization()
}

// bypass says why a request is neither answered by the cache nor collapsed, or
// the empty word.
func bypass(r *http.Request, body bool) Fwd {
	switch {
	case !methodStorable(r.Method):
		return FwdMethod
	case body, // a response to a GET with a body must not answer one without
		len(r.Header["If-Match"]) > 0,            // RFC 9111 section 4.3.2: not for a cache to evaluate
		len(r.Header["If-Unmodified-Since"]) > 0: // the same
		return FwdBypass
	}
	return ""
}

// hasBody reports whether a request has a body. A length of -1 means that one
// follows, unless somebody has found it empty.
func hasBody(r *http.Request) bool {
	return len(r.TransferEncoding) > 0 || r.ContentLength > 0 ||
		r.ContentLength < 0 && r.Body != nil && r.Body != http.NoBody
}

// announcesBody is hasBody before anybody has read: over HTTP/3 every request
// without a Content-Length has the length -1, whether a body follows or not. A
// hit may answer it either way, for a body means nothing to a GET (RFC 9110
// section 9.3.1); what is fetched is asked about again.
func announcesBody(r *http.Request) bool {
	return hasBody(r) && (r.ContentLength >= 0 || r.ProtoMajor < 3)
}

// size is what the answer takes in the store, as far as its header tells.
func (v *verdict) size(length int64) int64 { return v.entry.headerSize() + max(length, 0) }
