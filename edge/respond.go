package edge

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/waiting"
)

// This file is the only place that writes a response.

// entry answers from a stored entry, without asking anybody.
func (x *exchange) entry(o outcome.Outcome, why outcome.Reason) {
	x.outcome, x.reason = o, why
	found := &x.found
	h := x.w.Header()
	if made := x.s.cache.Recode(x.r.Context(), x.r, found); made != nil {
		copyHeader(h, made.Header)
		x.hideTags(h)
		status := x.entryStatus()
		status.Detail = cmp.Or(status.Detail, made.Detail)
		h["Cache-Status"] = status.Append(h["Cache-Status"])
		x.send(made)
		return
	}
	e := found.Answer(x.r)
	x.entryFields(h, e)
	x.whole(e)
}

// entryFields sets the fields of an answer out of a stored entry.
func (x *exchange) entryFields(h http.Header, e *cache.Entry) {
	found := &x.found
	copyHeader(h, e.Header())
	found.Vary(h)
	x.hideTags(h)
	h["Age"] = []string{strconv.FormatInt(int64(found.Entry.Age(x.start)/time.Second), 10)}
	h["Cache-Status"] = x.entryStatus().Append(h["Cache-Status"])
	x.expose(h)
}

// response answers with what was fetched.
func (x *exchange) response(resp *cache.Response, status cache.Status) {
	h := x.w.Header()
	copyHeader(h, resp.Header)
	x.hideTags(h)
	h["Cache-Status"] = status.Append(h["Cache-Status"])
	if resp.Status < 500 {
		x.letIn(h)
	}
	x.send(resp)
}

// send sends an answer of which the header is ready but for what the node says of it.
func (x *exchange) send(resp *cache.Response) {
	defer resp.Body.Close()
	h := x.w.Header()
	x.expose(h)
	if resp.Entry != nil {
		x.whole(resp.Entry)
		return
	}
	// A fetch for many carries nobody's own conditions; each answers them itself.
	if cache.NotModified(x.r, resp.Status, resp.Header) {
		x.notModified()
		return
	}
	x.writeHeader(resp.Status)
	if x.r.Method == http.MethodHead {
		// Unless told, HTTP/3 would say that the length is 0.
		if h["Content-Length"] == nil {
			http.NewResponseController(x.w).Flush()
		}
		return
	}
	if resp.ContentLength < 0 {
		// The first event may be long in coming; the header tells that it will.
		http.NewResponseController(x.w).Flush()
	}
	// What others read too comes at the pace of the fetch, whatever its length.
	x.stream(resp.Body, resp.ContentLength < 0 || resp.Joined || resp.Stored)
	for name, values := range resp.Trailer {
		h[http.TrailerPrefix+name] = values
	}
}

// whole sends an entry whose body is there, or the ranges of it that are asked
// for: it leaves in one Write, several ranges in one for each.
func (x *exchange) whole(e *cache.Entry) {
	if e.NotModified(x.r) {
		x.notModified()
		return
	}
	if excerpt, ok := e.Excerpt(x.r); ok {
		x.writeHeader(excerpt.Apply(x.w.Header()))
		for _, piece := range excerpt.Pieces() {
			if !x.write(piece) {
				return
			}
		}
		return
	}
	x.writeHeader(e.Status())
	if x.r.Method != http.MethodHead {
		x.write(e.Body())
	}
}

func (x *exchange) notModified() {
	h := x.w.Header()
	delete(h, "Content-Length")
	delete(h, "Content-Range") // of a 206 that was fetched; a 304 has no part (RFC 9110 section 14.4)
	if tag, other := cache.NotModifiedTag(x.r, h); other {
		h["Etag"] = []string{tag}
	}
	x.writeHeader(http.StatusNotModified)
}

// stream copies a body to the visitor. With flush each part leaves as it comes:
// a body without a length may be a stream of events.
func (x *exchange) stream(body io.Reader, flush bool) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	control := http.NewResponseController(x.w)
	for {
		n, err := body.Read(buf[:])
		if n > 0 && !x.write(buf[:n]) {
			return
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			x.abort()
		}
		if flush {
			if control.Flush() != nil {
				x.cancel(outcome.ClientGone)
				return
			}
		}
	}
}

// copyBuffer is large because HTTP/3 pays per Write: 16 KiB cost a quarter more
// CPU than one Write of a mebibyte.
const copyBuffer = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// abort cuts the answer off. A truncated body must never look complete: the
// panic makes the server reset the stream, or close the connection.
func (x *exchange) abort() {
	if x.r.Context().Err() != nil {
		x.cancel(outcome.ClientGone)
	} else {
		x.outcome, x.reason = outcome.Failed, outcome.Aborted
	}
	panic(http.ErrAbortHandler)
}

// refuse answers a request that was not let in.
func (x *exchange) refuse(why outcome.Reason) {
	x.outcome, x.reason = outcome.Refused, why
	status := refusals[why]
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		x.retryLater()
	}
	if why == outcome.MethodNotAllowed {
		// RFC 9110 section 15.5.6: it must say which methods are.
		x.w.Header()["Allow"] = []string{x.s.settings.Load().sites.allowed(x.r, x.path)}
	}
	if x.r.ProtoMajor == 1 && status < 500 && x.r.Body != http.NoBody {
		// RFC 9112 section 8: where the next request begins may not be known. Behind a
		// broken trailer the server would look for it at once.
		x.w.Header()["Connection"] = []string{"close"}
	}
	x.plain(status)
}

