package edge

import (
	"maps"
	"net/http"
	"sync"
)

// informational passes the interim responses of the origin on (RFC 9110 section
// 15.2), such as Early Hints, to the visitor who made the node ask. Those who
// share the fetch get none: they are hints, and come too late for most of them.
//
// They arrive on a goroutine of the transport while the exchange waits for the
// final response. From close on nothing is written any more.
type informational struct {
	mu   sync.Mutex
	w    http.ResponseWriter // nil: nobody to tell
	left int
}

// interimMost bounds the interim responses of one request; not a knob: an origin
// has one or two to give.
const interimMost = 8

// open begins to pass responses on to w. A client of HTTP/1.0 knows none (RFC 9110
// section 15.2).
func (i *informational) open(w http.ResponseWriter, r *http.Request) {
	if r.ProtoAtLeast(1, 1) {
		i.w, i.left = w, interimMost
	}
}

// relay passes one response on. It may be called by any goroutine.
func (i *informational) relay(status int, fields http.Header) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.w == nil || i.left == 0 {
		return
	}
	i.left--
	h := i.w.Header()
	final := maps.Clone(h)
	clear(h)
	maps.Copy(h, fields)
	i.w.WriteHeader(status)
	clear(h)
	maps.Copy(h, final)
}

// close waits for a response that is being written.
func (i *informational) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.w = nil
}
