package cache

import (
	"context"
	"net/http"
	"time"
)

// A reply is what a fetch brought.
type reply struct {
	answer
	resp *http.Response // nil when the entry answers
	// entry is the stale entry that a 304 has confirmed; answer then has its
	// status and updated header.
	entry     *Entry
	fwdStatus int
}

// ask sends out, which is r as it is forwarded. With the stale entry's validators
// in it a 304 may come back; one that speaks of another entry, or after which a part
// is not all that is wanted, is no answer to what was asked, and then it asks again
// without conditions.
func ask(ctx context.Context, r, out *http.Request, stale *Entry, fetch Func) (reply, error) {
	requested := time.Now()
	resp, err := fetch(ctx, out.WithContext(ctx))
	if err == nil && resp.StatusCode == http.StatusNotModified && stale != nil && stale.validators() {
		resp.Body.Close()
		if validates(stale, resp.Header) {
			told := answer{header: resp.Header, requested: requested, received: time.Now()}
			if a := confirmed(stale, &told); stale.holdsAs(a.header, r) {
				return reply{answer: a, entry: stale, fwdStatus: http.StatusNotModified}, nil
			}
		}
		requested = time.Now()
		resp, err = fetch(ctx, forwarded(r, nil).WithContext(ctx))
	}
	if err != nil {
		return reply{}, err
	}
	return reply{
		answer: answer{
			status: resp.StatusCode, header: resp.Header, length: resp.ContentLength,
			requested: requested, received: time.Now(),
		},
		resp: resp, fwdStatus: resp.StatusCode,
	}, nil
}

// confirmed is the answer that an entry is, once its server has told more of it.
func confirmed(e *Entry, told *answer) answer {
	return answer{
		status: e.status, header: updated(e, told.header), length: e.length(),
		requested: told.requested, received: told.received, confirmed: true,
	}
}

// fly runs a flight from its fetch to the end of its body.
func (c *Cache) fly(ctx context.Context, f *flight, r *http.Request, found *Result, fetch Func) {
	a, panicked, err := askSafely(ctx, r, found, fetch)
	if err != nil || panicked != nil {
		c.land(f, func(int, bool) landing { return landing{err: err, panicked: panicked} })
		f.cancel()
		return
	}
	c.updateByHead(&f.target, r, found, &a, f.epoch)
	l := c.weigh(r, &a, found)
	switch {
	case a.entry != nil || l.shared && r.Method == http.MethodHead:
		c.landWhole(f, a, l)
	case l.shared || l.stored:
		c.landFill(f, a, l)
	default:
		c.landDirect(f, a, l)
	}
}

// weigh applies the rules to a reply, those of the route's policy included.
func (c *Cache) weigh(r *http.Request, a *reply, found *Result) landing {
	a.policy, a.replaces, a.cookies = found.Policy, found.Entry != nil, c.config.ShareCookies
	v := judge(r, a.answer, c.config.MaxObject)
	c.weighSize(r, a, found, &v)
	store := v.store && c.store.fits(v.size(a.length))
	if v.store && !store {
		v.why = whyMemory
	}
	return landing{
		verdict: v, shared: v.share, stored: store, length: a.length,
		revalidated: a.entry != nil, fwdStatus: a.fwdStatus, aged: len(a.header["Age"]) > 0,
		variation: parseVariation(a.header["No-Vary-Search"]),
	}
}

// askSafely keeps a panic of fetch from ending the process: it happens in a
// goroutine that no server watches over. The leader's Fetch panics in its place.
func askSafely(ctx context.Context, r *http.Request, found *Result, fetch Func) (a reply, panicked any, err error) {
	defer func() { panicked = recover() }()
	a, err = askFor(ctx, r, forwarded(r, found.Entry), found, fetch)
	return a, nil, err
}

// landWhole lands with an answer that is complete: a confirmed entry, or the
// header that a HEAD asks for.
func (c *Cache) landWhole(f *flight, a reply, l landing) {
	defer f.cancel()
	if a.entry == nil {
		a.resp.Body.Close()
		l.entry, l.stored = l.verdict.entry, false
	} else {
		l.entry, l.stored = c.confirm(&f.target, f.leader, a.entry, &l, f.epoch)
		f.kept = l.stored
	}
	c.markUnshared(f.key, &l)
	c.land(f, func(int, bool) landing { return l })
}

// confirm stores an entry that a 304 has updated. If its new header forbids
// that, the old one goes as well.
func (c *Cache) confirm(t *target, r *http.Request, stale *Entry, l *landing, epoch uint32) (*Entry, bool) {
	e := l.verdict.entry.confirmed(stale)
	stored := l.stored && c.keep(t, e, r, epoch)
	if l.stored && !stored {
		l.verdict.why = whyInvalidated
	}
	if !stored && l.verdict.why != whySetCookie { // a cookie is for the visitor, and says nothing about the entry
		c.outdate(t, stale)
	}
	return e, stored
}

// landFill lands with an answer whose body follows, and brings that in. Without
// memory for it the answer is the leader's alone.
func (c *Cache) landFill(f *flight, a reply, l landing) {
	c.markUnshared(f.key, &l)
	unread := false
	c.land(f, func(waiting int, leader bool) landing {
		if !l.shared {
			waiting = 0
			if leader {
				waiting = 1
			}
		}
		if l.fill = newFill(a.resp.Body, a.length, c.config.MaxObject, &c.fills, l.stored, waiting); l.fill == nil {
			l.shared, l.stored, l.verdict.why = false, false, whyMemory
			return c.direct(f, a, l, leader)
		}
		l.fill.cancel = f.cancel
		unread = waiting == 0 && !l.stored
		return l
	})
	if l.fill == nil {
		return
	}
	defer f.cancel()
	if unread {
		f.cancel()
	}
	f.kept = c.bring(&f.target, f.leader, l.fill, l.verdict.entry, f.epoch)
	c.closeFlight(f)
}

