package edge

import (
	"crypto/tls"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/edge/recorder"
	"spillway/origin"
)

// An Inquiry is a request that is not made, but asked about.
type Inquiry struct {
	Method string // empty is GET
	URL    string
	Header http.Header
	// Client is the address at the other end of the connection. The zero value is
	// that of this machine.
	Client netip.Addr
}

// Explain says what would become of a request now. It walks the path as ServeHTTP
// does, with the facts that it would meet, and leaves everything as it is: it takes
// no permit, no money and no place, and the cache does not notice. Its error says
// what is wrong with the inquiry.
func (s *Server) Explain(q Inquiry) (*Explanation, error) {
	r, err := q.request()
	if err != nil {
		return nil, err
	}
	x := &exchange{s: s, r: r, start: time.Now(), path: sentPath(r)}
	defer x.found.Release()
	settings := s.settings.Load()
	x.visitor = newVisitor(r, settings.proxies)
	e := &Explanation{Method: r.Method, URL: q.URL, Client: ClientLook{
		Peer: x.visitor.peer, Visitor: x.visitor.addr, Trusted: x.visitor.trusted, Refused: s.admit.Look(x.visitor.addr),
	}}
	e.Now = x.explainMatch(e, settings)
	if e.Now == nil {
		e.Now, e.Full = x.explainLadder(e)
	} else {
		e.Full = e.Now
	}
	return e, nil
}

