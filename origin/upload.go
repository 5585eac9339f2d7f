package origin

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// An upload is a body that comes from the client while it is sent. It remembers
// how reading it failed, and how long it took: that is up to the client, not to the
// server.
type upload struct {
	io.Reader
	atEnd  func() // nil if there is nothing to do
	failed atomic.Pointer[error]
	waited atomic.Int64 // for the client, in nanoseconds
}

func (u *upload) Read(p []byte) (int, error) {
	since := time.Now()
	n, err := u.Reader.Read(p)
	u.waited.Add(int64(time.Since(since)))
	switch {
	case err == io.EOF && u.atEnd != nil:
		u.atEnd()
	case err != nil && err != io.EOF:
		u.failed.Store(&err)
	}
	return n, err
}

func (u *upload) Close() error { return nil }

// isUpload reports whether the body comes from the client while it is sent.
func isUpload(req *http.Request) bool {
	_, ok := req.Body.(*upload)
	return ok
}

// uploadError returns how reading the client's body failed, if it did.
func uploadError(req *http.Request) error {
	if u, ok := req.Body.(*upload); ok {
		if err := u.failed.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// uploading reports whether the client has yet to send of its body, so that the
// server may have good reason to do nothing, or to go.
func (e *exchange) uploading() bool { return isUpload(e.req) && !e.written.Load() }

// uploadPatience is how long a client may take over a body that was too large to
// be kept before the permit becomes a long-lived one: a client on a good line
// works the origin, one on a bad line only occupies it.
const uploadPatience = time.Second

// outlast sees to it that slow uploads do not fill the limit. The answer may have
// begun meanwhile, and waits for the rest of them like the server.
func (e *exchange) outlast() {
	e.body.mu.Lock()
	defer e.body.mu.Unlock()
	e.detach()
}

// awaited reports whether the client of an upload was waited for longer than the
// origin. A client must not make the origin look slow.
func (e *exchange) awaited() bool {
	u, ok := e.req.Body.(*upload)
	return ok && time.Duration(u.waited.Load()) > time.Since(e.begun)/2
}