var refusals = map[outcome.Reason]int{
	outcome.NoRoute:          http.StatusNotFound,
	outcome.UnknownHost:      http.StatusMisdirectedRequest,
	outcome.MethodNotAllowed: http.StatusMethodNotAllowed,
	outcome.UnknownProtocol:  http.StatusNotImplemented, // RFC 9220 section 3
	outcome.BadRequest:       http.StatusBadRequest,
	outcome.HeaderTooLarge:   http.StatusRequestHeaderFieldsTooLarge,
	outcome.BodyTooLarge:     http.StatusRequestEntityTooLarge,
	outcome.ReadTimeout:      http.StatusRequestTimeout,
	outcome.TooManyRequests:  http.StatusTooManyRequests,
	outcome.TooEarly:         http.StatusTooEarly,
	outcome.OnlyIfCached:     http.StatusGatewayTimeout, // RFC 9111 section 5.2.1.7
	outcome.Loop:             http.StatusLoopDetected,
}

// shed answers a request that nothing could serve.
func (x *exchange) shed(why outcome.Reason) {
	x.outcome, x.reason = outcome.Shed, why
	x.retryLater()
	x.plain(http.StatusServiceUnavailable)
}

// wait answers a visitor who has to wait. The status is 503 and not 200: to a
// crawler, a monitor or a cache the page is not what was asked for. Browsers show
// it all the same, and load it again as Refresh says.
func (x *exchange) wait(rt *route, why outcome.Reason) {
	x.outcome, x.reason = outcome.Waiting, why
	n := rt.room.Wait(&x.guest)
	h := x.w.Header()
	h["Cache-Control"] = []string{"no-store"}
	h["X-Request-Id"] = []string{x.requestID()}
	h["Retry-After"] = []string{strconv.Itoa(n.Seconds())}
	x.expose(h)
	var text []byte
	if kind := noticeType(x.r.Header); kind != "" {
		h["Content-Type"] = []string{kind}
		text = n.JSON(http.StatusServiceUnavailable, x.id, x.exposedReason())
	} else {
		h["Refresh"] = h["Retry-After"]
		h["Content-Type"] = []string{"text/html; charset=utf-8"}
		if rt.waits.page == waiting.OwnPage {
			h["Content-Security-Policy"] = []string{"default-src 'none'; style-src 'unsafe-inline'"}
		}
		text = rt.waits.page.Render(&n, x.r.Header.Get("Accept-Language"), x.id)
	}
	if n.Ticket != "" {
		x.hand(h, rt.room.ticketCookie, n.Ticket, waiting.TicketLife)
	}
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	x.writeHeader(http.StatusServiceUnavailable)
	x.write(text)
}

// purged answers a request to purge that was done. Where the disk could not write
// that down, it may have what was purged after a restart.
func (x *exchange) purged(entries int, unwritten error) {
	x.outcome, x.reason = outcome.Local, outcome.Purged
	h := x.w.Header()
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Type"] = []string{"application/json"}
	x.expose(h)
	status := "ok"
	if unwritten != nil {
		status = "not-on-disk"
	}
	text := []byte(`{"status":"` + status + `","purged":` + strconv.Itoa(entries) + "}\n")
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	x.writeHeader(http.StatusOK)
	x.write(text)
}

// moved answers a request of plain HTTP.
func (x *exchange) moved(location string) {
	x.outcome, x.reason = outcome.Local, outcome.Redirect
	h := x.w.Header()
	h["Location"] = []string{location}
	x.expose(h)
	// RFC 9110 section 15.4.9: 308 keeps the method and the body. Clients of old
	// know only 301, which does the same for GET and HEAD.
	status := http.StatusPermanentRedirect
	if x.r.Method == http.MethodGet || x.r.Method == http.MethodHead {
		status = http.StatusMovedPermanently
	}
	x.writeHeader(status)
}

// fail answers a request that was tried and came to nothing.
func (x *exchange) fail(why outcome.Reason) {
	x.outcome, x.reason = outcome.Failed, why
	if why == outcome.OriginTimeout || why == outcome.FunctionTimeout {
		x.plain(http.StatusGatewayTimeout)
		return
	}
	x.plain(http.StatusBadGateway)
}

// cancel ends an exchange whose visitor has left. 499 stands in the log only.
func (x *exchange) cancel(why outcome.Reason) {
	x.outcome, x.reason = outcome.Canceled, why
	if x.status == 0 {
		x.status = 499
		// To return would say 200 to a visitor who has only stopped sending.
		panic(http.ErrAbortHandler)
	}
}

// retryLater spreads those who are sent away, so that they do not come back as
// one crowd.
func (x *exchange) retryLater() {
	x.w.Header()["Retry-After"] = []string{strconv.Itoa(2 + rand.IntN(7))}
}

