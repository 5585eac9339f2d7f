package origin

import (
	"net/http"
	"strings"
)

// setTrailer makes the trailers of in those of out. They come after a body whose
// length is not told, since HTTP/1.1 has no other place for them (RFC 9112
// section 7.1.2).
//
// A streamed body's are known when it has been read. What was not announced and
// comes all the same goes to servers that speak HTTP/1.1; HTTP/2 wants the names
// before the body.
func setTrailer(out, in *http.Request, c Client) {
	u, streamed := out.Body.(*upload)
	if len(in.Trailer) == 0 && !(streamed && in.ProtoMajor >= 2 && in.ContentLength < 0) {
		return
	}
	out.Trailer = make(http.Header, len(in.Trailer))
	copyTrailers := func() {
		for name, values := range in.Trailer {
			if !noTrailer(name) && !c.withholds(name) {
				out.Trailer[name] = values
			}
		}
	}
	copyTrailers()
	if streamed {
		u.atEnd = copyTrailers
	}
	out.ContentLength = -1
	// By itself the transport looks for the first byte of a GET's body in the
	// background, and would meet the trailers there.
	out.TransferEncoding = []string{"chunked"}
}

// allowedTrailers returns the trailers that may be forwarded. It is never nil:
// what was not announced is put into it when it has come.
func allowedTrailers(all http.Header) http.Header {
	allowed := make(http.Header, len(all))
	for name, values := range all {
		if !noTrailer(name) {
			allowed[name] = values
		}
	}
	return allowed
}

// noTrailer reports whether a field must not come after the body, where it would
// change how the message is framed, routed, authenticated or read (RFC 9110
// section 6.5.1). Merged into the head by a careless program, it would. Reports of
// load are for the node alone.
func noTrailer(name string) bool {
	switch name {
	case "Host", "Max-Forwards", "Expect", "Range", "Cache-Control", "Pragma",
		"Authorization", "Www-Authenticate", "Cookie", "Set-Cookie", "Realm",
		"Content-Encoding", "Content-Type", "Content-Range", "Content-Location",
		"Age", "Date", "Expires", "Location", "Retry-After", "Vary", "Alt-Svc":
		return true
	}
	return hopByHop(name) || isLoadReport(name) || strings.HasPrefix(name, "If-")
}
