package cache

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

// renewalKey tells the marks of keys that are not to be renewed for a moment from
// those of keys that are not shared.
const renewalKey = 0xd1b54a32d192ed03

// Renew fetches the entry anew with which a lookup has answered
// (StaleWhileRevalidate), as r would, and returns at once. It does nothing while
// somebody fetches the same, for a second after that has failed, and where the
// background has no place left: the next request tries again. If there is to be a
// fetch, prepare is called at once for what does it, which is called as Fetch calls it.
func (c *Cache) Renew(r *http.Request, found *Result, prepare func() Func) {
	if found.control.noStore { // RFC 9111 section 5.2.1.5: its answer could not be stored
		return
	}
	if found.slices != nil {
		r = found.slices.request(r, found.Entry.part.spans[0].first)
	}
	was := *found
	ctx, f := c.departRenewal(r, &was, time.Now())
	if f == nil {
		return
	}
	fetch := working(prepare())
	go func() {
		defer c.arrive(f)
		defer was.Release()
		c.fly(ctx, f, f.leader, &was, fetch)
		c.noteRenewal(f, was.Entry)
	}()
}

// renewal is the request for all of the entry that answers r. What r says to caches, such
// as only-if-cached, concerns its own answer.
func renewal(r *http.Request, e *Entry) *http.Request {
	out := new(http.Request)
	*out = *r
	out.Method, out.Body, out.ContentLength, out.TransferEncoding = http.MethodGet, http.NoBody, 0, nil
	out.Header = maps.Clone(r.Header)
	for _, name := range [...]string{"Cache-Control", "Pragma"} {
		if !slices.ContainsFunc(e.vary, func(f nominated) bool { return f.name == name }) {
			delete(out.Header, name)
		}
	}
	if e.part == nil { // all of it has expired, not only what r asks for
		for _, name := range rangeFields {
			delete(out.Header, name)
		}
	}
	return out
}

// departRenewal begins a flight that nobody waits for, yet. It returns nil if there
// is to be none. Else what was found is replaced by what there is, pinned for the
// flight.
func (c *Cache) departRenewal(r *http.Request, found *Result, now time.Time) (context.Context, *flight) {
	was, key := found.Entry, found.target.hash // of a GET for all of it
	if was.part != nil {
		key = c.flightKey(&found.target, renewal(r, was))
	}
	sh := c.flights.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g := sh.groups[key]
	if sh.marks.has(key^renewalKey, now) || g != nil && (!g.target.equal(&found.target) || c.underWay(g, r)) {
		return nil, nil
	}
	e, _ := c.usable(&found.target, r, found.Policy)
	if e == nil || e.TTL(now) > 0 {
		e.release()
		return nil, nil // renewed or purged between the lookup and this moment
	}
	ctx, ok := c.behind.begin()
	if !ok {
		e.release()
		return nil, nil
	}
	found.Entry, found.partial, found.recoded = e, nil, nil
	f := c.depart(sh, key, renewal(r, was), found)
	ctx, f.cancel = context.WithCancel(ctx)
	f.waiting, f.leaderLeft, f.detached, f.release = 0, true, true, c.behind.end
	return ctx, f
}

// underWay reports whether a flight of the group brings what answers a request.
func (c *Cache) underWay(g *group, r *http.Request) bool {
	epoch := c.flights.epoch(g.target.hash).Load()
	for _, f := range g.flights {
		switch {
		case f.abandoned || f.epoch != epoch:
		case f.settled && f.landing.verdict.entry.mayAnswer(r), !f.settled && matches(nominateAgain(g.vary, f.leader.Header), r.Header):
			return true
		}
	}
	return false
}

// working is fetch, with an answer that says that the server cannot answer now taken
// for none, so that it does not replace what there is (RFC 9111 section 4.3.3).
func working(fetch Func) Func {
	return func(ctx context.Context, r *http.Request) (*http.Response, error) {
		resp, err := fetch(ctx, r)
		if err == nil && failing(resp.StatusCode) {
			resp.Body.Close()
			return nil, fmt.Errorf("revalidate %s: the server answers %d", r.URL.Path, resp.StatusCode)
		}
		return resp, err
	}
}

// noteRenewal draws the consequences of a flight that has brought an entry's
// successor, or not.
func (c *Cache) noteRenewal(f *flight, was *Entry) {
	l := &f.landing
	switch {
	case f.kept:
		c.counts.renewed.Add(1)
		return
	case l.err != nil, l.panicked != nil, l.stored && !l.fill.outgrown(), l.verdict.why == whyMemory, l.verdict.why == whySetCookie,
		aboutClient(l.fwdStatus):
		// None came, or was cut off, or what speaks against keeping it says nothing
		// about the entry: a visitor who is not let in must not end what answers others.
		// That it MAY be replaced (RFC 9111 section 4.3.3) binds nobody, and its window
		// (RFC 5861 section 3) ends as before.
		sh := c.flights.shard(f.key)
		sh.mu.Lock()
		sh.marks.add(f.key^renewalKey, time.Now().Add(failingFor))
		sh.mu.Unlock()
	default:
		// Another answer has taken its place that may not be stored (RFC 9111 section
		// 4.3.3).
		c.outdate(&f.target, was)
	}
	c.counts.unrenewed.Add(1)
}

// waitsBriefly reports whether a request waits for a fresh answer no longer than
// Config.StaleWait: the entry may answer when there is an error, and the request does
// not insist on validation.
func (c *Cache) waitsBriefly(r *http.Request, found *Result) bool {
	return c.config.StaleWait > 0 && found.State == Stale && !found.control.noCache && found.StaleIfError(time.Now(), r)
}

// lateness returns a channel that is closed when a request has waited long enough for
// a fresh answer, nil if it waits for any. stop must be called.
func (c *Cache) lateness(r *http.Request, found *Result) (late chan struct{}, stop func() bool) {
	if !c.waitsBriefly(r, found) {
		return nil, func() bool { return true }
	}
	late = make(chan struct{})
	return late, time.AfterFunc(c.config.StaleWait, func() { close(late) }).Stop
}

// leaveBehind is for a request that has waited long enough. The fetch goes on without
// it, if the background has a place for it. It returns false if the header has come at
// this very moment.
func (c *Cache) leaveBehind(f *flight, leader bool) bool {
	sh := c.flights.shard(f.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if f.settled {
		return false
	}
	f.late.Store(true)
	f.leaderLeft = f.leaderLeft || leader
	if f.waiting--; f.waiting == 0 && !f.detached && !c.detach(f) {
		c.abandon(sh, f)
	}
	return true
}

// solo fetches for one request, whom nobody joins.
func (c *Cache) solo(ctx context.Context, r *http.Request, found *Result, fetch Func, late <-chan struct{}) (*Response, error) {
	if late == nil {
		return c.alone(ctx, r, found, fetch)
	}
	// It may have to go on without the request: a flight does, and this one is on no
	// list.
	t := &found.target
	f := &flight{
		key: c.flightKey(t, r), target: t.clone(), leader: r, waiting: 1,
		epoch: c.flights.epoch(t.hash).Load(), decided: make(chan struct{}),
	}
	return c.lead(ctx, f, r, found, fetch, late)
}