// request makes the request that is asked about, as one that came over HTTP/2.
func (q *Inquiry) request() (*http.Request, error) {
	r, err := http.NewRequest(q.Method, q.URL, nil)
	if err != nil {
		return nil, err
	}
	if r.URL.Scheme != "https" && r.URL.Scheme != "http" || r.URL.Host == "" {
		return nil, fmt.Errorf("%q is not a URL such as https://img.example.com/a.jpg", q.URL)
	}
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.RequestURI, r.Body = r.URL.RequestURI(), http.NoBody
	if q.Header != nil {
		r.Header = q.Header.Clone()
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host")
	}
	if length := r.Header.Get("Content-Length"); length != "" {
		if r.ContentLength, err = strconv.ParseInt(length, 10, 64); err != nil || r.ContentLength < 0 {
			return nil, fmt.Errorf("Content-Length: %q is not a length", length)
		}
	}
	if r.URL.Scheme == "https" {
		r.TLS = &tls.ConnectionState{}
	}
	client := q.Client
	if !client.IsValid() {
		client = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	r.RemoteAddr = net.JoinHostPort(client.String(), "0")
	return r, nil
}

// explainMatch is the path down to the route and the admission. It returns the
// steps of a request that comes no further.
func (x *exchange) explainMatch(e *Explanation, settings *settings) []recorder.Step {
	s := settings.sites
	refused := func(why outcome.Reason) []recorder.Step {
		return []recorder.Step{{Outcome: outcome.Refused, Reason: why}}
	}
	if x.r.TLS == nil {
		if _, ok := s.host(hostname(x.r.Host)); !ok {
			e.Hosts = s.names()
			return refused(outcome.UnknownHost)
		}
		return []recorder.Step{{Outcome: outcome.Local, Reason: outcome.Redirect}}
	}
	if why := malformed(x.r, x.path); why != outcome.None {
		return refused(why)
	}
	rt, why := s.match(x.r, x.path)
	e.Passed = s.passed(x.r, x.path, rt)
	if why == outcome.UnknownHost {
		e.Hosts = s.names()
	}
	if x.asksToPurge(rt, why) && x.mayPurge() {
		return []recorder.Step{{Outcome: outcome.Local, Reason: outcome.Purged}}
	} else if x.asksToPurge(rt, why) {
		return refused(outcome.MethodNotAllowed)
	}
	if why != outcome.None {
		return refused(why)
	}
	x.route = rt
	x.priority, _ = x.takePriority(settings.priorityField, rt)
	e.Route = &RouteLook{Route: rt.name, Origin: rt.originName, Spills: rt.policy != nil}
	if e.Client.Refused != outcome.None {
		return refused(e.Client.Refused)
	}
	return nil
}

// explainLadder is the rest of the path.
func (x *exchange) explainLadder(e *Explanation) (now, full []recorder.Step) {
	rt := x.route
	x.takeTickets(rt)
	e.Cache = x.explainCache()
	if e.Cache.State == cache.Fresh || e.Cache.State == cache.FreshSlices {
		hit := []recorder.Step{{Outcome: outcome.Hit, Reason: outcome.Fresh}}
		return hit, hit
	}
	if e.Cache.State == cache.StaleWhileRevalidate {
		stale := []recorder.Step{{Outcome: outcome.Stale, Reason: outcome.Revalidating}}
		return stale, stale
	}
	if ask, ok := x.asksRoom(rt); ok && !opensSocket(x.r) {
		x.guest = rt.room.Look(ask)
	}
	e.Waiting = x.explainRoom()
	e.Origin = x.explainOrigin()
	f := x.foreseen()
	e.Barred = overflow.Ineligible(&f)
	key := x.visitor.key(x.r.Header)
	for _, function := range rt.functions {
		e.Functions = append(e.Functions, function.Look(key))
	}
	switch {
	case x.r.ContentLength > x.s.settings.Load().maxBody:
		now = []recorder.Step{{Outcome: outcome.Refused, Reason: outcome.BodyTooLarge}}
		return now, now
	case x.found.State == cache.Unavailable && !f.Behind:
		now = []recorder.Step{{Outcome: outcome.Refused, Reason: outcome.OnlyIfCached}}
		return now, now
	}
	if e.Cache.Late && !f.Behind {
		stale := []recorder.Step{{Outcome: outcome.Stale, Reason: outcome.OriginSlow}}
		return stale, stale
	}
	now = x.steps(f, false)
	f.Permit = false
	full = x.steps(f, true)
	if e.Cache.Joins && !f.Behind {
		joined := recorder.Step{Outcome: outcome.Collapsed}
		return append([]recorder.Step{joined}, now...), append([]recorder.Step{joined}, full...)
	}
	return now, full
}

// foreseen are the facts that the request would meet on its first step.
func (x *exchange) foreseen() overflow.Facts {
	rt := x.route
	f := x.given(rt)
	f.BodyKept = !origin.Converses(x.r.Header) && x.r.ContentLength <= rt.keeps(x.r)
	f.NoOrigin = rt.down()
	key, share := x.visitor.key(x.r.Header), rt.mayFill(&x.guest)
	for i := range rt.functions {
		f.Functions = append(f.Functions, rt.candidate(i, key))
	}
	f.Late = !f.Called && rt.late(x.r.Method, share)
	f.Permit = f.NoOrigin == outcome.None && !f.Called && !overflow.Early(&f) && !rt.origin.Limiter().Full(share)
	return f
}

// steps tells where the request would go with these facts; full means that no more
// may wait either.
func (x *exchange) steps(f overflow.Facts, full bool) (all []recorder.Step) {
	wait, waits := x.patience(&f)
	waits = waits && (!full || f.Called) // who was called stands at the door
	waited := outcome.QueueTimeout
	if !waits {
		waited = outcome.QueueFull
	}
	for _, d := range overflow.Foretell(f, waited) {
		step := recorder.Step{Outcome: placeOutcomes[d.Place], Reason: d.Reason, Backend: x.route.backendOf(d)}
		if d.Place == overflow.Queue {
			if !waits {
				continue
			}
			step.Seconds = wait.Seconds()
		}
		all = append(all, step)
	}
	return all
}

// patience is how long the request would wait for the origin, and whether it would.
func (x *exchange) patience(f *overflow.Facts) (time.Duration, bool) {
	patient := overflow.Decide(f).Patient
	if f.Called {
		return x.route.doorPatience(patient), true
	}
	l := x.ladder(x.route, *f, requestBody{})
	l.facts = *f
	return x.route.origin.Limiter().Look(l.bid(x.r, patient))
}

// explainCache looks at what the cache has.
func (x *exchange) explainCache() *CacheLook {
	rt, look := x.route, &CacheLook{State: cache.Bypass, Why: cache.FwdBypass, Alone: true}
	x.found = cache.Result{State: cache.Bypass, Why: cache.FwdBypass}
	if !rt.cached || opensSocket(x.r) {
		return look
	}
	g := x.s.cache.Peek(x.r, x.start, rt.caching)
	x.found = g.Result
	*look = CacheLook{Used: true, State: g.State, Why: g.Why, Joins: g.Joins, Late: g.Late, Alone: g.Alone}
	if entry := g.Entry; entry != nil {
		look.Found = g.Look(x.start)
		look.Entry, look.Age, look.TTL = true, entry.Age(x.start).Seconds(), entry.TTL(x.start).Seconds()
		look.Forbids, look.StaleLeft = entry.ForbidsStale(), entry.StaleLeft(x.start, x.r, rt.staleFor).Seconds()
	}
	return look
}

// explainOrigin looks at the origin.
func (x *exchange) explainOrigin() *OriginLook {
	rt := x.route
	s := rt.origin.Limiter().State()
	share := rt.mayFill(&x.guest)
	look := &OriginLook{
		Name: rt.originName, Up: rt.origin.Up(), Paused: s.Paused, Phase: s.Phase.String(),
		Limit: s.Limit, InFlight: s.InFlight,
		Share: share, Room: !rt.origin.Limiter().Full(share), Queued: s.Queued,
		QueueLimit: int(math.Ceil(rt.queue.Length * float64(s.Steady))),
	}
	for _, b := range s.Baselines {
		if b.Class == rt.classOf(x.r.Method) {
			look.Baseline = b.Latency.Seconds()
		}
	}
	return look
}

// explainRoom looks at the waiting room, if the origin has one.
func (x *exchange) explainRoom() *WaitingLook {
	if x.route.room == nil {
		return nil
	}
	s := x.route.room.State()
	return &WaitingLook{
		Waits: x.guest.Waits, Standing: x.guest.Standing.String(), Visitors: s.Visitors, Estimate: s.Estimate,
	}
}

// names are the hosts that there are.
func (s *sites) names() []string {
	names := slices.Collect(maps.Keys(s.exact))
	for parent := range s.wildcards {
		names = append(names, "*."+parent)
	}
	slices.Sort(names)
	return names
}

// passed are the routes of the request's host that come before the one that takes
// it, and why they do not.
func (s *sites) passed(r *http.Request, path string, taken *route) (all []PassedLook) {
	routes, _ := s.host(hostname(r.Host))
	for _, rt := range routes {
		switch {
		case rt == taken:
			return all
		case !rt.path.Match(path):
			all = append(all, PassedLook{rt.name, "path"})
		default:
			all = append(all, PassedLook{rt.name, "method " + strings.Join(rt.methods, ", ")})
		}
	}
	return all
}
