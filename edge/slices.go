package edge

import (
	"context"
	"net/http"
	"sync/atomic"
)

// climbers find places for the requests that the answer to one visitor is made of.
// Until the answer begins they are rungs of one ladder, whose end is the exchange's
// outcome. What a large object's later slices need is asked for while the answer is sent:
// each takes the way of any request, on a ladder of its own, which nobody reads.
type climbers struct {
	first    *ladder
	answered atomic.Bool // what is asked for from now on is for a later slice
}

// climb is ladder.climb.
func (c *climbers) climb(ctx context.Context, r *http.Request) (*http.Response, error) {
	if !c.answered.Load() {
		return c.first.climb(ctx, r)
	}
	l := c.first
	again := &ladder{
		route: l.route, hedges: l.hedges, visitor: l.visitor, proto: l.proto, id: l.id,
		given: l.given, guest: l.guest, priority: l.priority, priorityField: l.priorityField, lottery: l.lottery,
	}
	return again.climb(ctx, r)
}
