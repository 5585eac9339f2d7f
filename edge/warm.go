package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/dunglas/httpsfv"
)

// What became of a URL that was to be stored.
const (
	WarmStored      = "stored"
	WarmFresh       = "fresh"        // it was stored already, or another request fetched it
	WarmNotStorable = "not_storable" // it may not be stored; why says the rule
	WarmFailed      = "failed"       // there was no answer, or it broke off
)

// A Warming is what became of a URL.
type Warming struct {
	URL    string `json:"url"`
	Result string `json:"result"`
	Why    string `json:"why,omitempty"`
	Status int    `json:"status,omitempty"`
	Bytes  int64  `json:"bytes"` // of the body
}

// Warm asks for a URL as a visitor on this machine would, and says whether the
// answer was stored. The request takes the path of all others and is counted like
// them; as a prefetch it is answered by nothing that costs money. It ends with ctx.
// Its error says what is wrong with the inquiry.
func (s *Server) Warm(ctx context.Context, q Inquiry) (Warming, error) {
	r, err := q.request()
	if err != nil {
		return Warming{}, err
	}
	if r.TLS == nil {
		return Warming{}, fmt.Errorf("%q is plain HTTP, which is redirected and never stored", q.URL)
	}
	r.TLS.HandshakeComplete = true
	r.Header.Set("Sec-Purpose", "prefetch")
	if r.Header["Cache-Control"] == nil {
		r.Header.Set("Cache-Control", "min-fresh=0") // waits for what is fetched anew
	}
	w := &unread{header: http.Header{}}
	result := Warming{URL: q.URL}
	if !w.serve(s, r.WithContext(ctx)) {
		result.Result, result.Why = WarmFailed, "the answer broke off"
		return result, nil
	}
	result.Status, result.Bytes = w.status, w.bytes
	if result.Result, result.Why = warmed(w.header); w.status >= 500 {
		result.Result, result.Why = WarmFailed, ""
	}
	if result.Result == WarmFailed && result.Why == "" {
		result.Why = fmt.Sprintf("%d %s", w.status, http.StatusText(w.status))
	}
	return result, nil
}

// warmed reads what became of an answer from the member of Cache-Status that is
// the node's own, the last (RFC 9211 section 2). Answers that it gives by itself
// have none.
func warmed(h http.Header) (result, why string) {
	list, err := httpsfv.UnmarshalList(h["Cache-Status"])
	if err != nil || len(list) == 0 {
		return WarmFailed, ""
	}
	item, ok := list[len(list)-1].(httpsfv.Item)
	if !ok {
		return WarmFailed, ""
	}
	is := func(name string) bool { v, _ := item.Params.Get(name); return v == true }
	detail, told := item.Params.Get("detail")
	_, answered := item.Params.Get("fwd-status")
	switch {
	case is("stored"):
		return WarmStored, ""
	case is("hit") && !told:
		return WarmFresh, ""
	case !answered: // an entry stood in
		return WarmFailed, fmt.Sprint(detail)
	case told:
		return WarmNotStorable, fmt.Sprint(detail)
	case is("collapsed"):
		return WarmFresh, ""
	}
	forward, _ := item.Params.Get("fwd")
	return WarmNotStorable, fmt.Sprint(forward)
}

// unread is a visitor who wants the answer to be made, and not to have it.
type unread struct {
	header http.Header
	status int
	bytes  int64
}

// serve has the server answer, and reports whether the answer is whole.
func (u *unread) serve(s *Server, r *http.Request) (whole bool) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
		}
	}()
	s.ServeHTTP(u, r)
	return true
}

// Header implements http.ResponseWriter.
func (u *unread) Header() http.Header { return u.header }

// WriteHeader implements http.ResponseWriter.
func (u *unread) WriteHeader(status int) {
	if status >= 200 {
		u.status = status
	}
}

// Write implements http.ResponseWriter.
func (u *unread) Write(b []byte) (int, error) {
	u.bytes += int64(len(b))
	return len(b), nil
}

// Flush implements http.Flusher.
func (u *unread) Flush() {}
