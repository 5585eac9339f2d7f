package edge

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/edge/waiting"
)

// A room is the waiting room of an origin, and the names under which its tickets
// travel. It has one for each origin, because that is what visitors wait for, by
// whatever route.
type room struct {
	*waiting.Room
	ticketCookie, passCookie string
}

// roomTag is how many bytes tell the cookies of an origin from those of others.
const roomTag = 4

// ticketField carries a ticket, and later a pass, for programs without cookies. A
// request that has it asks to wait, whatever it accepts.
const ticketField = "Spillway-Ticket"

// rooms are those of all origins. They outlive reloads, with those who wait.
type rooms struct {
	keys func() [][32]byte
	all  map[string]*room
}

// of returns the rooms of the origins that a configuration needs them for, by
// their names.
func (r rooms) of(configs []SiteConfig, b Backends) map[string]*room {
	needed := map[string]*room{}
	for _, site := range configs {
		for _, rc := range site.Routes {
			if waits(rc, b) {
				needed[rc.Origin] = r.open(rc.Origin)
			}
		}
	}
	return needed
}

func (r rooms) open(origin string) *room {
	if known := r.all[origin]; known != nil {
		return known
	}
	// A cookie's name is not the place for the name of an origin.
	sum := sha256.Sum256([]byte("spillway waiting room " + origin))
	tag := hex.EncodeToString(sum[:roomTag])
	r.all[origin] = &room{waiting.NewRoom(origin, r.keys), ticketCookies + tag, passCookies + tag}
	return r.all[origin]
}

func (r rooms) state() map[string]waiting.State {
	all := map[string]waiting.State{}
	for name, room := range r.all {
		all[name] = room.State()
	}
	return all
}

// waits reports whether page visits of a route may be sent to wait.
func waits(c RouteConfig, b Backends) bool {
	paid := func(function string) bool { return b.WaitUnpaid[function] }
	return c.Waiting != nil || c.Overflow != nil && slices.ContainsFunc(c.Overflow.To, paid)
}

// A waitingRoute is a route whose page visits may be sent to wait.
type waitingRoute struct {
	page *waiting.Page
	pass time.Duration
}

// newWaitingRoute returns nil for a route whose visits never wait.
func newWaitingRoute(c RouteConfig, b Backends) (*waitingRoute, error) {
	if !waits(c, b) {
		return nil, nil
	}
	w := &waitingRoute{page: waiting.OwnPage, pass: waiting.DefaultPass}
	if c.Waiting == nil {
		return w, nil
	}
	w.pass = cmp.Or(c.Waiting.Pass, w.pass)
	if c.Waiting.Page != "" {
		page, err := waiting.ReadPage(c.Waiting.Page)
		if err != nil {
			return nil, fmt.Errorf("waiting.page: %w", err)
		}
		w.page = page
	}
	return w, nil
}

// enterRoom asks the waiting room how the request stands.
func (x *exchange) enterRoom(rt *route) {
	if ask, ok := x.asksRoom(rt); ok {
		x.guest = rt.room.Enter(ask)
	}
}

// asksRoom returns what the waiting room has to know of the request, if it is one
// for it.
func (x *exchange) asksRoom(rt *route) (ask waiting.Ask, ok bool) {
	if rt.room == nil {
		return ask, false
	}
	ask = waiting.Ask{Waits: rt.waits != nil && x.visits(), Ticket: x.ticket, Pass: x.pass}
	if !ask.Waits && !rt.room.Crowded() {
		return ask, false
	}
	if own := x.r.Header.Get(ticketField); own != "" {
		ask.Ticket, ask.Pass = own, own // it is one or the other
	}
	return ask, true
}

// leaveRoom gives up what a guest held who was not served.
func (x *exchange) leaveRoom() {
	if x.route != nil && x.route.room != nil {
		x.route.room.Leave(&x.guest)
	}
}

// The cookies of all rooms begin with these and end with the tag of the origin. The
// prefix makes browsers refuse what others set for the host (RFC 6265bis section
// 4.1.3.2).
const (
	ticketCookies = "__Host-wait-"
	passCookies   = "__Host-pass-"
)

// takeTickets takes what rooms have handed out off a request, whatever route of the
// host it is for. It is nobody else's business, and what varies by Cookie would be
// stored once for each visitor.
func (x *exchange) takeTickets(rt *route) {
	lines := x.r.Header["Cookie"]
	if !slices.ContainsFunc(lines, mayHoldTicket) {
		return
	}
	var others []string
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") { // RFC 6265 section 4.2.1
			pair = strings.Trim(pair, " \t")
			switch name, value, _ := strings.Cut(pair, "="); {
			case rt.room != nil && name == rt.room.ticketCookie:
				x.ticket = value
			case rt.room != nil && name == rt.room.passCookie:
				x.pass = value
			case pair != "" && !isTicket(name):
				others = append(others, pair)
			}
		}
	}
	if delete(x.r.Header, "Cookie"); len(others) > 0 {
		x.r.Header["Cookie"] = []string{strings.Join(others, "; ")}
	}
}

