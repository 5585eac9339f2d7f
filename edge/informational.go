package edge

import (
	"maps"
	"net/http"
	"slices"
	"sync"

	"spillway/edge/cache"
)

// informational passes the interim responses of the origin on (RFC 9110 section
// 15.2), such as Early Hints, to the visitor who made the node ask, whether the final
// response is then stored and shared or not. Those who share the fetch get none:
// nothing of a fetch is anybody else's before its final header says so, and a hint may
// name what only one visitor may know of. Their hints are those of what is stored.
//
// They arrive while the exchange waits for the final response, on a goroutine of
// the transport that must not wait for a visitor. So they are written by a
// goroutine of their own, which there is only while there are any. From close on
// nothing is written any more.
type informational struct {
	mu      sync.Mutex
	w       http.ResponseWriter // nil: nobody to tell
	http2   bool
	left    int
	hinted  []string // the links that were told out of the cache
	waiting []interimResponse
	writing bool
	writer  sync.WaitGroup
}

type interimResponse struct {
	status int
	fields http.Header
}

// interimMost bounds the interim responses of one request; not a knob: an origin
// has one or two to give.
const interimMost = 8

// open begins to pass responses on to w. A client of HTTP/1.0 knows none (RFC 9110
// section 15.2).
func (i *informational) open(w http.ResponseWriter, r *http.Request) {
	if r.ProtoAtLeast(1, 1) {
		i.w, i.http2, i.left = w, r.ProtoMajor == 2, interimMost
	}
}

// relay passes one response on. It may be called by any goroutine, and does not
// wait for the visitor.
func (i *informational) relay(status int, fields http.Header) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.w == nil || i.left == 0 || i.toldAlready(status, fields) {
		return
	}
	i.left--
	i.waiting = append(i.waiting, interimResponse{status, fields})
	if !i.writing {
		i.writing = true
		i.writer.Go(i.write)
	}
}

// hint tells the visitor early what to load, out of the cache. It comes before
// anything of the origin's.
func (i *informational) hint(links []string) {
	i.relay(http.StatusEarlyHints, http.Header{"Link": links})
	i.mu.Lock()
	i.hinted = links
	i.mu.Unlock()
}

// toldAlready reports whether the origin's hints say nothing that was not told out of
// the cache.
func (i *informational) toldAlready(status int, fields http.Header) bool {
	if status != http.StatusEarlyHints || len(i.hinted) == 0 || len(fields) != 1 {
		return false
	}
	links := cache.EarlyLinks(fields["Link"])
	return len(links) > 0 && !slices.ContainsFunc(links, func(link string) bool { return !slices.Contains(i.hinted, link) })
}

// write writes what waits.
func (i *informational) write() {
	for {
		w, next := i.next()
		if w == nil {
			return
		}
		h := w.Header()
		final := maps.Clone(h)
		clear(h)
		maps.Copy(h, next.fields)
		if i.http2 {
			// HTTP/2's server sends an interim response out of this very map, and does not
			// wait for that when the visitor leaves. Of a header with a length it makes a copy
			// without it first.
			h["Content-Length"] = noLength
		}
		w.WriteHeader(next.status)
		clear(h)
		maps.Copy(h, final)
	}
}

var noLength = []string{"0"}

// next takes the response that has waited longest. Without one it returns nil, and
// the writer must end.
func (i *informational) next() (w http.ResponseWriter, next interimResponse) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.waiting) == 0 {
		i.writing = false
		return nil, next
	}
	next, i.waiting = i.waiting[0], i.waiting[1:]
	return i.w, next
}

// close takes nothing in any more, and waits until what came was written: the final
// response must not begin inside it. A visitor who does not read holds up nobody
// else here, as the origin is done with him.
func (i *informational) close() {
	i.mu.Lock()
	i.left = 0
	i.mu.Unlock()
	i.writer.Wait()
}
