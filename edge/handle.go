package edge

import (
	"errors"
	"net/http"

	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
)

// ServeHTTP is the path of every request, whatever protocol brought it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.begin(w, r)
	defer x.end()
	r = x.r

	// 1 match the site and route
	settings := s.settings.Load()
	x.visitor = newVisitor(r, settings.proxies)
	if port, plain := plainPort(r); plain {
		x.redirect(settings.sites, port)
		return
	}
	if why := malformed(r, x.path); why != outcome.None {
		x.refuse(why)
		return
	}
	rt, why := settings.sites.match(r, x.path)
	x.route = rt
	if x.asksToPurge(rt, why) {
		x.purge()
		return
	}
	if why != outcome.None {
		x.refuse(why)
		return
	}

	var ignored bool
	if x.priority, ignored = x.takePriority(settings.priorityField, rt); ignored {
		s.counts.prioritiesIgnored.Add(1)
	}

	// 2 enter
	if why := s.admit.Enter(x.visitor.addr); why != outcome.None {
		x.refuse(why)
		return
	}
	defer s.admit.Leave(x.visitor.addr)

	x.takeTickets(rt)
	if opensSocket(r) {
		x.socket(rt)
		return
	}

	// 3 cache lookup
	if x.lookup(rt); x.found.State == cache.Fresh {
		rt.hit()
		x.entry(outcome.Hit, outcome.Fresh)
		return
	}
	// RFC 8470 section 5.1: early data may be a replay. What the node itself has
	// stored can be said twice; an origin must not be asked twice.
	if err := awaitHandshake(r); err != nil {
		x.refuse(outcome.TooEarly)
		return
	}
	if x.found.State == cache.StaleWhileRevalidate {
		rt.hit()
		x.renew(rt)
		x.entry(outcome.Stale, outcome.Revalidating)
		return
	}

	// 4 wait behind others or collapse, 5 decide, 6 ask the origin or a function, 7 store
	x.fetch(rt)
}

// lookup asks the cache, unless the route does not use it.
func (x *exchange) lookup(rt *route) {
	x.found.Policy = rt.caching
	if !rt.cached {
		x.found.State, x.found.Why = cache.Bypass, cache.FwdBypass
		return
	}
	x.looked = true
	x.s.cache.Find(x.r, x.start, &x.found)
}

// fetch answers a request that the cache could not answer.
func (x *exchange) fetch(rt *route) {
	found := &x.found
	if found.State != cache.FreshSlices {
		x.enterRoom(rt)
	}
	given := x.given(rt)
	if found.State != cache.FreshSlices && x.sendsBack(rt, &given) {
		return
	}
	body, why := x.readBody(rt)
	switch why {
	case outcome.None:
	case outcome.ClientGone:
		x.cancel(why)
		return
	default:
		x.refuse(why)
		return
	}
	l := x.ladder(rt, given, body)
	l.interim.open(x.w, x.r)
	defer l.interim.close() // also on a panic: the writer is not ours any more then
	x.hint(rt, &l.interim)

	ctx := x.r.Context()
	each := climbers{first: l}
	resp, err := x.s.cache.Fetch(ctx, x.r, *found, each.climb)
	each.answered.Store(true)
	if goesAlone(err, &given) && ctx.Err() == nil {
		resp, err = x.s.cache.Fetch(ctx, x.r, cache.Result{State: cache.Bypass, Why: found.Why}, l.climb)
	}
	l.interim.close()
	if err == nil && resp.Hit {
		rt.hit()
		x.outcome, x.reason = outcome.Hit, outcome.Fresh
		x.response(resp, resp.CacheStatus(found))
		return
	}
	l.unwanted.Store(errors.Is(err, cache.ErrLate))
	if returned(err) {
		x.course = &l.course
	}
	if err != nil {
		x.giveUp(err)
		return
	}
	x.outcome, x.reason, x.backend = l.outcome, l.reason, l.backend
	if resp.Joined {
		rt.join()
		x.outcome, x.reason, x.backend = outcome.Collapsed, outcome.None, ""
	} else if resp.Revalidated {
		x.reason = outcome.Revalidated
	}
	x.response(resp, resp.CacheStatus(found))
}

// goesAlone reports whether a request that waited for another's fetch in vain
// goes down the ladder by itself. What failed for the others would fail again,
// and be paid for again; but they may have been turned away for what they are. Where
// they were answered by an expired entry, it answers this request as well: a crowd
// must not ask one by one an origin that is full.
func goesAlone(err error, given *overflow.Facts) bool {
	if errors.Is(err, cache.ErrCollapseFull) || errors.Is(err, cache.ErrCollapseTimeout) {
		return true
	}
	if !errors.Is(err, cache.ErrLeaderFailed) {
		return false
	}
	if e := (*ending)(nil); errors.As(err, &e) {
		return e.outcome != outcome.Failed && !(e.outcome == outcome.Stale && given.MayBeStale(e.reason))
	}
	return true
}

// giveUp answers a request for which no place gave a response.
func (x *exchange) giveUp(err error) {
	var e *ending
	switch {
	case x.r.Context().Err() != nil:
		x.cancel(outcome.ClientGone)
	case errors.Is(err, cache.ErrOnlyIfCached):
		x.refuse(outcome.OnlyIfCached)
	case errors.Is(err, cache.ErrLate):
		x.entry(outcome.Stale, outcome.OriginSlow)
	case !errors.As(err, &e):
		x.fail(outcome.OriginFailed)
	case e.outcome == outcome.Stale && x.found.Entry != nil:
		x.entry(outcome.Stale, e.reason)
	case e.outcome == outcome.Waiting && x.route.waits != nil:
		x.wait(x.route, e.reason)
	case e.outcome == outcome.Shed || e.outcome == outcome.Stale:
		x.shed(e.reason)
	case e.outcome == outcome.Refused:
		x.refuse(e.reason)
	case e.outcome == outcome.Canceled:
		x.cancel(e.reason)
	default:
		x.fail(e.reason)
	}
}