func mayHoldTicket(line string) bool {
	return strings.Contains(line, ticketCookies) || strings.Contains(line, passCookies)
}

// isTicket reports whether a cookie is of a room. Others may begin like it.
func isTicket(cookie string) bool {
	tag, ok := strings.CutPrefix(cookie, ticketCookies)
	if !ok {
		tag, ok = strings.CutPrefix(cookie, passCookies)
	}
	_, err := hex.DecodeString(tag)
	return ok && err == nil && len(tag) == 2*roomTag
}

// visits reports whether a request is one that can wait: for a page, so that
// somebody sees the waiting room, or by a program that says so. Other methods than
// GET would lose what they send.
func (x *exchange) visits() bool {
	if x.r.Method != http.MethodGet || opensSocket(x.r) {
		return false
	}
	if x.r.Header[ticketField] != nil {
		return true
	}
	if mode := x.r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.Contains(x.r.Header.Get("Accept"), "text/html")
}

// sendsBack answers a request that must not overtake those who wait, and reports
// whether it did.
func (x *exchange) sendsBack(rt *route, given *overflow.Facts) bool {
	if !given.Behind {
		return false
	}
	rt.arrivals.noteSentBack(&x.guest)
	d := overflow.Decide(given)
	if d.Place == overflow.Stale {
		x.entry(outcome.Stale, d.Reason)
	} else {
		x.wait(rt, d.Reason)
	}
	return true
}

// noticeType is the media type for programs that wait, empty for people.
func noticeType(h http.Header) string {
	accept := h.Get("Accept")
	switch {
	case strings.Contains(accept, "application/problem+json"):
		return "application/problem+json"
	case strings.Contains(accept, "application/json"), h[ticketField] != nil && !strings.Contains(accept, "text/html"):
		return "application/json"
	}
	return ""
}

// letIn gives a visitor whose turn came the pass, beside the answer.
func (x *exchange) letIn(h http.Header) {
	if x.guest.Standing != waiting.Called {
		return
	}
	life := x.route.waits.pass
	pass := x.route.room.Serve(&x.guest, life)
	if pass == "" {
		return
	}
	x.hand(h, x.route.room.passCookie, pass, life)
	if x.r.Header[ticketField] == nil {
		x.hand(h, x.route.room.ticketCookie, "", -time.Second) // it is used
	}
	// Whatever the answer says of itself, with a pass it is this visitor's alone. What
	// it says to some caches only would count more there (RFC 9213 section 2.2).
	for name := range h {
		if strings.HasSuffix(name, "-Cache-Control") || name == "Surrogate-Control" {
			delete(h, name)
		}
	}
	h["Cache-Control"] = append(slices.Clone(h["Cache-Control"]), "private")
}

// hand gives a ticket or a pass to a visitor: in the field, if that is how it
// asks, else as a cookie.
func (x *exchange) hand(h http.Header, name, value string, life time.Duration) {
	if x.r.Header[ticketField] != nil {
		h[ticketField] = []string{value}
		return
	}
	c := http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life.Seconds()),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	h["Set-Cookie"] = append(slices.Clone(h["Set-Cookie"]), c.String())
}

// strangersShare is the part of the origin's limit that is left, while visitors
// wait, to requests that did not: those that never wait, and those who come when
// all who wait have been called. Not a knob.
const strangersShare = 0.5

// impatience is how long a visitor who was called stands at the door where a
// function would take it. Not a knob.
const impatience = 20 * time.Millisecond

// doorPatience is how long a visitor who was called stands at the door.
func (r *route) doorPatience(patient bool) time.Duration {
	if patient {
		return waiting.Hold
	}
	return cmp.Or(r.queue.Wait, impatience)
}

// waitAtDoor waits for a permit before all who have not waited, and among those
// who have by the order of arrival.
func (l *ladder) waitAtDoor(ctx context.Context, r *http.Request, patient bool) {
	began, patience := time.Now(), l.route.doorPatience(patient)
	leave, stood := l.route.room.Await(ctx, &l.guest, patience)
	if leave == nil {
		l.facts.Waited = outcome.QueueTimeout
		return
	}
	defer leave()
	if l.permit, l.facts.Permit = l.route.origin.Limiter().Acquire(l.route.classOf(r.Method), l.share()); l.facts.Permit {
		if stood {
			l.facts.Waited = outcome.OriginSaturated
		}
		return
	}
	// One stands there at a time, and the queue of the others never keeps it out.
	q := l.bid(r, false)
	q.Wait, q.Length = max(time.Millisecond, patience-time.Since(began)), q.Length+1
	l.noteWait(l.route.origin.Limiter().Wait(ctx, q))
}
