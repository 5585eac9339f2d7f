package cache

import (
	"context"
	"net/http"
	"time"
)

// post sends a POST, which no cache answers, and keeps what came back where RFC
// 9110 section 9.3.3 lets that answer later GET and HEAD requests.
func (c *Cache) post(ctx context.Context, r *http.Request, found *Result, fetch Func) (*Response, error) {
	requested, before := time.Now(), c.target(r)
	epoch := c.flights.epoch(before.hash).Load()
	fetching, cancel := context.WithCancel(ctx)
	resp, err := fetch(fetching, r)
	if err != nil {
		cancel()
		return nil, err
	}
	// A purge or another change meanwhile: the answer may be from before that.
	keys, _ := entryKeys(&before, resp.Header)
	overtaken := c.flights.epoch(before.hash).Load() != epoch || c.purges.since(append(keys, c.path(&before)), before.asked)
	c.invalidate(found.Policy, r, resp.StatusCode, resp.Header)
	a := reply{
		answer: answer{
			status: resp.StatusCode, header: resp.Header, length: resp.ContentLength,
			requested: requested, received: time.Now(),
		},
		resp: resp, fwdStatus: resp.StatusCode,
	}
	asked := *r // as it will be asked for
	asked.Method = http.MethodGet
	// The epoch after the invalidation: the answer is what the change has made.
	c.setTarget(r, found)
	f := &flight{target: found.target, leader: r, epoch: c.flights.epoch(found.target.hash).Load(), cancel: cancel}
	var l landing
	if t := c.target(r); !overtaken && c.describesTarget(r, &t, &a.answer) {
		l = c.weigh(&asked, &a, found)
		l.stored = l.stored && l.verdict.entry.control.explicit(resp.Header)
	}
	return c.answerAlone(ctx, f, &a, &l), nil
}

// describesTarget reports whether the answer to a POST says of itself that it is
// what a GET of the same URI would bring (RFC 9110 sections 8.7 and 9.3.3).
func (c *Cache) describesTarget(r *http.Request, t *target, a *answer) bool {
	locations := a.header["Content-Location"]
	if a.status < 200 || a.status > 299 || len(locations) != 1 || trim(locations[0]) == "" {
		return false
	}
	u, ok := sameOrigin(r, t, locations[0])
	if !ok {
		return false
	}
	described := c.targetOf(t.scheme, t.host, u)
	return described.equal(t)
}