// plain answers with a status and its name.
func (x *exchange) plain(status int) {
	h := x.w.Header()
	h["Cache-Control"] = []string{"no-store"}
	h["X-Request-Id"] = []string{x.requestID()} // what a visitor can tell of it
	x.expose(h)
	if kind := proxyErrors[x.reason]; kind != "" {
		h["Proxy-Status"] = []string{"spillway; error=" + kind}
	}
	text, contentType := x.errorText(status)
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	x.writeHeader(status)
	if x.r.Method != http.MethodHead {
		x.write(text)
	}
}

// errorText is the page for an error: the route's own, the node's, or its name.
func (x *exchange) errorText(status int) (text []byte, contentType []string) {
	var page *errorPage
	if x.route != nil {
		page = x.route.errorPages.find(status)
	}
	if page == nil {
		page = x.s.settings.Load().errorPages.find(status)
	}
	if page != nil {
		return page.text(x, status), page.contentType
	}
	return []byte(strconv.Itoa(status) + " " + http.StatusText(status) + "\n"), plainText
}

var plainText = []string{"text/plain; charset=utf-8"}

// proxyErrors are the words of RFC 9209 section 2.3 for what went wrong between
// the node and the origin or function.
var proxyErrors = map[outcome.Reason]string{
	outcome.OriginSaturated:     "connection_limit_reached",
	outcome.OriginDown:          "destination_unavailable",
	outcome.OriginFailed:        "http_response_incomplete",
	outcome.OriginTimeout:       "http_response_timeout",
	outcome.OriginThrottled:     "destination_unavailable",
	outcome.FunctionBusy:        "connection_limit_reached",
	outcome.SharedBusy:          "connection_limit_reached",
	outcome.FunctionThrottled:   "destination_unavailable",
	outcome.FunctionUnavailable: "destination_unavailable",
	outcome.FunctionTimeout:     "http_response_timeout",
	outcome.Loop:                "proxy_loop_detected",
}

// expose sets the Spillway field: an item of RFC 9651 with the reason as its
// parameter.
func (x *exchange) expose(h http.Header) {
	switch x.s.settings.Load().expose {
	case "outcome":
		h["Spillway"] = exposed[x.outcome]
	case "full":
		value := string(x.outcome)
		if x.reason != outcome.None {
			value += "; reason=" + string(x.reason)
		}
		h["Spillway"] = []string{value}
		h["X-Request-Id"] = []string{x.requestID()}
	}
}

// exposedReason is the reason, if clients may know it.
func (x *exchange) exposedReason() string {
	if x.s.settings.Load().expose != "full" {
		return ""
	}
	return string(x.reason)
}

// exposed holds the field's values, so that a hit makes none.
var exposed = func() map[outcome.Outcome][]string {
	m := map[outcome.Outcome][]string{}
	for _, o := range outcome.All {
		m[o] = []string{string(o)}
	}
	return m
}()

// switchProtocols answers that the WebSocket is open, and returns the visitor's
// side of it. h is the header of the origin's answer.
func (x *exchange) switchProtocols(h http.Header) (tunnelEnd, error) {
	own := x.w.Header()
	copyHeader(own, h)
	x.expose(own)
	control := http.NewResponseController(x.w)
	if x.connect != nil {
		delete(own, "Upgrade")
		delete(own, "Sec-Websocket-Accept") // RFC 8441 section 5: not needed here
		patient(x.w, x.s.settings.Load().tunnel)
		x.writeHeader(http.StatusOK)
		return &streamEnd{x.connect.body, x.w, control}, control.Flush()
	}
	conn, buf, err := control.Hijack()
	if err != nil {
		return nil, err
	}
	x.status = http.StatusSwitchingProtocols
	conn.SetDeadline(time.Time{}) // the server's own are for requests
	own["Connection"] = []string{"Upgrade"}
	head := &http.Response{StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Header: own}
	end := &connEnd{buf.Reader, conn}
	if err := head.Write(conn); err != nil {
		end.cut()
		return nil, err
	}
	return end, nil
}

func (x *exchange) writeHeader(status int) {
	x.status = status
	x.w.WriteHeader(status)
}

// write sends a part of the body and reports whether the visitor is still
// there.
func (x *exchange) write(b []byte) bool {
	n, err := x.w.Write(b)
	x.bytes += int64(n)
	if err == nil || errors.Is(err, http.ErrBodyNotAllowed) {
		return true
	}
	x.cancel(gone(err))
	return false
}

// gone says why a visitor did not take what was written.
func gone(err error) outcome.Reason {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return outcome.WriteTimeout
	}
	return outcome.ClientGone
}

// hideTags takes out what the origin says to this cache alone. Surrogate-Control
// stays: the node does not obey it, so it is for somebody in front.
func (x *exchange) hideTags(h http.Header) {
	if x.s.settings.Load().showTags {
		return
	}
	delete(h, "Surrogate-Key")
	delete(h, "Cache-Tag")
}

// copyHeader shares the value slices: both sides only read them. What is for the
// node's own cache goes no further.
func copyHeader(to, from http.Header) {
	maps.Copy(to, from)
	delete(to, cache.OwnControl)
}