// bring pumps a body in and stores the answer when it is complete. Readers see
// the end only after that, so that who comes next finds it.
func (c *Cache) bring(t *target, r *http.Request, fl *fill, e *Entry, epoch uint32) (stored bool) {
	body, err := fl.pump()
	var kept *Entry
	if err == nil && body != nil && fl.keep {
		e := e.kept(r, body)
		kept = c.keepPinned(t, e, r, epoch)
		stored = kept != nil
		if stored && (kept.hold.tight || e.part != nil) { // a part may have been joined to others
			kept.release()
			kept = nil
		}
	}
	if err != nil {
		c.salvage(t, r, fl, e, epoch)
	}
	fl.end(body, kept, err)
	return stored
}

// landDirect lands with an answer for the leader alone. All others are free to
// fetch by themselves.
func (c *Cache) landDirect(f *flight, a reply, l landing) {
	c.markUnshared(f.key, &l)
	c.land(f, func(_ int, leader bool) landing { return c.direct(f, a, l, leader) })
}

func (c *Cache) direct(f *flight, a reply, l landing, leader bool) landing {
	l.direct = a.resp
	if !leader {
		a.resp.Body.Close()
		f.cancel()
	}
	return l
}

func (c *Cache) markUnshared(key uint64, l *landing) {
	if !l.shared {
		c.mark(key, time.Now().Add(markFor(l.fwdStatus)))
	}
}

// keep stores an entry, unless its key has been invalidated since the fetch
// began, or one of its tags purged.
func (c *Cache) keep(t *target, e *Entry, r *http.Request, epoch uint32) bool {
	kept := c.keepPinned(t, e, r, epoch)
	kept.release()
	return kept != nil
}

// keepPinned is keep, and returns the entry as it was stored, pinned, or nil.
func (c *Cache) keepPinned(t *target, e *Entry, r *http.Request, epoch uint32) *Entry {
	key := c.place(t, e)
	if e.part != nil {
		combining := c.flights.combining(key.hash)
		combining.Lock()
		defer combining.Unlock()
		old := c.store.glimpse(key, r)
		defer old.release()
		whole, free := c.merged(old, e)
		defer free()
		if e = whole; e == nil {
			return nil
		}
	}
	return c.keepAt(t, key, e, r, epoch)
}

// keepAt is keepPinned for an entry that answered t, and has its own place.
func (c *Cache) keepAt(t, key *target, e *Entry, r *http.Request, epoch uint32) *Entry {
	valid := func() bool { return c.flights.epoch(t.hash).Load() == epoch && !c.purgedSince(key, e) }
	if !valid() {
		return nil
	}
	c.overtake(key, e)
	kept := c.store.putPinned(key, e, r, valid)
	c.overtake(key, e)
	if kept != nil {
		c.counts.stored.Add(1)
		// A body that a 304 has confirmed is written anew by one of many hits: whoever asks
		// for validation must not have it written each time.
		if kept.hold.again && kept.content == kept.number {
			c.demote(key, kept, time.Now())
		}
	}
	return kept
}

// alone fetches for one request. What may be stored is stored. Without an entry
// to validate the request goes out as it came: the server may answer the
// visitor's own conditions.
func (c *Cache) alone(ctx context.Context, r *http.Request, found *Result, fetch Func) (*Response, error) {
	t := &found.target
	epoch := c.flights.epoch(t.hash).Load()
	out := r
	if found.Entry != nil {
		out = forwarded(r, found.Entry)
	}
	fetching, cancel := context.WithCancel(ctx)
	a, err := askFor(fetching, r, out, found, fetch)
	if err != nil {
		cancel()
		return nil, err
	}
	c.updateByHead(t, r, found, &a, epoch)
	l := c.weigh(r, &a, found)
	switch key := c.flightKey(t, r); {
	case l.shared:
		c.unmark(key)
	case collapsible(r, found):
		c.markUnshared(key, &l) // so that a crowd that goes on never waits again
	}
	if a.entry != nil {
		cancel()
		l.entry, l.stored = c.confirm(t, r, a.entry, &l, epoch)
		return entryResponse(r, l.entry, &l, false), nil
	}
	return c.answerAlone(ctx, &flight{target: *t, leader: r, epoch: epoch, cancel: cancel}, &a, &l), nil
}

// answerAlone answers one request, and stores the answer on its way if it may be.
func (c *Cache) answerAlone(ctx context.Context, f *flight, a *reply, l *landing) *Response {
	if l.stored {
		if l.fill = newFill(a.resp.Body, a.length, c.config.MaxObject, &c.fills, true, 1); l.fill == nil {
			l.verdict.why = whyMemory
		}
	}
	if l.fill == nil {
		return directResponse(a.resp, &directBody{a.resp.Body, f.cancel}, l.verdict.why)
	}
	l.fill.cancel = f.cancel
	resp := sharedResponse(l, false, time.Now())
	resp.Body = l.fill.attach(ctx)
	f.target = f.target.clone()
	go func() {
		defer f.cancel()
		c.bring(&f.target, f.leader, l.fill, l.verdict.entry, f.epoch)
	}()
	return resp
}
