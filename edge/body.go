package edge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"

	"spillway/edge/outcome"
	"spillway/origin"
)

// A requestBody is what is in hand of a request's body.
type requestBody struct {
	kept []byte
	rest io.Reader // what did not fit; nil when kept is all of it
}

func (b *requestBody) whole() bool { return b.rest == nil }

// reader returns the body from its start. What was not kept can be read once.
func (b *requestBody) reader() io.Reader {
	switch {
	case b.rest != nil:
		return io.MultiReader(bytes.NewReader(b.kept), b.rest)
	case len(b.kept) > 0:
		return bytes.NewReader(b.kept)
	}
	return http.NoBody
}

// prepareBody makes the server do what this request's body needs of it: to ask for
// it, or to let it flow while the answer does. Then silence is no fault.
func (x *exchange) prepareBody() {
	switch r := x.r; {
	case r.Body == nil || r.Body == http.NoBody:
	case r.ProtoMajor == 3 && hasToken(r.Header["Expect"], "100-continue"):
		// RFC 9110 section 10.1.1; the other protocols' server does it on the first Read.
		x.w.WriteHeader(http.StatusContinue)
	case origin.Converses(r.Header):
		patient(x.w, x.s.settings.Load().tunnel)
		if r.ProtoMajor == 1 {
			_ = http.NewResponseController(x.w).EnableFullDuplex() // without it the answer waits for the request
		}
	}
}

// readBody reads the part of the request's body that is kept, so that a permit
// covers the origin's work and not the sender's network, and so that the request
// can be sent again. What bodies take in all is bounded: beyond that they are
// passed on as they come. A body that turns out to be empty is none from here
// on: HTTP/3 tells only at the end of the stream.
func (x *exchange) readBody(rt *route) (requestBody, outcome.Reason) {
	r := x.r
	var b requestBody
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return b, outcome.None
	}
	settings := x.s.settings.Load()
	if r.ContentLength > settings.maxBody {
		return b, outcome.BodyTooLarge
	}
	x.prepareBody()
	if origin.Converses(r.Header) {
		b.rest = r.Body
		return b, outcome.None
	}
	room := rt.keeps(r)
	kept, whole, err := x.keep(r.Body, room)
	if err != nil {
		return b, bodyFailure(r, err)
	}
	b.kept = kept
	switch {
	case !whole:
		b.rest = r.Body
	case len(kept) == 0:
		r.Body, r.ContentLength = http.NoBody, 0
	default:
		r.ContentLength = int64(len(kept))
	}
	return b, outcome.None
}

// bodyFailure says why a body could not be read.
func bodyFailure(r *http.Request, err error) outcome.Reason {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return outcome.BodyTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return outcome.ReadTimeout
	}
	if failure := net.Error(nil); r.Context().Err() == nil && !errors.As(err, &failure) {
		return outcome.BadRequest // the visitor is there, and what it sends is broken
	}
	return outcome.ClientGone
}
